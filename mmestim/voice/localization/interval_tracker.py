"""Tracker of intervals with two thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..segments import EditSegment
from .base import Tracker, per_label


class IntervalTracker(Tracker):
    """Intervals in which scores are high, by thresholds with hysteresis.

    A score that reaches `onset` begins an interval, and one below `offset` ends it. Between two frames the
    score is taken to be linear, so an interval begins and ends between frames; the first score holds from the
    beginning of the recording on, the last one until its end. Then gaps shorter than `min_duration_off` are
    filled, and intervals shorter than `min_duration_on` left out [1]_.

    Parameters
    ----------
    labels : list of str
        Names of the columns of the scores.
    onset : float, array-like of shape (n_labels,) or dict of str to float, default=0.5
        Score that begins an interval.
    offset : float, array-like of shape (n_labels,), dict of str to float or None, default=None
        Score under which it ends, at most `onset`, which `None` stands for.
    min_duration_on : float, array-like of shape (n_labels,) or dict of str to float, default=0.0
        Seconds of the shortest interval.
    min_duration_off : float, array-like of shape (n_labels,) or dict of str to float, default=0.0
        Seconds of the shortest gap between intervals of one label.

    See Also
    --------
    PointTracker : For edits that are at a moment.

    Notes
    -----
    The score of an interval is the highest of its frames. Only intervals that can still change are kept, so
    the memory that is needed does not grow with the recording.

    References
    ----------
    .. [1] G. Gelly and J.-L. Gauvain, "Minimum Word Error Training of RNN-based Voice Activity Detection",
       Interspeech 2015; the order of the last two steps is that of pyannote.audio 3.

    Examples
    --------
    >>> from mmestim.voice.localization import IntervalTracker
    >>> tracker = IntervalTracker(["mix"], onset=0.75, offset=0.25)
    >>> tracker([0, 1, 2, 3, 4], [[0.5], [1.0], [0.5], [0.0], [0.0]], duration=5)
    [EditSegment(label='mix', category='temporal', start=0.5, end=2.5, score=1.0)]

    In pieces, the same:

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
        onset: Any = 0.5,
        offset: Any = None,
        min_duration_on: Any = 0.0,
        min_duration_off: Any = 0.0,
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
        self._last: np.ndarray | None = None  # scores of the latest frame
        self._active = np.zeros(len(self.labels), dtype=bool)
        # Of each label the interval that is open, or waits until the gap after it is long enough.
        self._spans: list[_Span | None] = [None] * len(self.labels)

    def _feed(self, times, scores):
        active = self._states(scores)
        before = np.vstack([self._active, active[:-1]])
        found = []
        for k in np.flatnonzero(before.any(axis=0) | active.any(axis=0)):
            switches = active[:, k] != before[:, k]
            firsts = np.union1d([0], np.flatnonzero(switches))
            for first, last in zip(firsts, [*firsts[1:], len(times)], strict=True):
                if switches[first]:
                    self._switch(k, self._crossing(k, first, times, scores), found)
                if active[first, k]:
                    self._spans[k].score = max(self._spans[k].score, scores[first:last, k].max())
        self._active, self._last = active[-1], scores[-1]
        for k, span in enumerate(self._spans):
            # The next one cannot begin before the latest frame.
            if span is not None and not self._active[k] and times[-1] - span.end >= self.min_duration_off[k]:
                self._close(k, found)
        return found

    def _states(self, scores):
        """Whether each frame is in an interval: what the latest score on either side of the thresholds says."""
        on, off = scores >= self.onset, scores < self.offset
        tells = np.where(on | off, np.arange(len(scores))[:, None], -1)
        latest = np.maximum.accumulate(tells, axis=0)
        return np.where(latest >= 0, np.take_along_axis(on, np.maximum(latest, 0), axis=0), self._active)

    def _crossing(self, k, i, times, scores):
        """When, on the way to frame i, the score of label k crosses its threshold."""
        if i == 0 and self._last is None:
            return 0.0
        t0, s0 = (self._now, self._last[k]) if i == 0 else (times[i - 1], scores[i - 1, k])
        level = self.onset[k] if scores[i, k] > s0 else self.offset[k]
        return min(t0 + (level - s0) / (scores[i, k] - s0) * (times[i] - t0), times[i])

    def _switch(self, k, moment, found):
        span = self._spans[k]
        if span is not None and span.end is None:
            span.end = moment
        elif span is not None and moment - span.end < self.min_duration_off[k]:
            span.end = None
        else:
            if span is not None:
                self._close(k, found)
            self._spans[k] = _Span(moment)

    def _close(self, k, found):
        span, self._spans[k] = self._spans[k], None
        if span.end > span.start and span.end - span.start >= self.min_duration_on[k]:
            found.append(EditSegment.from_label(self.labels[k], span.start, span.end, span.score))

    def _finish(self, duration):
        found: list[EditSegment] = []
        for k, span in enumerate(self._spans):
            if span is not None:
                span.end = duration if span.end is None else span.end
                self._close(k, found)
        return found


@dataclass
class _Span:
    start: float
    end: float | None = None
    score: float = -math.inf
