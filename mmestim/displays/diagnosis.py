"""Display of a diagnosis of joint training."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..multimodal.diagnosis import Diagnosis
from ._style import COLORS, import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure, SubFigure

# One for each alternative to joint training, and over again beyond eight.
_MARKERS = "DsvP*Xdp"


class DiagnosisDisplay:
    """Accuracy of each modality inside the joint network and trained alone.

    >>> from mmestim import DiagnosisDisplay, JointClassifier, diagnose
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, max_epochs=10, random_state=0)
    >>> display = DiagnosisDisplay.from_diagnosis(diagnose(clf, digits.data[:300], digits.target[:300], cv=2))
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['all modalities', 'pixels', 'fourier']

    Create a display with `from_diagnosis`. The parameters are stored as attributes, which `plot` draws.

    Parameters
    ----------
    diagnosis : Diagnosis
        Return value of `diagnose`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with one line per modality, below one line for all modalities together.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    points_ : dict of str to matplotlib ErrorbarContainer
        Means over the folds with their confidence intervals, by the name of the evaluated model.
    bars_ : matplotlib LineCollection
        Bars from the accuracy of a linear probe inside the joint network to that of a probe of the modality trained
        alone, where the latter is higher.

    See Also
    --------
    diagnose : Computes the accuracies.
    """

    ax_: Axes
    figure_: Figure | SubFigure
    points_: dict[str, ErrorbarContainer]
    bars_: LineCollection

    def __init__(self, *, diagnosis: Diagnosis) -> None:
        self.diagnosis = diagnosis

    @classmethod
    def from_diagnosis(cls, diagnosis: Diagnosis, *, ax: Axes | None = None) -> Self:
        """Draw a diagnosis.

        Parameters
        ----------
        diagnosis : Diagnosis
            Return value of `diagnose`.
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        DiagnosisDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return cls(diagnosis=diagnosis).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        DiagnosisDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        diagnosis = self.diagnosis
        self.ax_ = import_pyplot().subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        lines = 1.0 + np.arange(len(diagnosis.modalities))
        # Without a limit, many balancing methods would reach the line of the first modality.
        places = np.arange(len(diagnosis.alternatives)) * min(0.2, 0.4 / max(1, len(diagnosis.alternatives) - 1))
        styles = zip(places, cycle(_MARKERS), cycle(COLORS[1:]), strict=False)
        series: dict[str, tuple[Any, ...]] = {
            "joint network": (diagnosis.joint[:, None], [-0.2], "o", COLORS[0]),
            **{
                name: (values[:, None], [place], marker, color)
                for (name, values), (place, marker, color) in zip(diagnosis.alternatives.items(), styles, strict=True)
            },
            "inside the joint network": (diagnosis.inside, lines - 0.2, "o", COLORS[0]),
            "linear probe inside": (diagnosis.inside_probe, lines + 0.1, "^", COLORS[0]),
            "trained alone": (diagnosis.alone, lines - 0.1, "o", COLORS[1]),
            "linear probe alone": (diagnosis.alone_probe, lines + 0.2, "^", COLORS[1]),
        }
        self.points_ = {}
        for name, (values, positions, marker, color) in series.items():
            means, half_widths = np.array([diagnosis.interval(column) for column in values.T]).T
            self.points_[name] = self.ax_.errorbar(
                100 * means,
                positions,
                xerr=100 * np.nan_to_num(half_widths),
                fmt=marker,
                color=color,
                capsize=3,
                label=name,
            )
        probe_means = [np.nanmean(table, axis=0) for table in (diagnosis.inside_probe, diagnosis.alone_probe)]
        self.bars_ = self.ax_.hlines(
            lines + 0.15,
            100 * probe_means[0],
            100 * np.maximum(*probe_means),
            color="0.8",
            linewidth=8,
            zorder=0,
            label="probe: alone less inside",
        )
        self.ax_.set_yticks(range(len(lines) + 1), ["all modalities", *diagnosis.modalities])
        self.ax_.set_ylim(len(lines) + 0.5, -0.5)  # all modalities on top
        self.ax_.set(
            xlabel=f"accuracy, % ({100 * diagnosis.confidence_level:g} % intervals over {len(diagnosis.joint)} folds)",
            title="Joint training and what it leaves out",
        )
        self.ax_.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
        return self
