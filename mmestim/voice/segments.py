"""Segments of recordings that hold an edit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .records import EditRecord
from .taxonomy import TAXONOMY


@dataclass(frozen=True)
class EditSegment:  # numpydoc ignore=PR02
    """One edit at one place of a recording: an interval, or a point, whose start is its end.

    Parameters
    ----------
    label : str
        What was done, a label of `mmestim.voice.LABELS` as a rule.
    category : str
        Its category; empty where the taxonomy does not have the label.
    start, end : float
        Seconds from the beginning of the recording, 0 <= start <= end.
    score : float, default=1.0
        How sure it is; a probability where it is found by a detector.

    Raises
    ------
    ValueError
        If the label is empty, a number is not finite, or start and end are not in order.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> EditSegment("paste", "temporal", 1.5, 2.25, 0.9).duration
    0.75
    >>> EditSegment.from_label("cut", 3.0)
    EditSegment(label='cut', category='temporal', start=3.0, end=3.0, score=1.0)
    """

    label: str
    category: str
    start: float
    end: float
    score: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label:
            raise ValueError(f"label={self.label!r} must be a text that is not empty.")
        if not isinstance(self.category, str):
            raise ValueError(f"category={self.category!r} must be a text; empty where there is none.")
        for name in ("start", "end", "score"):
            object.__setattr__(self, name, float(getattr(self, name)))  # NumPy's are no JSON
        if not 0 <= self.start <= self.end < math.inf:
            raise ValueError(f"start={self.start} and end={self.end} must be seconds, 0 <= start <= end.")
        if not math.isfinite(self.score):
            raise ValueError(f"score={self.score} must be a finite number.")

    @classmethod
    def from_label(cls, label: str, start: float, end: float | None = None, score: float = 1.0) -> EditSegment:
        """A segment with the category that the taxonomy has for its label; a point if `end` is None."""
        category = TAXONOMY[label].category if label in TAXONOMY else ""
        return cls(label, category, start, start if end is None else end, score)

    @property
    def duration(self) -> float:
        """Seconds from start to end, 0 for a point."""
        return self.end - self.start

    @property
    def is_point(self) -> bool:
        """Whether it is a moment, such as that of a cut."""
        return self.start == self.end


def record_segments(record: EditRecord) -> list[EditSegment]:
    """What a record says was done to a clip, as segments.

    Parameters
    ----------
    record : EditRecord
        From `EditSimulator`.

    Returns
    -------
    list of EditSegment
        Its intervals and points with a score of 1, in the order of time.

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
    spans = [EditSegment.from_label(label, *span) for label, spans in record.intervals.items() for span in spans]
    points = [EditSegment.from_label(label, moment) for label, moments in record.points.items() for moment in moments]
    return in_order(spans + points)


def in_order(segments: Sequence[EditSegment]) -> list[EditSegment]:
    """Segments by time, then by label."""
    return sorted(segments, key=lambda segment: (segment.start, segment.end, segment.label))
