"""Segments as tiers of a Praat TextGrid, and as the text of one mark."""

from __future__ import annotations

import re
from itertools import islice

from ..localization import EditSegment
from ..segments import in_order

# Seconds by which a segment that was rounded may end after the recording.
_ROUNDING = 1e-3
_TIERS = {"IntervalTier": "intervals", "TextTier": "points"}
# What counts in a TextGrid: texts in quotes, numbers and flags that stand by themselves. The rest is for people.
_TOKEN = re.compile(r'"((?:[^"]+|"")*+)"|(?<!\S)(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?!\S)|(?<!\S)<(\w+)>(?!\S)|![^\n]*')


def text_of(segment):
    """Label and score."""
    return f"{segment.label} {segment.score:.6g}"


def parsed(text, start, end):
    """The segment of a text such as ``cut 0.93``, or only ``cut``."""
    label, _, score = text.rpartition(" ")
    if label and re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", score):
        return EditSegment.from_label(label, start, end, float(score))
    return EditSegment.from_label(text.strip(), start, end)


def write_textgrid(recordings, duration):
    """Long text form, as Praat's "Save as text file"."""
    (segments,) = recordings.values()
    end = max([float(duration), *(segment.end for segment in segments)])
    if end > duration + _ROUNDING:
        raise ValueError(
            f"duration={duration!r}, but a segment ends at {end}. Give the seconds of the whole recording."
        )
    # Praat wants a tier, even if there is nothing in it.
    tiers = _tiers(segments) or [("edits", "IntervalTier", [])]
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end!r}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, kind, members) in enumerate(tiers, 1):
        entries = _intervals(members, end) if kind == "IntervalTier" else _points(members)
        lines += [
            f"    item [{number}]:",
            f'        class = "{kind}"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {end!r}",
            f"        {_TIERS[kind]}: size = {len(entries)}",
        ]
        for i, entry in enumerate(entries, 1):
            lines += [f"        {_TIERS[kind]} [{i}]:", *(f"            {field} = {value}" for field, value in entry)]
    return "\n".join(lines) + "\n"


def _tiers(segments):
    """Name, class and segments of each tier: no two of these overlap."""
    tiers = []
    for label in dict.fromkeys(segment.label for segment in segments):
        for kind in _TIERS:
            rows: list[list[EditSegment]] = []
            for segment in in_order(s for s in segments if s.label == label and s.is_point == (kind == "TextTier")):
                free = [row for row in rows if _fits_after(segment, row[-1])]
                if free:
                    free[0].append(segment)
                else:
                    rows.append([segment])
            tiers += [(label if i == 1 else f"{label} ({i})", kind, row) for i, row in enumerate(rows, 1)]
    return tiers


def _fits_after(segment, last):
    return segment.start > last.start if segment.is_point else segment.start >= last.end


def _intervals(segments, until):
    """All of the time: segments, and what is between them without a text."""
    entries, now = [], 0.0
    for segment in segments:
        if segment.start > now:
            entries.append((now, segment.start, ""))
        entries.append((segment.start, segment.end, text_of(segment)))
        now = segment.end
    if now < until:
        entries.append((now, until, ""))
    return [[("xmin", repr(start)), ("xmax", repr(end)), ("text", _quoted(text))] for start, end, text in entries]


def _points(segments):
    return [[("number", repr(segment.start)), ("mark", _quoted(text_of(segment)))] for segment in segments]


def _quoted(text):
    return '"' + text.replace('"', '""') + '"'


def read_textgrid(text, name):
    """Long or short text form."""
    tokens = _tokens(text)

    def take(n):
        taken = list(islice(tokens, n))
        if len(taken) < n:
            raise ValueError("it ends too early.")
        return taken

    if take(2) != ["ooTextFile", "TextGrid"]:
        raise ValueError('it must begin with "ooTextFile" and "TextGrid".')
    _start, _end, tiers = take(3)
    segments: list[EditSegment] = []
    for _ in range(int(take(1)[0]) if tiers == "exists" else 0):
        kind, tier, _start, _end, n_entries = take(5)
        if kind not in _TIERS:
            raise ValueError(f"tier {tier!r} has the class {kind!r}, which is none of {list(_TIERS)}.")
        for _ in range(int(n_entries)):
            *times, mark = take(3 if kind == "IntervalTier" else 2)
            if mark.strip():
                segments.append(parsed(mark, times[0], times[-1]))
    return {name: segments}


def _tokens(text):
    for match in _TOKEN.finditer(text):
        quoted, number, flag = match.groups()
        if quoted is not None:
            yield quoted.replace('""', '"')
        elif number or flag:
            yield float(number) if number else flag
