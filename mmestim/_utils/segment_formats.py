"""Formats of segment files, which the command line lists without importing their readers and writers."""

from __future__ import annotations

from typing import Literal, NamedTuple

FormatName = Literal["json", "csv", "rttm", "textgrid", "audacity"]


class SegmentFormat(NamedTuple):
    """Properties of a format.

    Attributes
    ----------
    suffix : str
        Suffix of its files; upper and lower case are equivalent in reading.
    holds_many : bool
        Whether a file can hold several recordings.
    """

    suffix: str
    holds_many: bool


SEGMENT_FORMATS: dict[FormatName, SegmentFormat] = {
    "json": SegmentFormat(".json", True),
    "csv": SegmentFormat(".csv", True),
    "rttm": SegmentFormat(".rttm", True),
    "textgrid": SegmentFormat(".TextGrid", False),
    "audacity": SegmentFormat(".txt", False),
}
