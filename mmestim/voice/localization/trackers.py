"""Where edits are: from scores along a recording to intervals and points."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._utils.validation import check_number
from ..segments import EditSegment, sort_segments


def per_label(name: str, value: Any, labels: Sequence[str]) -> np.ndarray:
    """A parameter that is one number for all labels, or one for each, as an array of shape (n_labels,)."""
    if isinstance(value, Mapping):
        if absent := [label for label in labels if label not in value]:
            raise ValueError(f"{name} has nothing for {absent[0]!r}. Give a number for each of {list(labels)}.")
        value = [value[label] for label in labels]
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.shape not in ((), (len(labels),)):
        raise ValueError(
            f"{name} has shape {numbers.shape}: it must be one number, one for each of the {len(labels)} labels, or a "
            "dict of them."
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}={value!r} must be finite.")
    return np.broadcast_to(numbers, len(labels))


class _Tracker:
    """Base of those that turn scores along a recording into segments, piece by piece."""

    _now: float  # seconds of the latest frame

    def __init__(self, labels: Sequence[str]) -> None:
        if isinstance(labels, str):
            raise TypeError(f"labels={labels!r} must be a list of labels: [{labels!r}].")
        self.labels = list(labels)
        self._reset()

    def __call__(self, times: Any, scores: Any, duration: float) -> list[EditSegment]:
        """Segments of a whole recording.

        Parameters
        ----------
        times : array-like of shape (n_frames,)
            Seconds at which the scores are, increasing.
        scores : array-like of shape (n_frames, n_labels)
            One row for each of the times.
        duration : float
            Seconds of the recording.

        Returns
        -------
        list of EditSegment
            In the order of time.
        """
        self._reset()
        return sort_segments(self.feed(times, scores) + self.finish(duration))

    def feed(self, times: Any, scores: Any) -> list[EditSegment]:
        """The next scores of a recording.

        Parameters
        ----------
        times : array-like of shape (n_frames,)
            Seconds at which the scores are, increasing, after those of the last call.
        scores : array-like of shape (n_frames, n_labels)
            One row for each of the times.

        Returns
        -------
        list of EditSegment
            Those that nothing to come can change. However a recording is cut into pieces, all of its calls
            and `finish` give the same segments together.

        Raises
        ------
        ValueError
            If shapes do not fit, times do not increase or a number is not finite.
        """
        times, scores = np.asarray(times, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if times.ndim != 1 or scores.shape != (len(times), len(self.labels)):
            raise ValueError(
                f"times and scores have shapes {times.shape} and {scores.shape}: they must be (n_frames,) and "
                f"(n_frames, {len(self.labels)}), a column for each of the labels."
            )
        if not (np.isfinite(times).all() and np.isfinite(scores).all()):
            raise ValueError("times and scores must be finite: leave out frames without a score.")
        if len(times) == 0:
            return []
        if (np.diff(times) <= 0).any() or not times[0] > self._now or times[0] < 0:
            raise ValueError(f"times must be at least 0 and increase; the latest so far is {max(self._now, 0.0)} s.")
        found = self._feed(times, scores)
        self._now = float(times[-1])
        return found

    def finish(self, duration: float) -> list[EditSegment]:
        """The rest of the segments, at the end of the recording; then another one can begin.

        Parameters
        ----------
        duration : float
            Seconds of the recording, not before the last of the times.

        Returns
        -------
        list of EditSegment
            Those that no call of `feed` has given.
        """
        check_number("duration", duration, low=max(self._now, 0.0))
        found = self._finish(float(duration))
        self._reset()
        return found

    def _reset(self) -> None:
        self._now = -math.inf

    def _feed(self, times: np.ndarray, scores: np.ndarray) -> list[EditSegment]:
        raise NotImplementedError

    def _finish(self, duration: float) -> list[EditSegment]:
        raise NotImplementedError


class IntervalTracker(_Tracker):
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


class PointTracker(_Tracker):
    """Points at which scores are highest.

    A point is where a score of at least `threshold` is higher than those before and after it, at the top of
    the parabola through the three, or in the middle of frames of the same score. Of points that are closer
    than `min_distance` the higher ones stay, of equal ones the earlier.

    Parameters
    ----------
    labels : list of str
        Names of the columns of the scores.
    threshold : float, array-like of shape (n_labels,) or dict of str to float, default=0.5
        Lowest score of a point.
    min_distance : float, array-like of shape (n_labels,) or dict of str to float, default=0.05
        Seconds between points of one label.

    See Also
    --------
    IntervalTracker : For edits that last.

    Examples
    --------
    >>> from mmestim.voice.localization import PointTracker
    >>> tracker = PointTracker(["cut"], threshold=0.6)
    >>> tracker([0.0, 0.1, 0.2, 0.3, 0.4], [[0.1], [0.1], [0.9], [0.5], [0.1]], duration=0.5)
    [EditSegment(label='cut', category='temporal', start=0.21666666666666667, end=0.21666666666666667, score=0.9)]
    """

    def __init__(self, labels: Sequence[str], *, threshold: Any = 0.5, min_distance: Any = 0.05) -> None:
        super().__init__(labels)
        self.threshold = per_label("threshold", threshold, self.labels)
        self.min_distance = per_label("min_distance", min_distance, self.labels)
        if (self.min_distance < 0).any():
            raise ValueError(f"min_distance={self.min_distance.min()} must be at least 0 s.")

    def _reset(self) -> None:
        super()._reset()
        # Of each label the last two runs of frames of the same score, as rows (first time, last time, score), and
        # the points so far that a later one could still take the place of.
        self._runs = [_OUTSIDE] * len(self.labels)
        self._held: list[list[tuple[float, float]]] = [[] for _ in self.labels]

    def _feed(self, times, scores):
        return [point for k in range(len(self.labels)) for point in self._follow(k, _runs(times, scores[:, k]))]

    def _finish(self, duration):
        return [
            point
            for k in range(len(self.labels))
            for point in [*self._follow(k, _OUTSIDE), *self._settled(k, math.inf)]
        ]

    def _follow(self, k, new):
        runs = self._runs[k]
        runs = np.vstack([runs, new])
        at = len(runs) - len(new)
        if runs[at - 1, 2] == runs[at, 2]:  # one run, cut by the pieces
            runs[at, 0] = runs[at - 1, 0]
            runs = np.delete(runs, at - 1, axis=0)
        scores = runs[:, 2]
        if len(runs) < 2:  # no frames at all
            return []
        tops = np.flatnonzero((scores[1:-1] > scores[:-2]) & (scores[1:-1] > scores[2:])) + 1
        tops = tops[scores[tops] >= self.threshold[k]]
        self._held[k] += [(_summit(runs[i - 1 : i + 2]), float(scores[i])) for i in tops]
        self._runs[k] = runs[-2:]
        # The next point is not before the last run that cannot be one.
        is_none = scores[-1] < max(scores[-2], self.threshold[k])
        return self._settled(k, runs[-1, 1] if is_none else runs[-2, 1])

    def _settled(self, k, horizon):
        """The points that none at the horizon or later can take the place of."""
        held, distance = self._held[k], self.min_distance[k]
        ends = [i for i in range(1, len(held)) if held[i][0] - held[i - 1][0] >= distance]
        if held and horizon - held[-1][0] >= distance:
            ends.append(len(held))
        n_settled = ends[-1] if ends else 0
        self._held[k] = held[n_settled:]
        kept: list[float] = []
        points = []
        for moment, score in sorted(held[:n_settled], key=lambda point: (-point[1], point[0])):
            i = bisect_left(kept, moment)
            if all(abs(moment - other) >= distance for other in kept[max(i - 1, 0) : i + 1]):
                insort(kept, moment)
                points.append(EditSegment.from_label(self.labels[k], moment, score=score))
        return points


# What is before the first frame and after the last one.
_OUTSIDE = np.array([[math.nan, math.nan, -math.inf]])


def _runs(times, scores):
    """Runs of frames of the same score, as rows (first time, last time, score)."""
    first = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    last = np.r_[first[1:], len(scores)] - 1
    return np.column_stack([times[first], times[last], scores[first]])


def _summit(runs):
    """Where between its neighbours the middle one of three runs is highest."""
    t0, (t1, end), t2 = runs[0, 1], runs[1, :2], runs[2, 0]
    if t1 < end or not math.isfinite(t0 + t2):
        return float(t1 + end) / 2
    rise, fall = (runs[1, 2] - runs[0, 2]) / (t1 - t0), (runs[2, 2] - runs[1, 2]) / (t2 - t1)
    top = (t0 + t1) / 2 + rise / (rise - fall) * (t2 - t0) / 2
    return float(min(max(top, t0), t2))
