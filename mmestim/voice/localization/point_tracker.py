"""Tracker of points at local maxima."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..segments import EditSegment
from .base import Tracker, per_label


class PointTracker(Tracker):
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
