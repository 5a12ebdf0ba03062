"""Tracker of the windows in which scores are high, for models without scores of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..segments import EditSegment


class WindowTracker:
    """Tracker that joins the windows in which a label is present to intervals.

    A window shows that an edit is somewhere inside it, not where, so no interval is shorter than a window.

    Parameters
    ----------
    labels : list of str
        Labels of the windows' scores.
    thresholds : ndarray of shape (n_labels,)
        Lowest score at which a window has a label.
    """

    def __init__(self, labels: Sequence[str], thresholds: np.ndarray) -> None:
        self.labels, self.thresholds = list(labels), thresholds
        self._latest: dict[str, EditSegment] = {}  # by label, the interval that the next window may extend
        self._segments: list[EditSegment] = []

    def add(self, start: float, end: float, scores: np.ndarray) -> None:
        """Process the next window, from `start` to `end` in seconds, with its scores of shape (n_labels,)."""
        for column in np.flatnonzero(scores >= self.thresholds).tolist():
            label, score = self.labels[column], float(scores[column])
            latest = self._latest.get(label)
            if latest is not None and start <= latest.end:
                start_of_interval, score = latest.start, max(score, latest.score)
            else:
                start_of_interval = start
                self._segments += [] if latest is None else [latest]
            self._latest[label] = EditSegment.from_label(label, start_of_interval, end, score)

    def finish(self) -> list[EditSegment]:
        """Return the intervals of all labels."""
        return [*self._segments, *self._latest.values()]
