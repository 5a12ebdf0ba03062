"""JSON and CSV files."""

from __future__ import annotations

import csv
import io
import json

from ..localization import EditSegment
from .lines import _line

_VERSION = 1


_COLUMNS = ("file", "label", "category", "start", "end", "score")


def _write_json(recordings, duration):
    # With escapes: names of files that are no valid Unicode are no valid UTF-8 either.
    plain = {str(name): [vars(segment) for segment in segments] for name, segments in recordings.items()}
    return json.dumps({"version": _VERSION, "recordings": plain}, indent=1) + "\n"


def _read_json(text, name):
    content = json.loads(text)
    if content["version"] != _VERSION:
        raise ValueError(f"it has version {content['version']!r}, and this release reads {_VERSION}: use a later one.")
    recordings = content["recordings"].items()
    return {recording: [EditSegment(**segment) for segment in segments] for recording, segments in recordings}


def _write_csv(recordings, duration):
    text = io.StringIO()
    rows = csv.DictWriter(text, _COLUMNS)
    rows.writeheader()
    for name, segments in recordings.items():
        rows.writerows({"file": name, **vars(segment)} for segment in segments)
    return text.getvalue()


def _read_csv(text, name):
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if absent := [column for column in _COLUMNS if column not in (rows.fieldnames or [])]:
        raise ValueError(f"its first line has no {absent[0]!r}. It must have the columns {','.join(_COLUMNS)}.")
    recordings: dict[str, list[EditSegment]] = {}
    for row in rows:
        with _line(rows.line_num):
            segment = EditSegment(**{column: row[column] for column in _COLUMNS[1:]})
        recordings.setdefault(row["file"], []).append(segment)
    return recordings
