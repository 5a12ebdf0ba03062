"""Where the moments of a recording are after an edit."""

from __future__ import annotations

from typing import Any

import numpy as np


class TimeMap:
    """Monotone piecewise linear map from seconds before an edit to seconds after it.

    What is deleted maps to one moment; what is inserted opens a gap at one moment.

    Parameters
    ----------
    before, after : array-like of shape (n_knots,)
        Seconds, neither ever decreasing; between knots the map is linear.

    Examples
    --------
    Half a second is cut out of three, from 1 s on; then all plays at half the rate:

    >>> from mmestim.voice import TimeMap
    >>> cut = TimeMap([0, 1, 1.5, 3], [0, 1, 1, 2.5])
    >>> both = cut.then(TimeMap([0, 2.5], [0, 5]))
    >>> both([0.5, 1.2, 2.0]).tolist(), both.duration
    ([1.0, 2.0, 3.0], 5.0)
    """

    def __init__(self, before: Any, after: Any) -> None:
        self.before, self.after = (np.asarray(knots, dtype=np.float64) for knots in (before, after))
        if self.before.ndim != 1 or self.before.shape != self.after.shape or len(self.before) < 2:
            raise ValueError(
                f"before and after have shapes {self.before.shape} and {self.after.shape}: they must be of one length, "
                "at least 2."
            )
        if not (np.isfinite(self.before).all() and np.isfinite(self.after).all()):
            raise ValueError("before and after must be finite numbers of seconds.")
        if (np.diff(self.before) < 0).any() or (np.diff(self.after) < 0).any():
            raise ValueError("before and after must not decrease: an edit keeps the order of moments.")

    @classmethod
    def identity(cls, duration: float) -> TimeMap:
        """The map that moves nothing."""
        return cls([0.0, duration], [0.0, duration])

    @property
    def duration(self) -> float:
        """Seconds after the edit."""
        return float(self.after[-1])

    def __call__(self, seconds: Any) -> np.ndarray:
        """Moments after the edit of moments before it; at an insertion the one that follows it."""
        return self._at(np.asarray(seconds, dtype=np.float64), "right")

    def intervals(self, start: float, end: float) -> list[tuple[float, float]]:
        """Where what was between two moments is now: pieces between which something is inserted, or none."""
        inserted = self.before[1:][(np.diff(self.before) == 0) & (np.diff(self.after) > 0)]
        moments = [start, *(moment for moment in np.unique(inserted) if start < moment < end), end]
        firsts, lasts = self(moments[:-1]), self._at(np.asarray(moments[1:], dtype=np.float64), "left")
        return [(float(first), float(last)) for first, last in zip(firsts, lasts, strict=True) if last > first]

    def then(self, later: TimeMap) -> TimeMap:
        """The map of both edits, this one and a later one."""
        middles = np.unique(np.concatenate([self.after, later.before]))
        middles = middles[(middles >= self.after[0]) & (middles <= self.after[-1])]
        first, last = (_inverse(self.after, self.before, middles, side) for side in ("left", "right"))
        low, high = (later._at(middles, side) for side in ("left", "right"))
        # At one moment of the middle: what the first map deletes there, then what the later one inserts.
        before = np.column_stack([first, last, last]).ravel()
        after = np.column_stack([low, low, high]).ravel()
        new = np.r_[True, (np.diff(before) > 0) | (np.diff(after) > 0)]
        return TimeMap(before[new], after[new])

    def _at(self, seconds, side):
        return _inverse(self.before, self.after, seconds, side)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TimeMap):
            return NotImplemented
        return np.array_equal(self.before, other.before) and np.array_equal(self.after, other.after)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"TimeMap({self.before.tolist()}, {self.after.tolist()})"


def _inverse(x, y, at, side):
    """Values of y at x = `at` by linear interpolation; where x stands still, the first (left) or last (right) y."""
    right = np.searchsorted(x, at, side="right")
    left = np.searchsorted(x, at, side="left")
    hit = right > left  # `at` is a knot
    knot = np.clip(left if side == "left" else right - 1, 0, len(x) - 1)
    return np.where(hit, y[knot], np.interp(at, x, y))
