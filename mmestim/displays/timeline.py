"""A picture of where the edits of a recording are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ._style import COLORS, pyplot_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..voice.localization import EditSegment

_RATE, _HIGHEST_KHZ = 16000, 8.0
_LANE_KHZ = 0.9  # height of a lane, on the axis of the frequencies


class EditTimelineDisplay:
    """Spectrogram of a recording, and under it a lane for each edit that was found.

    Made by `from_estimator` or `from_segments`. Parameters are stored as attributes; `plot` draws them.

    Parameters
    ----------
    spectrogram : ndarray of shape (n_frequencies, n_columns)
        Decibels, from 0 Hz to 8 kHz and from the start of the recording to its end.
    duration : float
        Seconds of the recording.
    segments : list of EditSegment
        Where the edits are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Seconds by kHz; the lanes are below 0 kHz.
    figure_ : matplotlib Figure
        Its figure.
    image_ : matplotlib AxesImage
        The spectrogram.
    intervals_ : dict of str to matplotlib PolyCollection
        Bars of the edits that last, by label.
    points_ : dict of str to matplotlib Line2D
        Marks of the edits of a moment, by label.

    See Also
    --------
    mmestim.voice.VoiceEditDetector : Finds the edits.
    mmestim.voice.write_report : The same for many files, as a page with sound.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from mmestim.displays import EditTimelineDisplay
    >>> from mmestim.voice.localization import EditSegment
    >>> waveform = np.random.default_rng(0).normal(scale=0.1, size=32000)
    >>> segments = [EditSegment.from_label("mix", 0.5, 1.25, 0.8), EditSegment.from_label("cut", 1.5, score=0.93)]
    >>> display = EditTimelineDisplay.from_segments(segments, waveform, sample_rate=16000)
    >>> print(display.ax_.get_title())
    2 edits in 2.0 s
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, spectrogram: np.ndarray, duration: float, segments: Sequence[EditSegment]) -> None:
        self.spectrogram = spectrogram
        self.duration = duration
        self.segments = segments

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Axes | None = None) -> Self:
        """Draw where a detector finds edits in one recording.

        Parameters
        ----------
        estimator : VoiceEditDetector
            Fitted.
        X : str, path or array-like of shape (n_samples,) or (n_channels, n_samples)
            A file, or a waveform at the detector's `sample_rate`.
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        EditTimelineDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        AudioError
            If the recording cannot be used.
        """
        pyplot_module()  # A missing package should show before the recording is looked at.
        from ..voice import AudioCorpus

        waveform = AudioCorpus([X], sample_rate=_RATE, source_rate=estimator.sample_rate)[0]
        segments = estimator.locate(AudioCorpus([waveform], sample_rate=_RATE))[0]
        return cls.from_segments(segments, waveform, sample_rate=_RATE, ax=ax)

    @classmethod
    def from_segments(
        cls, segments: Sequence[EditSegment], X: Any, *, sample_rate: int = 16000, ax: Axes | None = None
    ) -> Self:
        """Draw segments that are there already: found, read from a file, or of a record.

        Parameters
        ----------
        segments : list of EditSegment
            Of one recording.
        X : str, path or array-like of shape (n_samples,) or (n_channels, n_samples)
            The recording, a file or a waveform.
        sample_rate : int, default=16000
            Rate of a waveform in Hz; files know theirs.
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        EditTimelineDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        AudioError
            If the recording cannot be used.
        """
        from ..voice import AudioCorpus
        from ..voice._audio.spectrogram import spectrogram
        from ..voice._audio.streaming import AudioStream

        if isinstance(X, str | os.PathLike):
            stream = AudioStream(X, _RATE)
            duration = stream.duration
            picture = spectrogram(stream, round(duration * _RATE))
        else:
            waveform = AudioCorpus([X], sample_rate=_RATE, source_rate=sample_rate)[0]
            duration = len(waveform) / _RATE
            picture = spectrogram([waveform], len(waveform))
        return cls(spectrogram=picture, duration=duration, segments=segments).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; `None` makes a figure.

        Returns
        -------
        EditTimelineDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot = pyplot_module()
        self.ax_ = pyplot.subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        self.image_ = self.ax_.imshow(
            self.spectrogram, origin="lower", aspect="auto", cmap="gray_r", extent=(0, self.duration, 0, _HIGHEST_KHZ)
        )
        lanes = list(dict.fromkeys(segment.label for segment in self.segments))
        middles = [-_LANE_KHZ * (lane + 0.5) for lane in range(len(lanes))]
        self.intervals_, self.points_ = {}, {}
        for number, (label, middle) in enumerate(zip(lanes, middles, strict=True)):
            own = [segment for segment in self.segments if segment.label == label]
            color = COLORS[number % len(COLORS)]
            if spans := [(segment.start, segment.duration) for segment in own if not segment.is_point]:
                low = middle - 0.4 * _LANE_KHZ
                self.intervals_[label] = self.ax_.broken_barh(
                    spans, (low, 0.8 * _LANE_KHZ), facecolor=color, edgecolor="black", linewidth=0.8
                )
            if moments := [segment.start for segment in own if segment.is_point]:
                (self.points_[label],) = self.ax_.plot(
                    moments, [middle] * len(moments), "d", color=color, markeredgecolor="black", clip_on=False
                )
        pitches = np.arange(0, _HIGHEST_KHZ + 1, 2)
        self.ax_.set_yticks([*middles, *pitches], [*lanes, *(f"{kilohertz:g} kHz" for kilohertz in pitches)])
        self.ax_.set(
            xlim=(0, self.duration),
            ylim=(-_LANE_KHZ * len(lanes), _HIGHEST_KHZ),
            xlabel="seconds",
            title=f"{len(self.segments)} {'edit' if len(self.segments) == 1 else 'edits'} in {self.duration:.1f} s",
        )
        return self
