"""RTTM files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..segments import EditSegment
from .lines import MISSING_FIELD, decode_field, encode_field, line_errors, numbered_lines

# Duration of a point in seconds. Programs drop shorter segments: pyannote.core drops those of up to a microsecond, and
# its writer rounds to milliseconds.
_POINT_SECONDS = 0.001


def write_rttm(recordings: Mapping[str, Sequence[EditSegment]], duration: float | None) -> str:
    """Return the segments of recordings as lines of RTTM."""
    return "".join(
        f"SPEAKER {encode_field(name)} 1 {segment.start:.6f} {max(segment.duration, _POINT_SECONDS):.6f} <NA> <NA> "
        f"{encode_field(segment.label)} {segment.score!r} <NA>\n"
        for name, segments in recordings.items()
        for segment in segments
    )


def read_rttm(text: str, name: str) -> dict[str, list[EditSegment]]:
    """Return the segments of each recording in a text in RTTM."""
    recordings: dict[str, list[EditSegment]] = {}
    for number, line in numbered_lines(text):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":  # RTTM has comments and other types of lines, too
            continue
        with line_errors(number):
            if len(fields) not in (9, 10):
                raise ValueError(f"it has {len(fields)} fields, and must have 9 or 10.")
            recording, label = decode_field(fields[1]), decode_field(fields[7])
            start, length = float(fields[3]), float(fields[4])
            end = start if 0 <= length <= _POINT_SECONDS else start + length
            score = 1.0 if fields[8] == MISSING_FIELD else float(fields[8])
            recordings.setdefault(recording, []).append(EditSegment.from_label(label, start, end, score))
    return recordings
