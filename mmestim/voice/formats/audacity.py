"""Audacity label files."""

from __future__ import annotations

from urllib.parse import unquote

from .lines import _CONTROL, _escaped, _line, _lines
from .textgrid import parsed, text_of


def _write_audacity(recordings, duration):
    (segments,) = recordings.values()
    return "".join(f"{s.start:.6f}\t{s.end:.6f}\t{_escaped(text_of(s), _CONTROL)}\n" for s in segments)


def _read_audacity(text, name):
    segments = []
    for number, line in _lines(text):
        if not line.strip() or line.startswith("\\"):  # the latter has frequencies of the label before
            continue
        with _line(number):
            fields = line.split("\t")
            if len(fields) < 3:
                raise ValueError("it must have start, end and label, with tabs between.")
            segments.append(parsed(unquote(fields[2]), float(fields[0]), float(fields[1])))
    return {name: segments}
