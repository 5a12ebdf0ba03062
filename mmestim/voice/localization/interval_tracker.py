"""Tracker of intervals by thresholds with hysteresis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..segments import EditSegment
from .base import PerLabel, Tracker, per_label


@dataclass
class _OpenInterval:
    """Interval that later scores can still extend."""

    start: float
    end: float | None = None  # None while the label is active
    score: float = -math.inf


class IntervalTracker(Tracker):
    """Tracker of intervals in which scores are high, by thresholds with hysteresis.

    >>> from mmestim.voice.localization import IntervalTracker
    >>> tracker = IntervalTracker(["mix"], onset=0.75, offset=0.25)
    >>> tracker([0, 1, 2, 3, 4], [[0.5], [1.0], [0.5], [0.0], [0.0]], duration=5)
    [EditSegment(label='mix', category='temporal', start=0.5, end=2.5, score=1.0)]

    A score that reaches `onset` begins an interval, and a score below `offset` ends it. Scores are interpolated
    linearly between two frames, so intervals can begin and end between frames. The first score holds from the
    beginning of the recording, and the last one holds to its end. Then gaps shorter than `min_duration_off` are
    filled, and intervals shorter than `min_duration_on` are dropped [1]_.

    Parameters
    ----------
    labels : list of str
        Names of the columns of the scores.
    onset : float, array-like of shape (n_labels,) or dict of str to float, default=0.5
        Score that begins an interval.
    offset : float, array-like of shape (n_labels,), dict of str to float or None, default=None
        Score below which an interval ends, at most `onset`. `None` means `onset`.
    min_duration_on : float, array-like of shape (n_labels,) or dict of str to float, default=0.0
        Duration of the shortest interval in seconds.
    min_duration_off : float, array-like of shape (n_labels,) or dict of str to float, default=0.0
        Duration of the shortest gap between intervals of one label in seconds.

    See Also
    --------
    PointTracker : For edits at single moments.

    Notes
    -----
    The score of an interval is the highest score of its frames. Only intervals that can still change are in memory, so
    the memory needed does not grow with the recording.

    References
    ----------
    .. [1] G. Gelly and J.-L. Gauvain, "Minimum Word Error Training of RNN-based Voice Activity Detection",
       Interspeech 2015; the order of the last two steps is that of pyannote.audio 3.

    Examples
    --------
    A recording may come in pieces:

    >>> from mmestim.voice.localization import IntervalTracker
    >>> tracker = IntervalTracker(["mix"], onset=0.75, offset=0.25)
    >>> tracker.feed([0, 1], [[0.5], [1.0]])
    []
    >>> tracker.feed([2, 3, 4], [[0.5], [0.0], [0.0]])
    [EditSegment(label='mix', category='temporal', start=0.5, end=2.5, score=1.0)]
    >>> tracker.finish(duration=5)
    []
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        onset: PerLabel = 0.5,
        offset: PerLabel | None = None,
        min_duration_on: PerLabel = 0.0,
        min_duration_off: PerLabel = 0.0,
    ) -> None:
        super().__init__(labels)
        self.onset = per_label("onset", onset, self.labels)
        self.offset = self.onset if offset is None else per_label("offset", offset, self.labels)
        self.min_duration_on = per_label("min_duration_on", min_duration_on, self.labels)
        self.min_duration_off = per_label("min_duration_off", min_duration_off, self.labels)
        for label, high, low in zip(self.labels, self.onset, self.offset, strict=True):
            if low > high:
                raise ValueError(f"offset={low} of {label!r} must be at most its onset, {high}.")
        for name in ("min_duration_on", "min_duration_off"):
            if (getattr(self, name) < 0).any():
                raise ValueError(f"{name}={getattr(self, name).min()} must be at least 0 s.")

    def _reset(self) -> None:
        super()._reset()
        self._previous_scores: np.ndarray | None = None  # scores of the latest frame
        self._is_active = np.zeros(len(self.labels), dtype=bool)
        # For each label, the interval that is active or whose following gap may still be filled.
        self._intervals: list[_OpenInterval | None] = [None] * len(self.labels)

    def _feed(self, times: np.ndarray, scores: np.ndarray) -> list[EditSegment]:
        is_active = self._active_frames(scores)
        was_active = np.vstack([self._is_active, is_active[:-1]])
        segments: list[EditSegment] = []
        for k in np.flatnonzero(was_active.any(axis=0) | is_active.any(axis=0)).tolist():
            switches = is_active[:, k] != was_active[:, k]
            run_starts = np.union1d([0], np.flatnonzero(switches)).tolist()
            for start, end in zip(run_starts, [*run_starts[1:], len(times)], strict=True):
                if switches[start]:
                    self._switch(k, self._crossing_time(k, start, times, scores), segments)
                interval = self._intervals[k]
                if is_active[start, k] and interval is not None:
                    interval.score = max(interval.score, scores[start:end, k].max())
        self._is_active, self._previous_scores = is_active[-1], scores[-1]
        for column, interval in enumerate(self._intervals):
            if interval is None or interval.end is None:
                continue
            # The next interval cannot begin before the latest frame.
            if times[-1] - interval.end >= self.min_duration_off[column]:
                self._close(column, interval.end, segments)
        return segments

    def _active_frames(self, scores: np.ndarray) -> np.ndarray:
        """Return whether each frame is in an interval.

        The latest score that is not between the two thresholds decides.
        """
        is_above, is_below = scores >= self.onset, scores < self.offset
        deciding_frames = np.where(is_above | is_below, np.arange(len(scores))[:, None], -1)
        latest = np.maximum.accumulate(deciding_frames, axis=0)
        states = np.take_along_axis(is_above, np.maximum(latest, 0), axis=0)
        return np.where(latest >= 0, states, self._is_active)

    def _crossing_time(self, k: int, i: int, times: np.ndarray, scores: np.ndarray) -> float:
        """Return the time between frames i - 1 and i at which the score of label k crosses its threshold."""
        if i > 0:
            t0, s0 = times[i - 1], scores[i - 1, k]
        elif self._previous_scores is not None:
            t0, s0 = self._latest_time, self._previous_scores[k]
        else:
            return 0.0
        threshold = self.onset[k] if scores[i, k] > s0 else self.offset[k]
        return min(t0 + (threshold - s0) / (scores[i, k] - s0) * (times[i] - t0), times[i])

    def _switch(self, k: int, time: float, segments: list[EditSegment]) -> None:
        """End the active interval of a label, or begin one unless the gap before it is to be filled."""
        interval = self._intervals[k]
        if interval is None:
            self._intervals[k] = _OpenInterval(time)
        elif interval.end is None:
            interval.end = time
        elif time - interval.end < self.min_duration_off[k]:
            interval.end = None
        else:
            self._close(k, interval.end, segments)
            self._intervals[k] = _OpenInterval(time)

    def _close(self, k: int, end: float, segments: list[EditSegment]) -> None:
        """Move the interval of a label to the segments, unless it is too short."""
        interval, self._intervals[k] = self._intervals[k], None
        if interval is not None and end > interval.start and end - interval.start >= self.min_duration_on[k]:
            segments.append(EditSegment.from_label(self.labels[k], interval.start, end, interval.score))

    def _finish(self, duration: float) -> list[EditSegment]:
        segments: list[EditSegment] = []
        for k, interval in enumerate(self._intervals):
            if interval is not None:
                self._close(k, duration if interval.end is None else interval.end, segments)
        return segments
