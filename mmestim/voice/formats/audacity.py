"""Audacity label files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from ..segments import EditSegment
from .lines import encode_mark, format_mark, line_errors, numbered_lines, parse_mark


def write_audacity(recordings: Mapping[str, Sequence[EditSegment]], duration: float | None) -> str:
    """Return the segments of one recording as lines of an Audacity label track."""
    (segments,) = recordings.values()
    return "".join(
        f"{segment.start:.6f}\t{segment.end:.6f}\t{encode_mark(format_mark(segment))}\n" for segment in segments
    )


def read_audacity(text: str, name: str) -> dict[str, list[EditSegment]]:
    """Return the segments of the one recording in an Audacity label track."""
    segments = []
    for number, line in numbered_lines(text):
        if not line.strip() or line.startswith("\\"):  # a backslash begins the frequencies of the previous label
            continue
        with line_errors(number):
            fields = line.split("\t")
            if len(fields) < 3:
                raise ValueError("it must have start, end and label, separated by tabs.")
            segments.append(parse_mark(unquote(fields[2]), float(fields[0]), float(fields[1])))
    return {name: segments}
