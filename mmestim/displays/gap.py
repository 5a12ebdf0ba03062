"""A picture of modality gaps and the mixture under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _get_feature_names, check_array, check_is_fitted

from .._utils.validation import check_number
from ..multimodal._analysis.gap_mixture import GapMixture
from ..multimodal._analysis.modality_gap import ModalityGapAnalyzer
from ..multimodal._analysis.true_class_scores import gap_scores
from ._style import COLORS, pyplot_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HATCHES = ("", "//", "..", "xx")  # for more modalities than colours
_POSTERIOR_COLOR = "#D55E00"
_HEADROOM = 1.35
_N_POINTS = 1001  # of each curve


class ModalityGapDisplay:
    """Histogram of modality gaps, with the mixture under them and the posterior of imbalance.

    Made by `from_estimator` or `from_scores`. Colours tell which modality gives the true class the
    higher score, curves what a `ModalityGapAnalyzer` makes of the gaps. Parameters are stored as
    attributes; `plot` draws them.

    Parameters
    ----------
    scores : array-like of shape (n_samples, n_modalities)
        Each modality's score for the true class; NaN where it is absent.
    analyzer : ModalityGapAnalyzer
        The fitted mixture. Its `signed` says which gap the horizontal axis shows.
    modality_names : sequence of str
        One name per column of `scores`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Histogram and components, both as densities: all bars together have the area 1.
    posterior_ax_ : matplotlib Axes
        Twin of `ax_` with the posterior, from 0 to 1.
    figure_ : matplotlib Figure
        Figure of both.
    bars_ : list of matplotlib BarContainer
        Stacked bars of each modality's rows, and at the end, if there are any, of the rows without a
        single highest score.
    component_lines_ : list of matplotlib Line2D
        Weighted densities of the balanced and of the imbalanced component. With `signed`, each side
        of 0 has the densities of absolute gaps, times its share of the rows.
    posterior_line_ : matplotlib Line2D
        Probability that a row with this gap is imbalanced.

    See Also
    --------
    ModalityGapAnalyzer : The mixture and its parameters.
    gap_scores : The scores of classifiers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from mmestim import ModalityGapDisplay
    >>> rng = np.random.default_rng(0)
    >>> audio = rng.uniform(0.8, 0.9, 1000)
    >>> image = audio - np.where(np.arange(1000) < 700, 0.1, 0.6) + rng.normal(0, 0.03, 1000)
    >>> display = ModalityGapDisplay.from_scores(np.c_[audio, image], modality_names=["audio", "image"])
    >>> print(display.ax_.get_title())
    30 % of 1000 rows are imbalanced (separation 16.5)
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, scores: Any, analyzer: ModalityGapAnalyzer, modality_names: Sequence[str]) -> None:
        self.scores = scores
        self.analyzer = analyzer
        self.modality_names = modality_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        cv: Any = None,
        groups: Any = None,
        labels: Any = None,
        n_jobs: int | None = None,
        analyzer: ModalityGapAnalyzer | None = None,
        signed: bool | None = None,
        ax: Axes | None = None,
        bins: Any = 30,
    ) -> Self:
        """Draw the gaps between the modalities of classifiers.

        Parameters
        ----------
        estimator : classifier of this package, Pipeline that ends in one, search over one, or dict
            Whose scores to take, as in `gap_scores`; the names of the modalities come from it.
        X : array-like of shape (n_samples, n_features), dict of str to array-like, or None
            Rows to score; `None` if `estimator` is a dict of probabilities.
        y : array-like of shape (n_samples,)
            True classes.
        cv : int, splitter, iterable of splits or None, default=None
            `None` scores with the fitted estimator: give rows that it was not trained on. Otherwise
            clones are trained, and each row is scored by one that has not seen it.
        groups : array-like of shape (n_samples,), default=None
            Groups for the splitter.
        labels : array-like of shape (n_classes,), default=None
            Classes in the order of the columns of given probabilities; the sorted classes of y if None.
        n_jobs : int, default=None
            Processes that train clones; `None` is one, -1 all cores.
        analyzer : ModalityGapAnalyzer, default=None
            Fitted analyzer whose mixture to show; `None` fits one to the scores.
        signed : bool, default=None
            Whether to show the first score less the second, as in `from_scores`.
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.
        bins : int or array-like, default=30
            Number of bins or their edges, as in `plot`.

        Returns
        -------
        ModalityGapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `gap_scores` or `from_scores` refuses what it is given.
        """
        pyplot_module()  # A missing package should show before clones are trained.
        scores = gap_scores(estimator, X, y, cv=cv, groups=groups, labels=labels, n_jobs=n_jobs)
        names = _names_of(estimator, X, refitted=cv is not None)
        return cls.from_scores(scores, analyzer=analyzer, modality_names=names, signed=signed, ax=ax, bins=bins)

    @classmethod
    def from_scores(
        cls,
        scores: Any,
        *,
        analyzer: ModalityGapAnalyzer | None = None,
        modality_names: Sequence[str] | None = None,
        signed: bool | None = None,
        ax: Axes | None = None,
        bins: Any = 30,
    ) -> Self:
        """Draw the gaps of a table of scores.

        Parameters
        ----------
        scores : array-like of shape (n_samples, n_modalities)
            Each modality's score for the true class, any finite numbers; NaN where it is absent. Rows
            with fewer than two scores are left out.
        analyzer : ModalityGapAnalyzer, default=None
            Fitted analyzer whose mixture to show, with these rows' gaps; `None` fits one to them.
        modality_names : sequence of str, default=None
            One name per column of `scores`. `None` takes the columns of a DataFrame, else the names
            that `analyzer` was fitted with, else ``modality 0`` and so on.
        signed : bool, default=None
            Whether to show, for two modalities, the first score less the second instead of their
            distance. `None` leaves it to `analyzer`, and is False without one.
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.
        bins : int or array-like, default=30
            Number of bins or their edges, as in `plot`.

        Returns
        -------
        ModalityGapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no row has two scores, `signed` is another than that of `analyzer`, there is not one
            name per column, or `bins` are no bins.
        """
        if analyzer is None:
            analyzer = ModalityGapAnalyzer(signed=False if signed is None else signed).fit(scores)
        check_is_fitted(analyzer)
        if signed not in (None, analyzer.signed):
            raise ValueError(
                f"signed={signed!r}, but analyzer has signed={analyzer.signed}. Leave signed out, or call "
                f"analyzer.set_params(signed={signed!r}): the mixture is the same."
            )
        n_modalities = analyzer.n_features_in_
        if modality_names is None:
            modality_names = _get_feature_names(scores)
        if modality_names is None:
            modality_names = getattr(analyzer, "feature_names_in_", [f"modality {i}" for i in range(n_modalities)])
        if len(modality_names) != n_modalities:
            raise ValueError(f"modality_names={list(modality_names)} must be {n_modalities}, one per column of scores.")
        return cls(scores=scores, analyzer=analyzer, modality_names=[*map(str, modality_names)]).plot(ax, bins=bins)

    def plot(self, ax: Axes | None = None, *, bins: Any = 30) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.
        bins : int or array-like, default=30
            Number of bins of equal width from 0 to the largest gap, as many again below 0 with
            `signed`; or the edges of all bins, in increasing order. Rows beyond given edges count in
            every number and scale, but are not in the picture.

        Returns
        -------
        ModalityGapDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no row has two scores, or `bins` are no bins.
        """
        pyplot = pyplot_module()
        from matplotlib import patheffects

        analyzer = self.analyzer
        gaps = analyzer.gap(self.scores)
        has_gap = ~np.isnan(gaps)
        if not has_gap.any():
            raise ValueError("no row of scores has those of two modalities, so that there is no gap to draw.")
        gaps = gaps[has_gap]
        mixture = GapMixture(analyzer.means_, analyzer.variances_, analyzer.weights_)
        edges = _edges(bins, gaps, mixture, analyzer.signed)
        leader = _leader(check_array(self.scores, dtype=np.float64, ensure_all_finite="allow-nan")[has_gap])
        x = np.linspace(edges[0], edges[-1], _N_POINTS)
        share_of_side = np.where(x < 0, np.mean(gaps < 0), np.mean(gaps >= 0))
        densities = mixture.component_densities(np.abs(x)) * share_of_side

        self.ax_ = pyplot.subplots()[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        self.bars_ = []
        top = np.zeros(len(edges) - 1)
        for number, name in enumerate([*self.modality_names, "tied"]):
            rows = gaps[leader == number]
            if number == len(self.modality_names) and not len(rows):
                continue
            heights = np.histogram(rows, edges)[0] / (len(gaps) * np.diff(edges))
            bars = self.ax_.bar(
                edges[:-1],
                heights,
                np.diff(edges),
                top,
                align="edge",
                edgecolor="white",
                linewidth=0.3,
                label=f"highest: {name} ({len(rows)} rows)",
                **_look(number, len(self.modality_names)),
            )
            self.bars_.append(bars)
            top = top + heights
        halo = [patheffects.withStroke(linewidth=3.5, foreground="white")]  # on dark bars too
        self.component_lines_ = [
            self.ax_.plot(x, density, style, color="black", label=f"{component} component", path_effects=halo)[0]
            for component, style, density in zip(["balanced", "imbalanced"], ["--", "-"], densities, strict=True)
        ]
        self.posterior_ax_ = self.ax_.twinx()
        self.posterior_line_ = self.posterior_ax_.plot(
            x,
            mixture.posterior(np.abs(x))[:, 1],
            "-.",
            color=_POSTERIOR_COLOR,
            path_effects=halo,
            label="posterior (right axis)",
        )[0]
        self._describe(gaps, mixture, n_left_out=np.count_nonzero(~has_gap))
        # Room above everything for the legend, on the upper of the two axes.
        self.ax_.set(xlim=(edges[0], edges[-1]), ylim=(0, _HEADROOM * max(top.max(), densities.max()) or None))
        self.posterior_ax_.set(ylim=(0, _HEADROOM), yticks=np.linspace(0, 1, 6))
        handles = [*self.bars_, *self.component_lines_, self.posterior_line_]
        self.posterior_ax_.legend(handles=handles, loc="upper center", ncols=2, fontsize="small")
        return self

    def _describe(self, gaps, mixture, n_left_out):
        """Title and labels of the axes."""
        difference = "largest - smallest"
        if len(self.modality_names) == 2:
            difference = " - ".join(self.modality_names)
            difference = difference if self.analyzer.signed else f"|{difference}|"
        title = f"The gaps of {len(gaps)} rows do not form two groups"
        if self.analyzer.bimodal_ and self.analyzer.n_peaks_ == 2:
            imbalanced = np.mean(mixture.posterior(np.abs(gaps))[:, 1] > 0.5)
            title = f"{100 * imbalanced:.0f} % of {len(gaps)} rows are imbalanced"
        title += f" (separation {self.analyzer.separation_:.1f})"
        if n_left_out:
            title += f"\n{n_left_out} row(s) without a gap left out"
        self.ax_.set(title=title, xlabel=f"Gap of true-class scores: {difference}", ylabel="Density of rows")
        self.posterior_ax_.set_ylabel("Probability of being imbalanced", color=_POSTERIOR_COLOR)


def _look(number, n_modalities):
    """Colour and hatching of one modality's bars, or of the ties that come after all modalities."""
    if number == n_modalities:
        return {"color": "0.75"}
    return {"color": COLORS[number % len(COLORS)], "hatch": _HATCHES[number // len(COLORS) % len(_HATCHES)]}


def _names_of(estimator, X, refitted):
    """Names of the columns of gap_scores, None if they are not known."""
    if isinstance(estimator, Mapping):
        return list(estimator)
    estimator = getattr(estimator, "estimator" if refitted else "best_estimator_", estimator)  # of a search
    classifier = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    modalities = classifier.modalities if refitted else classifier.modalities_
    if modalities is None and isinstance(X, Mapping):
        modalities = X
    return None if modalities is None else list(modalities)


def _edges(bins, gaps, mixture, signed):
    """Edges of the bins; by default they reach from 0 over all gaps and most of the imbalanced component."""
    if np.ndim(bins):
        edges = np.asarray(bins, dtype=np.float64)
        if edges.ndim > 1 or len(edges) < 2 or not (np.diff(edges) > 0).all() or not np.isfinite(edges).all():
            raise ValueError(f"bins={bins!r} must be a number of bins, or two or more edges in increasing order.")
        return edges
    check_number("bins", bins, low=1, integer=True)
    high = max(np.abs(gaps).max(), mixture.means[1] + np.sqrt(mixture.variances[1]))
    edges = np.linspace(0, high, int(bins) + 1)
    return np.concatenate([-edges[:0:-1], edges]) if signed else edges


def _leader(scores):
    """Column of each row's highest score, the number of columns where several share it."""
    highest = scores == np.nanmax(scores, axis=1, keepdims=True)
    return np.where(highest.sum(axis=1) == 1, highest.argmax(axis=1), scores.shape[1])
