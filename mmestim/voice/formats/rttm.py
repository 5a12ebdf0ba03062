"""RTTM files."""

from __future__ import annotations

from urllib.parse import unquote

from ..localization import EditSegment
from .lines import _MISSING, _field, _line, _lines


def _write_rttm(recordings, duration):
    return "".join(
        f"SPEAKER {_field(name)} 1 {segment.start:.6f} {segment.duration:.6f} <NA> <NA> {_field(segment.label)} "
        f"{segment.score!r} <NA>\n"
        for name, segments in recordings.items()
        for segment in segments
    )


def _read_rttm(text, name):
    recordings: dict[str, list[EditSegment]] = {}
    for number, line in _lines(text):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":  # comments, and what else RTTM knows of
            continue
        with _line(number):
            if len(fields) not in (9, 10):
                raise ValueError(f"it has {len(fields)} fields, and must have 9 or 10.")
            recording, label = ("" if field == _MISSING else unquote(field) for field in (fields[1], fields[7]))
            start, length = float(fields[3]), float(fields[4])
            score = 1.0 if fields[8] == _MISSING else float(fields[8])
            recordings.setdefault(recording, []).append(EditSegment.from_label(label, start, start + length, score))
    return recordings
