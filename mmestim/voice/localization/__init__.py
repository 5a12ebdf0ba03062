"""Localization of edits: segments from scores along a recording."""

from ..segments import EditSegment, record_segments
from .interval_tracker import IntervalTracker
from .point_tracker import PointTracker

__all__ = ["EditSegment", "IntervalTracker", "PointTracker", "record_segments"]
