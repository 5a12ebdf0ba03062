"""Display of the edits of a recording over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ._style import COLORS, import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

    from ..voice import VoiceEditDetector
    from ..voice.localization import EditSegment

_SAMPLE_RATE, _MAX_KHZ = 16000, 8.0
_LANE_KHZ = 0.9  # height of a lane in units of the frequency axis


class EditTimelineDisplay:
    """Spectrogram of a recording above one lane per detected edit.

    >>> import numpy as np
    >>> from mmestim.displays import EditTimelineDisplay
    >>> from mmestim.voice.localization import EditSegment
    >>> waveform = np.random.default_rng(0).normal(scale=0.1, size=32000)
    >>> segments = [EditSegment.from_label("mix", 0.5, 1.25, 0.8), EditSegment.from_label("cut", 1.5, score=0.93)]
    >>> EditTimelineDisplay.from_segments(segments, waveform, sample_rate=16000).ax_.get_title()
    '2 edits in 2.0 s'

    Create a display with `from_estimator` or `from_segments`. The parameters are stored as attributes, which `plot`
    draws.

    Parameters
    ----------
    spectrogram : ndarray of shape (n_frequencies, n_columns)
        Power in decibels, from 0 Hz to 8 kHz and from the start of the recording to its end.
    duration : float
        Duration of the recording in seconds.
    segments : list of EditSegment
        Segments of the edits.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes in seconds and kHz; the lanes are below 0 kHz.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    image_ : matplotlib AxesImage
        Image of the spectrogram.
    intervals_ : dict of str to matplotlib PolyCollection
        Bars of the interval edits, by label.
    points_ : dict of str to matplotlib Line2D
        Markers of the point edits, by label.

    See Also
    --------
    mmestim.voice.VoiceEditDetector : Detects the edits.
    mmestim.voice.write_report : Writes an HTML report with sound on many files.
    """

    ax_: Axes
    figure_: Figure | SubFigure
    image_: AxesImage
    intervals_: dict[str, PolyCollection]
    points_: dict[str, Line2D]

    def __init__(self, *, spectrogram: NDArray[np.floating], duration: float, segments: Sequence[EditSegment]) -> None:
        self.spectrogram = spectrogram
        self.duration = duration
        self.segments = segments

    @classmethod
    def from_estimator(cls, estimator: VoiceEditDetector, X: Any, *, ax: Axes | None = None) -> Self:
        """Draw the edits that a detector locates in one recording.

        Parameters
        ----------
        estimator : VoiceEditDetector
            Fitted detector.
        X : str, path or array-like of shape (n_samples,) or (n_channels, n_samples)
            Path of a file, or a waveform at the `sample_rate` of the detector.
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        EditTimelineDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        AudioError
            If the recording cannot be read or used.
        """
        import_pyplot()  # Report a missing package before processing the recording.
        from ..voice import AudioCorpus

        waveform = AudioCorpus([X], sample_rate=_SAMPLE_RATE, source_rate=estimator.sample_rate)[0]
        segments = estimator.locate(AudioCorpus([waveform], sample_rate=_SAMPLE_RATE))[0]
        return cls.from_segments(segments, waveform, sample_rate=_SAMPLE_RATE, ax=ax)

    @classmethod
    def from_segments(
        cls, segments: Sequence[EditSegment], X: Any, *, sample_rate: int = 16000, ax: Axes | None = None
    ) -> Self:
        """Draw given segments, such as those of a record or a segment file.

        Parameters
        ----------
        segments : list of EditSegment
            Segments of one recording.
        X : str, path or array-like of shape (n_samples,) or (n_channels, n_samples)
            Recording, as the path of a file or a waveform.
        sample_rate : int, default=16000
            Sample rate of a waveform in Hz. It is ignored for files.
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        EditTimelineDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        AudioError
            If the recording cannot be read or used.
        """
        from ..voice import AudioCorpus
        from ..voice._audio.spectrogram import compute_spectrogram
        from ..voice._audio.streaming import AudioStream

        if isinstance(X, str | os.PathLike):
            stream = AudioStream(X, _SAMPLE_RATE)
            duration = stream.duration
            image = compute_spectrogram(stream, round(duration * _SAMPLE_RATE))
        else:
            waveform = AudioCorpus([X], sample_rate=_SAMPLE_RATE, source_rate=sample_rate)[0]
            duration = len(waveform) / _SAMPLE_RATE
            image = compute_spectrogram([waveform], len(waveform))
        return cls(spectrogram=image, duration=duration, segments=segments).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; `None` creates a new figure.

        Returns
        -------
        EditTimelineDisplay
            This display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot = import_pyplot()
        self.ax_ = pyplot.subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        self.image_ = self.ax_.imshow(
            self.spectrogram, origin="lower", aspect="auto", cmap="gray_r", extent=(0, self.duration, 0, _MAX_KHZ)
        )
        lanes = list(dict.fromkeys(segment.label for segment in self.segments))
        centers = [-_LANE_KHZ * (lane + 0.5) for lane in range(len(lanes))]
        self.intervals_, self.points_ = {}, {}
        for lane, (label, center) in enumerate(zip(lanes, centers, strict=True)):
            segments = [segment for segment in self.segments if segment.label == label]
            color = COLORS[lane % len(COLORS)]
            if spans := [(segment.start, segment.duration) for segment in segments if not segment.is_point]:
                low = center - 0.4 * _LANE_KHZ
                self.intervals_[label] = self.ax_.broken_barh(
                    spans, (low, 0.8 * _LANE_KHZ), facecolor=color, edgecolor="black", linewidth=0.8
                )
            if points := [segment.start for segment in segments if segment.is_point]:
                (self.points_[label],) = self.ax_.plot(
                    points, [center] * len(points), "d", color=color, markeredgecolor="black", clip_on=False
                )
        frequencies = np.arange(0, _MAX_KHZ + 1, 2)
        self.ax_.set_yticks([*centers, *frequencies], [*lanes, *(f"{frequency:g} kHz" for frequency in frequencies)])
        self.ax_.set(
            xlim=(0, self.duration),
            ylim=(-_LANE_KHZ * len(lanes), _MAX_KHZ),
            xlabel="seconds",
            title=f"{len(self.segments)} {'edit' if len(self.segments) == 1 else 'edits'} in {self.duration:.1f} s",
        )
        return self
