"""A picture of a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..multimodal.diagnosis import Diagnosis
from ._style import COLORS, pyplot_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class DiagnosisDisplay:
    """What each modality knows inside the joint network and trained alone.

    Made by `from_diagnosis`. Parameters are stored as attributes; `plot` draws them.

    Parameters
    ----------
    diagnosis : Diagnosis
        What `diagnose` returns.

    Attributes
    ----------
    ax_ : matplotlib Axes
        A line for each modality, and one for all of them on top.
    figure_ : matplotlib Figure
        Its figure.
    points_ : dict of str to matplotlib ErrorbarContainer
        Means over the folds and their intervals, by what was judged.
    bars_ : matplotlib LineCollection
        From what a linear probe gets inside the joint network to what it gets of the modality trained
        alone, where that is more.

    See Also
    --------
    diagnose : The numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from mmestim import DiagnosisDisplay, JointClassifier, diagnose
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, max_epochs=10, random_state=0)
    >>> found = diagnose(clf, digits.data[:300], digits.target[:300], cv=2)
    >>> display = DiagnosisDisplay.from_diagnosis(found)
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['all modalities', 'pixels', 'fourier']
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, diagnosis: Diagnosis) -> None:
        self.diagnosis = diagnosis

    @classmethod
    def from_diagnosis(cls, diagnosis: Diagnosis, *, ax: Axes | None = None) -> Self:
        """Draw a diagnosis.

        Parameters
        ----------
        diagnosis : Diagnosis
            What `diagnose` returns.
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        DiagnosisDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return cls(diagnosis=diagnosis).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        DiagnosisDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        found = self.diagnosis
        self.ax_ = pyplot_module().subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        lines = 1.0 + np.arange(len(found.modalities))
        shown: dict[str, tuple[Any, ...]] = {
            "joint network": (found.joint[:, None], [-0.2], "o", COLORS[0]),
            **{
                name: (values[:, None], [place], marker, color)
                for (name, values), place, marker, color in zip(
                    found.alternatives.items(), (0.0, 0.2), "Ds", (COLORS[1], COLORS[3]), strict=False
                )
            },
            "inside the joint network": (found.inside, lines - 0.2, "o", COLORS[0]),
            "linear probe inside": (found.inside_probe, lines + 0.1, "^", COLORS[0]),
            "trained alone": (found.alone, lines - 0.1, "o", COLORS[1]),
            "linear probe alone": (found.alone_probe, lines + 0.2, "^", COLORS[1]),
        }
        self.points_ = {}
        for name, (values, places, marker, color) in shown.items():
            means, halves = np.array([found.interval(column) for column in values.T]).T
            self.points_[name] = self.ax_.errorbar(
                100 * means, places, xerr=100 * np.nan_to_num(halves), fmt=marker, color=color, capsize=3, label=name
            )
        probes = [np.nanmean(table, axis=0) for table in (found.inside_probe, found.alone_probe)]
        self.bars_ = self.ax_.hlines(
            lines + 0.15,
            100 * probes[0],
            100 * np.maximum(*probes),
            color="0.8",
            linewidth=8,
            zorder=0,
            label="probe: alone less inside",
        )
        self.ax_.set_yticks(range(len(lines) + 1), ["all modalities", *found.modalities])
        self.ax_.set_ylim(len(lines) + 0.5, -0.5)  # the first on top
        self.ax_.set(
            xlabel=f"accuracy, % ({100 * found.confidence_level:g} % intervals over {len(found.joint)} folds)",
            title="Joint training and what it leaves out",
        )
        self.ax_.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
        return self
