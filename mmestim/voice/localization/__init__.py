"""Segments of edits from scores along a recording."""

from .trackers import EditSegment, IntervalTracker, PointTracker, record_segments

__all__ = ["EditSegment", "IntervalTracker", "PointTracker", "record_segments"]
