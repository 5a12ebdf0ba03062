"""Display of modality gaps and the mixture fitted to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _get_feature_names, check_array, check_is_fitted

from .._data.containers import open_rows
from .._data.numeric import with_nan
from .._data.splits import Folds
from .._utils.validation import check_number
from ..multimodal._analysis.gap_mixture import GapMixture
from ..multimodal._analysis.modality_gap import ModalityGapAnalyzer
from ..multimodal._analysis.true_class_scores import gap_scores
from ._style import COLORS, import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

_HATCHES = ("", "//", "..", "xx")  # to distinguish more modalities than there are colours
_POSTERIOR_COLOR = "#D55E00"
_HEADROOM = 1.35  # height of the axes relative to the data, to leave room for the legend
_N_CURVE_POINTS = 1001


class ModalityGapDisplay:
    """Histogram of modality gaps with the fitted mixture and the posterior of imbalance.

    >>> import numpy as np
    >>> from mmestim import ModalityGapDisplay
    >>> rng = np.random.default_rng(0)
    >>> audio = rng.uniform(0.8, 0.9, 1000)
    >>> image = audio - np.where(np.arange(1000) < 700, 0.1, 0.6) + rng.normal(0, 0.03, 1000)
    >>> ModalityGapDisplay.from_scores(np.c_[audio, image], modality_names=["audio", "image"]).ax_.get_title()
    '30 % of 1000 rows are imbalanced (separation 16.5)'

    Create a display with `from_estimator` or `from_scores`. Colours show which modality gives the true class the
    highest score. Curves show the mixture and the posterior of a `ModalityGapAnalyzer`. The parameters are stored as
    attributes, which `plot` draws.

    Parameters
    ----------
    scores : array-like of shape (n_samples, n_modalities)
        Score of each modality for the true class; NaN where the modality is absent.
    analyzer : ModalityGapAnalyzer
        Fitted mixture. Its parameter `signed` determines which gap the horizontal axis shows.
    modality_names : sequence of str
        One name per column of `scores`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram and the components, both as densities: the total area of the bars is 1.
    posterior_ax_ : matplotlib Axes
        Twin of `ax_` with the posterior, from 0 to 1.
    figure_ : matplotlib Figure
        Figure of both axes.
    bars_ : list of matplotlib BarContainer
        Stacked bars of the rows in which each modality has the highest score. The last ones are the bars of the
        rows in which several modalities share the highest score, if there are any.
    component_lines_ : list of matplotlib Line2D
        Weighted densities of the balanced and of the imbalanced component. With `signed`, each side of 0 shows the
        densities of absolute gaps, times the fraction of the rows on that side.
    posterior_line_ : matplotlib Line2D
        Posterior probability that a row with this gap is imbalanced.

    See Also
    --------
    ModalityGapAnalyzer : Fits the mixture.
    gap_scores : Computes the scores of classifiers.
    """

    ax_: Axes
    posterior_ax_: Axes
    figure_: Figure | SubFigure
    bars_: list[BarContainer]
    component_lines_: list[Line2D]
    posterior_line_: Line2D

    def __init__(self, *, scores: ArrayLike, analyzer: ModalityGapAnalyzer, modality_names: Sequence[str]) -> None:
        self.scores = scores
        self.analyzer = analyzer
        self.modality_names = modality_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        cv: Folds | None = None,
        groups: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        n_jobs: int | None = None,
        analyzer: ModalityGapAnalyzer | None = None,
        signed: bool | None = None,
        ax: Axes | None = None,
        bins: int | ArrayLike = 30,
    ) -> Self:
        """Draw the gaps between the scores of the modalities of a classifier.

        Parameters
        ----------
        estimator : classifier of this package, Pipeline that ends in one, search over one, or dict
            Source of the scores, as in `gap_scores`, and of the names of the modalities.
        X : array-like of shape (n_samples, n_features), dict of str to array-like, or None
            Rows to score; `None` if `estimator` is a dict of probabilities.
        y : array-like of shape (n_samples,)
            True classes.
        cv : int, splitter, iterable of splits or None, default=None
            `None` scores with the fitted estimator; pass rows that it was not trained on. Otherwise, clones are
            trained, and each row is scored by a clone that was not trained on it.
        groups : array-like of shape (n_samples,), default=None
            Groups of the rows, for the splitter and the clones; only with `cv`.
        labels : array-like of shape (n_classes,), default=None
            Classes in the order of the columns of given probabilities; `None` uses the sorted classes of y.
        n_jobs : int, default=None
            Number of processes that train clones; `None` uses one, -1 all cores.
        analyzer : ModalityGapAnalyzer, default=None
            Fitted analyzer whose mixture is shown; `None` fits one to the scores.
        signed : bool, default=None
            Whether to show the first score minus the second, as in `from_scores`.
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.
        bins : int or array-like, default=30
            Number of bins, or their edges, as in `plot`.

        Returns
        -------
        ModalityGapDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `gap_scores` or `from_scores` rejects an argument.
        """
        import_pyplot()  # Report a missing package before training clones.
        scores = gap_scores(estimator, X, y, cv=cv, groups=groups, labels=labels, n_jobs=n_jobs)
        names = _modality_names(estimator, X if X is None else open_rows(X, y), refitted=cv is not None)
        return cls.from_scores(scores, analyzer=analyzer, modality_names=names, signed=signed, ax=ax, bins=bins)

    @classmethod
    def from_scores(
        cls,
        scores: ArrayLike,
        *,
        analyzer: ModalityGapAnalyzer | None = None,
        modality_names: Sequence[str] | None = None,
        signed: bool | None = None,
        ax: Axes | None = None,
        bins: int | ArrayLike = 30,
    ) -> Self:
        """Draw the gaps of a table of scores.

        Parameters
        ----------
        scores : array-like of shape (n_samples, n_modalities)
            Score of each modality for the true class, as any finite number; NaN where the modality is absent. Rows
            with fewer than two scores are omitted.
        analyzer : ModalityGapAnalyzer, default=None
            Fitted analyzer whose mixture is shown with the gaps of these rows; `None` fits one to them.
        modality_names : sequence of str, default=None
            One name per column of `scores`. `None` uses the columns of a DataFrame, or else the names that
            `analyzer` was fitted with, or else ``modality 0`` and so on.
        signed : bool, default=None
            Whether to show, for two modalities, the first score minus the second instead of the absolute
            difference. `None` uses the setting of `analyzer`, or False without one.
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.
        bins : int or array-like, default=30
            Number of bins, or their edges, as in `plot`.

        Returns
        -------
        ModalityGapDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no row has two scores, `signed` differs from the setting of `analyzer`, the number of names is not
            that of the columns, or `bins` is invalid.
        """
        if analyzer is None:
            analyzer = ModalityGapAnalyzer(signed=False if signed is None else signed).fit(scores)
        check_is_fitted(analyzer)
        if signed not in (None, analyzer.signed):
            raise ValueError(
                f"signed={signed!r}, but analyzer has signed={analyzer.signed}. Omit signed, or call "
                f"analyzer.set_params(signed={signed!r}); the mixture is the same."
            )
        n_modalities = analyzer.n_features_in_
        if modality_names is None:
            modality_names = _get_feature_names(scores)
        if modality_names is None:
            modality_names = getattr(analyzer, "feature_names_in_", [f"modality {i}" for i in range(n_modalities)])
        if len(modality_names) != n_modalities:
            raise ValueError(
                f"modality_names={list(modality_names)} must be {n_modalities} names, one per column of scores."
            )
        return cls(scores=scores, analyzer=analyzer, modality_names=[*map(str, modality_names)]).plot(ax, bins=bins)

    def plot(self, ax: Axes | None = None, *, bins: int | ArrayLike = 30) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.
        bins : int or array-like, default=30
            Number of bins of equal width from 0 to the largest gap, and, with `signed`, as many below 0; or the
            edges of all bins in increasing order. Rows outside the given edges are not shown, but they count in all
            numbers and scales.

        Returns
        -------
        ModalityGapDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no row has two scores, or `bins` is invalid.
        """
        pyplot = import_pyplot()
        analyzer = self.analyzer
        gaps = analyzer.gap(self.scores)
        has_gap = ~np.isnan(gaps)
        if not has_gap.any():
            raise ValueError("no row of scores has the scores of two modalities, so there is no gap to draw.")
        gaps = gaps[has_gap]
        scores = check_array(with_nan(self.scores), dtype=np.float64, ensure_all_finite="allow-nan")[has_gap]
        mixture = GapMixture(analyzer.means_, analyzer.variances_, analyzer.weights_)
        edges = _bin_edges(bins, gaps, mixture, analyzer.signed)

        self.ax_ = pyplot.subplots()[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        self.posterior_ax_ = self.ax_.twinx()
        bar_heights = self._draw_bars(gaps, _leading_modality(scores), edges)
        densities = self._draw_curves(gaps, mixture, edges)
        self._set_texts(gaps, mixture, n_omitted=int(np.count_nonzero(~has_gap)))
        # Leave room above the data for the legend, on the axes that are drawn last.
        top = max(bar_heights.max(), densities.max())
        self.ax_.set(xlim=(edges[0], edges[-1]), ylim=(0, _HEADROOM * top or None))
        self.posterior_ax_.set(ylim=(0, _HEADROOM), yticks=np.linspace(0, 1, 6))
        handles = [*self.bars_, *self.component_lines_, self.posterior_line_]
        self.posterior_ax_.legend(handles=handles, loc="upper center", ncols=2, fontsize="small")
        return self

    def _draw_bars(self, gaps: np.ndarray, leaders: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Draw stacked bars for each leading modality, and return the heights of the stacks."""
        self.bars_ = []
        heights = np.zeros(len(edges) - 1)
        for number, name in enumerate([*self.modality_names, "tied"]):
            leader_gaps = gaps[leaders == number]
            if number == len(self.modality_names) and not len(leader_gaps):
                continue
            density = np.histogram(leader_gaps, edges)[0] / (len(gaps) * np.diff(edges))
            bars = self.ax_.bar(
                edges[:-1],
                density,
                np.diff(edges),
                heights,
                align="edge",
                edgecolor="white",
                linewidth=0.3,
                label=f"highest: {name} ({len(leader_gaps)} rows)",
                **_bar_style(number, len(self.modality_names)),
            )
            self.bars_.append(bars)
            heights = heights + density
        return heights

    def _draw_curves(self, gaps: np.ndarray, mixture: GapMixture, edges: np.ndarray) -> np.ndarray:
        """Draw the components and the posterior, and return the densities of the components."""
        from matplotlib import patheffects

        x = np.linspace(edges[0], edges[-1], _N_CURVE_POINTS)
        side_fraction = np.where(x < 0, np.mean(gaps < 0), np.mean(gaps >= 0))
        densities = mixture.component_densities(np.abs(x)) * side_fraction
        halo = [patheffects.withStroke(linewidth=3.5, foreground="white")]  # keeps lines visible on dark bars
        self.component_lines_ = [
            self.ax_.plot(x, density, style, color="black", label=f"{component} component", path_effects=halo)[0]
            for component, style, density in zip(["balanced", "imbalanced"], ["--", "-"], densities, strict=True)
        ]
        self.posterior_line_ = self.posterior_ax_.plot(
            x,
            mixture.posterior(np.abs(x))[:, 1],
            "-.",
            color=_POSTERIOR_COLOR,
            path_effects=halo,
            label="posterior (right axis)",
        )[0]
        return densities

    def _set_texts(self, gaps: np.ndarray, mixture: GapMixture, n_omitted: int) -> None:
        """Set the title and the labels of the axes."""
        difference = "largest - smallest"
        if len(self.modality_names) == 2:
            difference = " - ".join(self.modality_names)
            difference = difference if self.analyzer.signed else f"|{difference}|"
        title = f"The gaps of {len(gaps)} rows do not form two groups"
        if self.analyzer.bimodal_ and self.analyzer.n_peaks_ == 2:
            imbalanced_fraction = np.mean(mixture.posterior(np.abs(gaps))[:, 1] > 0.5)
            title = f"{100 * imbalanced_fraction:.0f} % of {len(gaps)} rows are imbalanced"
        title += f" (separation {self.analyzer.separation_:.1f})"
        if n_omitted:
            title += f"\n{n_omitted} row(s) without a gap omitted"
        self.ax_.set(title=title, xlabel=f"Gap of true-class scores: {difference}", ylabel="Density of rows")
        self.posterior_ax_.set_ylabel("Probability of being imbalanced", color=_POSTERIOR_COLOR)


def _bar_style(number: int, n_modalities: int) -> dict[str, Any]:
    """Return the colour and hatching of the bars of one modality, or of the ties, whose number is the last."""
    if number == n_modalities:
        return {"color": "0.75"}
    return {"color": COLORS[number % len(COLORS)], "hatch": _HATCHES[number // len(COLORS) % len(_HATCHES)]}


def _modality_names(estimator: Any, X: Any, refitted: bool) -> list[str] | None:
    """Return the names of the columns of `gap_scores`, or None if they are unknown."""
    if isinstance(estimator, Mapping):
        return list(estimator)
    estimator = getattr(estimator, "estimator" if refitted else "best_estimator_", estimator)  # of a search
    classifier = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    modalities = classifier.modalities if refitted else classifier.modalities_
    if modalities is None and isinstance(X, Mapping):
        modalities = X
    return None if modalities is None else list(modalities)


def _bin_edges(bins: int | ArrayLike, gaps: np.ndarray, mixture: GapMixture, signed: bool) -> np.ndarray:
    """Return the edges of the bins; by default, they cover all gaps and most of the imbalanced component."""
    if np.ndim(bins):
        edges = np.asarray(bins, dtype=np.float64)
        if edges.ndim > 1 or len(edges) < 2 or not (np.diff(edges) > 0).all() or not np.isfinite(edges).all():
            raise ValueError(f"bins={bins!r} must be a number of bins, or two or more edges in increasing order.")
        return edges
    check_number("bins", bins, low=1, integer=True)
    high = max(np.abs(gaps).max(), mixture.means[1] + np.sqrt(mixture.variances[1]))
    edges = np.linspace(0, high, cast(int, bins) + 1)
    return np.concatenate([-edges[:0:-1], edges]) if signed else edges


def _leading_modality(scores: np.ndarray) -> np.ndarray:
    """Return the column of the highest score of each row, or the number of columns where several share it."""
    is_highest = scores == np.nanmax(scores, axis=1, keepdims=True)
    return np.where(is_highest.sum(axis=1) == 1, is_highest.argmax(axis=1), scores.shape[1])
