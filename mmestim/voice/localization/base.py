"""Base class of the trackers, which receive the scores of a recording in pieces of any length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..._utils.validation import check_number
from ..segments import EditSegment, sort_segments

# One number, or one number per label.
PerLabel = ArrayLike | Mapping[str, float]


def per_label(name: str, value: PerLabel, labels: Sequence[str]) -> np.ndarray:
    """Expand a parameter that is one number, or one number per label, to an array.

    Parameters
    ----------
    name : str
        Name of the parameter in error messages.
    value : float, array-like of shape (n_labels,) or dict of str to float
        The parameter.
    labels : sequence of str of length n_labels
        The labels.

    Returns
    -------
    ndarray of shape (n_labels,)
        The number of each label.

    Raises
    ------
    ValueError
        If a label has no number, the shape does not match the labels, or a number is not finite.
    """
    if isinstance(value, Mapping):
        if missing := [label for label in labels if label not in value]:
            raise ValueError(f"{name} has no number for {missing[0]!r}. Give one for each of {list(labels)}.")
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
    """Base class of the trackers, which convert scores along a recording to segments, piece by piece."""

    _latest_time: float  # seconds of the latest frame

    def __init__(self, labels: Sequence[str]) -> None:
        if isinstance(labels, str):
            raise TypeError(f"labels={labels!r} must be a list of labels: [{labels!r}].")
        self.labels = list(labels)
        self._reset()

    def __call__(self, times: ArrayLike, scores: ArrayLike, duration: float) -> list[EditSegment]:
        """Return the segments of a whole recording.

        Parameters
        ----------
        times : array-like of shape (n_frames,)
            Times of the scores in seconds, increasing.
        scores : array-like of shape (n_frames, n_labels)
            One row for each time.
        duration : float
            Duration of the recording in seconds.

        Returns
        -------
        list of EditSegment
            The segments, sorted by time.
        """
        self._reset()
        return sort_segments(self.feed(times, scores) + self.finish(duration))

    def feed(self, times: ArrayLike, scores: ArrayLike) -> list[EditSegment]:
        """Process the next scores of a recording.

        Parameters
        ----------
        times : array-like of shape (n_frames,)
            Times of the scores in seconds, increasing and after those of the previous call.
        scores : array-like of shape (n_frames, n_labels)
            One row for each time.

        Returns
        -------
        list of EditSegment
            The segments that later scores cannot change. All calls and `finish` together return the same segments,
            wherever the recording is divided into pieces.

        Raises
        ------
        ValueError
            If shapes do not match, times do not increase or a number is not finite.
        """
        times, scores = np.asarray(times, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if times.ndim != 1 or scores.shape != (len(times), len(self.labels)):
            raise ValueError(
                f"times and scores have shapes {times.shape} and {scores.shape}: they must be (n_frames,) and "
                f"(n_frames, {len(self.labels)}), with one column for each label."
            )
        if not (np.isfinite(times).all() and np.isfinite(scores).all()):
            raise ValueError("times and scores must be finite. Leave out frames without a score.")
        if len(times) == 0:
            return []
        if (np.diff(times) <= 0).any() or not times[0] > self._latest_time or times[0] < 0:
            raise ValueError(
                f"times must be at least 0 and increase; the latest so far is {max(self._latest_time, 0.0)} s."
            )
        segments = self._feed(times, scores)
        self._latest_time = float(times[-1])
        return segments

    def finish(self, duration: float) -> list[EditSegment]:
        """Return the remaining segments at the end of the recording, and reset the tracker for another one.

        Parameters
        ----------
        duration : float
            Duration of the recording in seconds, not before the last of the times.

        Returns
        -------
        list of EditSegment
            The segments that no call of `feed` has returned.
        """
        check_number("duration", duration, low=max(self._latest_time, 0.0))
        segments = self._finish(float(duration))
        self._reset()
        return segments

    def _reset(self) -> None:
        self._latest_time = -math.inf

    def _feed(self, times: np.ndarray, scores: np.ndarray) -> list[EditSegment]:
        raise NotImplementedError

    def _finish(self, duration: float) -> list[EditSegment]:
        raise NotImplementedError
