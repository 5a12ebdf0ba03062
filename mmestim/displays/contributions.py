"""Display of the contributions of modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from ..multimodal._analysis.shapley import modality_contributions
from ._style import COLORS, import_pyplot

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure, SubFigure


class ContributionDisplay:
    """Box plots of the contributions of the modalities, and their means with confidence intervals.

    >>> from mmestim import ContributionDisplay, LateFusionClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0).fit(digits.data, digits.target)
    >>> ContributionDisplay.from_estimator(clf, digits.data, digits.target).ax_.get_title()
    'Contributions to the true class, 1797 rows'

    Create a display with `from_estimator` or `from_contributions`. The parameters are stored as attributes, which
    `plot` draws.

    Parameters
    ----------
    contributions : Bunch
        Return value of `modality_contributions`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with one line per modality.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    boxes_ : dict of str to list of matplotlib artists
        Quartiles over the rows, with whiskers at the 5th and the 95th percentile, as `Axes.boxplot` returns them.
    means_ : matplotlib ErrorbarContainer
        Means with their confidence intervals.

    See Also
    --------
    modality_contributions : Computes the contributions.
    """

    ax_: Axes
    figure_: Figure | SubFigure
    boxes_: dict[str, list[Artist]]
    means_: ErrorbarContainer

    def __init__(self, *, contributions: Bunch) -> None:
        self.contributions = contributions

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, confidence_level: float = 0.95, ax: Axes | None = None
    ) -> Self:
        """Draw the contributions of a fitted classifier's modalities.

        Parameters
        ----------
        estimator : fitted classifier of this package, Pipeline that ends in one, or search over one
            Classifier with at most six modalities.
        X : array-like of shape (n_samples, n_features), or dict of str to array-like
            Rows that the classifier was not trained on.
        y : array-like of shape (n_samples,)
            True classes.
        confidence_level : float, default=0.95
            Confidence level of the intervals of the means.
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        ContributionDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        import_pyplot()
        contributions = modality_contributions(estimator, X, y, confidence_level=confidence_level)
        return cls.from_contributions(contributions, ax=ax)

    @classmethod
    def from_contributions(cls, contributions: Bunch, *, ax: Axes | None = None) -> Self:
        """Draw contributions that have been computed.

        Parameters
        ----------
        contributions : Bunch
            Return value of `modality_contributions`.
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        ContributionDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return cls(contributions=contributions).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        ContributionDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot, contributions = import_pyplot(), self.contributions
        positions = np.arange(len(contributions.modalities))
        present_values = [column[~np.isnan(column)] for column in contributions.contributions.T]
        self.ax_ = pyplot.subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        grey = {"color": "0.6"}
        self.boxes_ = self.ax_.boxplot(
            present_values,
            positions=positions,
            orientation="horizontal",
            whis=(5, 95),
            widths=0.5,
            showfliers=False,
            boxprops=grey,
            whiskerprops=grey,
            capprops=grey,
            medianprops=grey,
        )
        mean_errors = np.abs(contributions.contributions_interval.T - contributions.contributions_mean)
        self.means_ = self.ax_.errorbar(
            contributions.contributions_mean,
            positions,
            xerr=np.nan_to_num(mean_errors),
            fmt="o",
            color=COLORS[0],
            capsize=4,
            label="mean and its confidence interval",
        )
        self.ax_.axvline(0, color="black", linewidth=0.8)
        labels = [
            f"{name} ({len(values)} rows)"
            for name, values in zip(contributions.modalities, present_values, strict=True)
        ]
        self.ax_.set_yticks(positions, labels)
        self.ax_.set_ylim(len(positions) - 0.4, -0.6)  # the first modality on top
        self.ax_.set(
            xlabel="Shapley value (box: quartiles over the rows; whiskers: 5 % to 95 %)",
            title=f"Contributions to the true class, {len(contributions.contributions)} rows",
        )
        self.ax_.legend(loc="best", fontsize="small")
        return self
