"""Segments of edits from scores along a recording."""

from ..segments import EditSegment, record_segments
from .trackers import IntervalTracker, PointTracker

__all__ = ["EditSegment", "IntervalTracker", "PointTracker", "record_segments"]
