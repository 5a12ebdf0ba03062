"""Segments: the intervals and points of a recording that have an edit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .records import EditRecord
from .taxonomy import TAXONOMY


@dataclass(frozen=True)
class EditSegment:  # numpydoc ignore=PR02
    """Interval or point of a recording that has one edit. A point has equal start and end.

    >>> from mmestim.voice.localization import EditSegment
    >>> EditSegment("paste", "temporal", 1.5, 2.25, 0.9).duration
    0.75
    >>> EditSegment.from_label("cut", 3.0)
    EditSegment(label='cut', category='temporal', start=3.0, end=3.0, score=1.0)

    Parameters
    ----------
    label : str
        Label of the edit, usually one of `mmestim.voice.LABELS`.
    category : str
        Category of the edit; empty if the taxonomy does not contain the label.
    start, end : float
        Seconds from the beginning of the recording, 0 <= start <= end.
    score : float, default=1.0
        Confidence; for segments that a detector returns, a probability.

    Raises
    ------
    ValueError
        If the label is empty, a number is not finite, or the end is before the start.
    """

    label: str
    category: str
    start: float
    end: float
    score: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label:
            raise ValueError(f"label={self.label!r} must be a string that is not empty.")
        if not isinstance(self.category, str):
            raise ValueError(f"category={self.category!r} must be a string, which is empty if there is no category.")
        for name in ("start", "end", "score"):
            object.__setattr__(self, name, float(getattr(self, name)))  # NumPy numbers cannot be written as JSON
        if not 0 <= self.start <= self.end < math.inf:
            raise ValueError(f"start={self.start} and end={self.end} must be seconds, 0 <= start <= end.")
        if not math.isfinite(self.score):
            raise ValueError(f"score={self.score} must be a finite number.")

    @classmethod
    def from_label(cls, label: str, start: float, end: float | None = None, score: float = 1.0) -> EditSegment:
        """Create a segment with the category of its label in the taxonomy; a point if `end` is None."""
        category = TAXONOMY[label].category if label in TAXONOMY else ""
        return cls(label, category, start, start if end is None else end, score)

    @property
    def duration(self) -> float:
        """Duration in seconds, 0 for a point."""
        return self.end - self.start

    @property
    def is_point(self) -> bool:
        """Whether the segment is a single moment, such as a cut."""
        return self.start == self.end


def record_segments(record: EditRecord) -> list[EditSegment]:
    """Return the edits of a record as segments.

    Parameters
    ----------
    record : EditRecord
        Record from `EditSimulator`.

    Returns
    -------
    list of EditSegment
        The intervals and points of the record with a score of 1, sorted by time.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim.voice import EditPlan, EditSimulator
    >>> from mmestim.voice.localization import record_segments
    >>> clip = np.random.default_rng(0).normal(scale=0.1, size=16000)
    >>> plan = EditPlan(1.0, 16000, [{"edit": "speed_change", "rate": 0.8, "engine": "polyphase"}])
    >>> record_segments(EditSimulator().apply(clip, plan)[1])
    [EditSegment(label='speed_change', category='modulation', start=0.0, end=1.25, score=1.0)]
    """
    intervals = [EditSegment.from_label(label, *span) for label, spans in record.intervals.items() for span in spans]
    points = [EditSegment.from_label(label, time) for label, times in record.points.items() for time in times]
    return sort_segments(intervals + points)


def sort_segments(segments: Iterable[EditSegment]) -> list[EditSegment]:
    """Sort segments by time, then by label."""
    return sorted(segments, key=lambda segment: (segment.start, segment.end, segment.label))
