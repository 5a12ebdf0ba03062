"""A picture of what the modalities contribute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import Bunch

from ..multimodal._analysis.shapley import modality_contributions
from ._style import COLORS, pyplot_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ContributionDisplay:
    """Contributions of the modalities: their spread over the rows, and the means with intervals.

    Made by `from_estimator` or `from_contributions`. Parameters are stored as attributes; `plot` draws
    them.

    Parameters
    ----------
    contributions : Bunch
        What `modality_contributions` returns.

    Attributes
    ----------
    ax_ : matplotlib Axes
        One line for each modality.
    figure_ : matplotlib Figure
        Its figure.
    boxes_ : dict of str to list of matplotlib artists
        Quartiles over the rows, and whiskers to the 5th and the 95th percentile, as `Axes.boxplot`
        returns them.
    means_ : matplotlib ErrorbarContainer
        Means and their confidence intervals.

    See Also
    --------
    modality_contributions : The numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from mmestim import ContributionDisplay, LateFusionClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> display = ContributionDisplay.from_estimator(
    ...     clf.fit(digits.data, digits.target), digits.data, digits.target
    ... )
    >>> print(display.ax_.get_title())
    Contributions to the probability of the true class, 1797 rows
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, contributions: Bunch) -> None:
        self.contributions = contributions

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, confidence_level: float = 0.95, ax: Axes | None = None
    ) -> Self:
        """Draw the contributions of a fitted classifier's modalities.

        Parameters
        ----------
        estimator : fitted classifier of this package, Pipeline that ends in one, or search over one
            With at most six modalities.
        X : array-like of shape (n_samples, n_features), or dict of str to array-like
            Rows that it was not trained on.
        y : array-like of shape (n_samples,)
            True classes.
        confidence_level : float, default=0.95
            Probability with which the interval of a mean covers it.
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        ContributionDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot_module()
        found = modality_contributions(estimator, X, y, confidence_level=confidence_level)
        return cls.from_contributions(found, ax=ax)

    @classmethod
    def from_contributions(cls, contributions: Bunch, *, ax: Axes | None = None) -> Self:
        """Draw contributions that are there already.

        Parameters
        ----------
        contributions : Bunch
            What `modality_contributions` returns.
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        ContributionDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return cls(contributions=contributions).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        ContributionDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot, found = pyplot_module(), self.contributions
        places = np.arange(len(found.modalities))
        known = [column[~np.isnan(column)] for column in found.contributions.T]
        self.ax_ = pyplot.subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        grey = {"color": "0.6"}
        self.boxes_ = self.ax_.boxplot(
            known,
            positions=places,
            orientation="horizontal",
            whis=(5, 95),
            widths=0.5,
            showfliers=False,
            boxprops=grey,
            whiskerprops=grey,
            capprops=grey,
            medianprops=grey,
        )
        reach = np.abs(found.contributions_interval.T - found.contributions_mean)
        self.means_ = self.ax_.errorbar(
            found.contributions_mean,
            places,
            xerr=np.nan_to_num(reach),
            fmt="o",
            color=COLORS[0],
            capsize=4,
            label="mean and its confidence interval",
        )
        self.ax_.axvline(0, color="black", linewidth=0.8)
        labels = [f"{name} ({len(values)} rows)" for name, values in zip(found.modalities, known, strict=True)]
        self.ax_.set_yticks(places, labels)
        self.ax_.set_ylim(len(places) - 0.4, -0.6)  # the first on top
        self.ax_.set(
            xlabel="Shapley value (box: quartiles over the rows; whiskers: 5 % to 95 %)",
            title=f"Contributions to the probability of the true class, {len(found.contributions)} rows",
        )
        self.ax_.legend(loc="best", fontsize="small")
        return self
