"""Piecewise linear maps from the times before an edit to the times after it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


class TimeMap:
    """Monotone piecewise linear map from seconds before an edit to seconds after it.

    Half a second of three is cut out, from 1 s on. Then the result plays at half the rate:

    >>> from mmestim.voice import TimeMap
    >>> cut = TimeMap([0, 1, 1.5, 3], [0, 1, 1, 2.5])
    >>> both = cut.then(TimeMap([0, 2.5], [0, 5]))
    >>> both([0.5, 1.2, 2.0]).tolist(), both.duration
    ([1.0, 2.0, 3.0], 5.0)

    A deleted interval maps to one moment; an insertion opens a gap at one moment.

    Parameters
    ----------
    before, after : array-like of shape (n_knots,)
        Knots in seconds, neither sequence decreasing. The map is linear between them.
    """

    def __init__(self, before: ArrayLike, after: ArrayLike) -> None:
        self.before, self.after = (np.asarray(knots, dtype=np.float64) for knots in (before, after))
        if self.before.ndim != 1 or self.before.shape != self.after.shape or len(self.before) < 2:
            raise ValueError(
                f"before and after have shapes {self.before.shape} and {self.after.shape}: they must have the same "
                "length, at least 2."
            )
        if not (np.isfinite(self.before).all() and np.isfinite(self.after).all()):
            raise ValueError("before and after must be finite numbers of seconds.")
        if (np.diff(self.before) < 0).any() or (np.diff(self.after) < 0).any():
            raise ValueError("before and after must not decrease: an edit preserves the order of moments.")

    @classmethod
    def identity(cls, duration: float) -> TimeMap:
        """Return the identity map of a clip of `duration` seconds."""
        return cls([0.0, duration], [0.0, duration])

    @property
    def duration(self) -> float:
        """Duration after the edit in seconds."""
        return float(self.after[-1])

    def __call__(self, seconds: ArrayLike) -> NDArray[np.float64]:
        """Map moments before the edit to moments after it; at an insertion, to its end."""
        return self._at(np.asarray(seconds, dtype=np.float64), "right")

    def intervals(self, start: float, end: float) -> list[tuple[float, float]]:
        """Map an interval to the pieces that remain of it; insertions separate the pieces."""
        inserted = self.before[1:][(np.diff(self.before) == 0) & (np.diff(self.after) > 0)]
        moments = [start, *(moment for moment in np.unique(inserted) if start < moment < end), end]
        firsts, lasts = self(moments[:-1]), self._at(np.asarray(moments[1:], dtype=np.float64), "left")
        return [(float(first), float(last)) for first, last in zip(firsts, lasts, strict=True) if last > first]

    def then(self, later: TimeMap) -> TimeMap:
        """Compose this map with that of a later edit."""
        middles = np.unique(np.concatenate([self.after, later.before]))
        middles = middles[(middles >= self.after[0]) & (middles <= self.after[-1])]
        first, last = (_interpolate(self.after, self.before, middles, side) for side in _SIDES)
        low, high = (later._at(middles, side) for side in _SIDES)
        # At each middle moment, the deletion of the first map precedes the insertion of the later one.
        before = np.column_stack([first, last, last]).ravel()
        after = np.column_stack([low, low, high]).ravel()
        is_new = np.r_[True, (np.diff(before) > 0) | (np.diff(after) > 0)]
        return TimeMap(before[is_new], after[is_new])

    def _at(self, seconds: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
        return _interpolate(self.before, self.after, seconds, side)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TimeMap):
            return NotImplemented
        return np.array_equal(self.before, other.before) and np.array_equal(self.after, other.after)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TimeMap({self.before.tolist()}, {self.after.tolist()})"


def _interpolate(x: np.ndarray, y: np.ndarray, at: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """Interpolate y at x = `at`; where several knots have the same x, take the first (left) or last (right) y."""
    right = np.searchsorted(x, at, side="right")
    left = np.searchsorted(x, at, side="left")
    is_knot = right > left
    knot = np.clip(left if side == "left" else right - 1, 0, len(x) - 1)
    return np.where(is_knot, y[knot], np.interp(at, x, y))
