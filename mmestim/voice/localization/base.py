"""Base of the trackers: the protocol of feeding scores in pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


class Tracker:
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
