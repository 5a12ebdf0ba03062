"""JSON and CSV files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..segments import EditSegment
from .lines import escape_cell, line_errors, recording_name, unescape_cell

VERSION = 1
_COLUMNS = ("file", "label", "category", "start", "end", "score")


def write_json(recordings: Mapping[str, Sequence[EditSegment]], duration: float | None) -> str:
    """Return the segments of recordings as JSON."""
    # With ASCII escapes, because file names that are not valid Unicode cannot be encoded as UTF-8.
    content = {str(name): [vars(segment) for segment in segments] for name, segments in recordings.items()}
    return json.dumps({"version": VERSION, "recordings": content}, indent=1) + "\n"


def read_json(text: str, name: str) -> dict[str, list[EditSegment]]:
    """Return the segments of each recording in a JSON text."""
    content = json.loads(text)
    if content["version"] != VERSION:
        raise ValueError(
            f"it has version {content['version']!r}, and this release reads {VERSION}. Use a later release."
        )
    if "files" in content:  # the results of a scan
        recordings = {recording_name(file["file"], file["channel"]): file["segments"] for file in content["files"]}
    else:
        recordings = content["recordings"]
    return {recording: [EditSegment(**segment) for segment in segments] for recording, segments in recordings.items()}


def write_csv(recordings: Mapping[str, Sequence[EditSegment]], duration: float | None) -> str:
    """Return the segments of recordings as CSV, one row per segment."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    for name, segments in recordings.items():
        writer.writerows(escape_row({"file": name, **vars(segment)}) for segment in segments)
    return text.getvalue()


def escape_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Escape the texts of a row of a table; numbers may begin with a minus sign."""
    return {column: escape_cell(value) if isinstance(value, str) else value for column, value in row.items()}


def read_csv(text: str, name: str) -> dict[str, list[EditSegment]]:
    """Return the segments of each recording in a CSV text."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [column for column in _COLUMNS if column not in (reader.fieldnames or [])]:
        raise ValueError(f"its first line has no {missing[0]!r}. It must have the columns {','.join(_COLUMNS)}.")
    recordings: dict[str, list[EditSegment]] = {}
    for row in reader:
        if "verdict" in row and not row["label"]:  # the results of a scan have a row for a file without segments
            continue
        with line_errors(reader.line_num):
            fields: dict[str, Any] = {column: unescape_cell(row[column]) for column in _COLUMNS}
            recording = recording_name(fields.pop("file"), row.get("channel"))
            recordings.setdefault(recording, []).append(EditSegment(**fields))
    return recordings
