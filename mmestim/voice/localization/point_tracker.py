"""Tracker of points at local maxima of scores."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from ..segments import EditSegment
from .base import PerLabel, Tracker, per_label

# Run of frames before the first frame and after the last one.
_OUTSIDE = np.array([[math.nan, math.nan, -math.inf]])


class PointTracker(Tracker):
    """Tracker of points at which scores have a local maximum.

    >>> from mmestim.voice.localization import PointTracker
    >>> tracker = PointTracker(["cut"], threshold=0.6)
    >>> tracker([0.0, 0.1, 0.2, 0.3, 0.4], [[0.1], [0.1], [0.9], [0.5], [0.1]], duration=0.5)
    [EditSegment(label='cut', category='temporal', start=0.21666666666666667, end=0.21666666666666667, score=0.9)]

    A point is a frame whose score is at least `threshold` and higher than the scores before and after it. Its time is
    the vertex of the parabola through the three scores, or the middle of several frames with the same score. If points
    are closer than `min_distance`, the one with the highest score stays; if scores are equal, the earliest one stays.

    Parameters
    ----------
    labels : list of str
        Names of the columns of the scores.
    threshold : float, array-like of shape (n_labels,) or dict of str to float, default=0.5
        Lowest score of a point.
    min_distance : float, array-like of shape (n_labels,) or dict of str to float, default=0.05
        Smallest distance between points of one label in seconds.

    See Also
    --------
    IntervalTracker : For edits over intervals.
    """

    def __init__(self, labels: Sequence[str], *, threshold: PerLabel = 0.5, min_distance: PerLabel = 0.05) -> None:
        super().__init__(labels)
        self.threshold = per_label("threshold", threshold, self.labels)
        self.min_distance = per_label("min_distance", min_distance, self.labels)
        if (self.min_distance < 0).any():
            raise ValueError(f"min_distance={self.min_distance.min()} must be at least 0 s.")

    def _reset(self) -> None:
        super()._reset()
        # For each label, the last two runs of equal scores, as rows (first time, last time, score).
        self._runs = [_OUTSIDE] * len(self.labels)
        # For each label, the times and scores of points that a later point may still replace.
        self._pending: list[list[tuple[float, float]]] = [[] for _ in self.labels]

    def _feed(self, times: np.ndarray, scores: np.ndarray) -> list[EditSegment]:
        return [point for k in range(len(self.labels)) for point in self._add_runs(k, _equal_runs(times, scores[:, k]))]

    def _finish(self, duration: float) -> list[EditSegment]:
        return [
            point
            for k in range(len(self.labels))
            for point in [*self._add_runs(k, _OUTSIDE), *self._settle(k, math.inf)]
        ]

    def _add_runs(self, k: int, new_runs: np.ndarray) -> list[EditSegment]:
        """Add runs of label k, and return the points that are settled."""
        runs = np.vstack([self._runs[k], new_runs])
        first_new = len(runs) - len(new_runs)
        if runs[first_new - 1, 2] == runs[first_new, 2]:  # one run that is divided between two pieces
            runs[first_new, 0] = runs[first_new - 1, 0]
            runs = np.delete(runs, first_new - 1, axis=0)
        scores = runs[:, 2]
        if len(runs) < 2:  # there were no frames
            return []
        peaks = np.flatnonzero((scores[1:-1] > scores[:-2]) & (scores[1:-1] > scores[2:])) + 1
        peaks = peaks[scores[peaks] >= self.threshold[k]]
        self._pending[k] += [(_peak_time(runs[i - 1 : i + 2]), float(scores[i])) for i in peaks]
        self._runs[k] = runs[-2:]
        # The next point is in the last run or after it; after it if the last run cannot be a point.
        last_is_no_peak = scores[-1] < max(scores[-2], self.threshold[k])
        return self._settle(k, runs[-1, 1] if last_is_no_peak else runs[-2, 1])

    def _settle(self, k: int, horizon: float) -> list[EditSegment]:
        """Return the points that no point at the horizon or later can replace."""
        pending, min_distance = self._pending[k], self.min_distance[k]
        group_ends = [i for i in range(1, len(pending)) if pending[i][0] - pending[i - 1][0] >= min_distance]
        if pending and horizon - pending[-1][0] >= min_distance:
            group_ends.append(len(pending))
        n_settled = group_ends[-1] if group_ends else 0
        self._pending[k] = pending[n_settled:]
        chosen_times: list[float] = []
        points = []
        for time, score in sorted(pending[:n_settled], key=lambda point: (-point[1], point[0])):
            i = bisect_left(chosen_times, time)
            if all(abs(time - neighbour) >= min_distance for neighbour in chosen_times[max(i - 1, 0) : i + 1]):
                insort(chosen_times, time)
                points.append(EditSegment.from_label(self.labels[k], time, score=score))
        return points


def _equal_runs(times: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the runs of frames with equal scores, as rows (first time, last time, score)."""
    first = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    last = np.r_[first[1:], len(scores)] - 1
    return np.column_stack([times[first], times[last], scores[first]])


def _peak_time(runs: np.ndarray) -> float:
    """Return the time of the maximum of the middle one of three runs."""
    t0, (t1, end), t2 = runs[0, 1], runs[1, :2], runs[2, 0]
    if t1 < end or not math.isfinite(t0 + t2):
        return float(t1 + end) / 2
    rise, fall = (runs[1, 2] - runs[0, 2]) / (t1 - t0), (runs[2, 2] - runs[1, 2]) / (t2 - t1)
    vertex = (t0 + t1) / 2 + rise / (rise - fall) * (t2 - t0) / 2
    return float(min(max(vertex, t0), t2))
