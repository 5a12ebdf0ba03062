"""Files of segments that other programs read: JSON, CSV, RTTM, Praat TextGrid and Audacity labels."""

from .segment_files import read_segments, write_segments

__all__ = ["read_segments", "write_segments"]
