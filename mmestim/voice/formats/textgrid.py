"""Praat TextGrid files: tiers of intervals and of points."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ..segments import EditSegment, sort_segments
from .lines import format_mark, parse_mark

# Seconds by which a segment with rounded times may end after the recording.
_ROUNDING_SECONDS = 1e-3
# Praat's class of tier, and its word for the entries of such a tier.
_TIER_ENTRIES = {"IntervalTier": "intervals", "TextTier": "points"}
# Praat reads quoted texts, free-standing numbers and flags, and skips all other words and comments.
_TOKEN = re.compile(r'"((?:[^"]+|"")*+)"|(?<!\S)(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?!\S)|(?<!\S)<(\w+)>(?!\S)|![^\n]*')

# The fields of one interval or point, with their values as Praat writes them.
_Entry = list[tuple[str, str]]


class _Tier(NamedTuple):
    name: str
    kind: str
    segments: Sequence[EditSegment]  # none overlaps another


def write_textgrid(recordings: Mapping[str, Sequence[EditSegment]], duration: float) -> str:
    """Return the segments of one recording in the long form of Praat's "Save as text file"."""
    (segments,) = recordings.values()
    end = max([float(duration), *(segment.end for segment in segments)])
    if end > duration + _ROUNDING_SECONDS:
        raise ValueError(
            f"duration={duration!r}, but a segment ends at {end}. Give the seconds of the whole recording."
        )
    # Praat requires a tier, even an empty one.
    tiers = _arrange_tiers(segments) or [_Tier("edits", "IntervalTier", [])]
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
    for number, tier in enumerate(tiers, 1):
        is_interval_tier = tier.kind == "IntervalTier"
        entries = _interval_entries(tier.segments, end) if is_interval_tier else _point_entries(tier.segments)
        entry_name = _TIER_ENTRIES[tier.kind]
        lines += [
            f"    item [{number}]:",
            f'        class = "{tier.kind}"',
            f"        name = {_quote(tier.name)}",
            "        xmin = 0",
            f"        xmax = {end!r}",
            f"        {entry_name}: size = {len(entries)}",
        ]
        for i, entry in enumerate(entries, 1):
            lines += [f"        {entry_name} [{i}]:", *(f"            {field} = {value}" for field, value in entry)]
    return "\n".join(lines) + "\n"


def _arrange_tiers(segments: Sequence[EditSegment]) -> list[_Tier]:
    """Arrange segments in as few tiers per label as have no overlaps."""
    tiers: list[_Tier] = []
    for label in dict.fromkeys(segment.label for segment in segments):
        for kind in _TIER_ENTRIES:
            rows: list[list[EditSegment]] = []
            for segment in sort_segments(
                s for s in segments if s.label == label and s.is_point == (kind == "TextTier")
            ):
                free_rows = [row for row in rows if _fits_after(segment, row[-1])]
                if free_rows:
                    free_rows[0].append(segment)
                else:
                    rows.append([segment])
            tiers += [_Tier(label if i == 1 else f"{label} ({i})", kind, row) for i, row in enumerate(rows, 1)]
    return tiers


def _fits_after(segment: EditSegment, last: EditSegment) -> bool:
    return segment.start > last.start if segment.is_point else segment.start >= last.end


def _interval_entries(segments: Sequence[EditSegment], end: float) -> list[_Entry]:
    """Return intervals without a gap: the segments, and intervals without a text between them."""
    intervals, previous_end = [], 0.0
    for segment in segments:
        if segment.start > previous_end:
            intervals.append((previous_end, segment.start, ""))
        intervals.append((segment.start, segment.end, format_mark(segment)))
        previous_end = segment.end
    if previous_end < end:
        intervals.append((previous_end, end, ""))
    return [[("xmin", repr(start)), ("xmax", repr(stop)), ("text", _quote(text))] for start, stop, text in intervals]


def _point_entries(segments: Sequence[EditSegment]) -> list[_Entry]:
    return [[("number", repr(segment.start)), ("mark", _quote(format_mark(segment)))] for segment in segments]


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def read_textgrid(text: str, name: str) -> dict[str, list[EditSegment]]:
    """Return the segments of the one recording in a TextGrid in its long or short text form."""
    tokens = _tokens(text)

    def take(n_tokens: int) -> list[Any]:
        taken = list(islice(tokens, n_tokens))
        if len(taken) < n_tokens:
            raise ValueError("it ends too early.")
        return taken

    if take(2) != ["ooTextFile", "TextGrid"]:
        raise ValueError('it must begin with "ooTextFile" and "TextGrid".')
    _start, _end, tiers_flag = take(3)
    segments: list[EditSegment] = []
    for _ in range(int(take(1)[0]) if tiers_flag == "exists" else 0):
        kind, tier_name, _start, _end, n_entries = take(5)
        if kind not in _TIER_ENTRIES:
            raise ValueError(f"tier {tier_name!r} has the class {kind!r}, which is none of {list(_TIER_ENTRIES)}.")
        for _ in range(int(n_entries)):
            *times, mark = take(3 if kind == "IntervalTier" else 2)
            if mark.strip():
                segments.append(parse_mark(mark, times[0], times[-1]))
    return {name: segments}


def _tokens(text: str) -> Iterator[str | float]:
    for match in _TOKEN.finditer(text):
        quoted, number, flag = match.groups()
        if quoted is not None:
            yield quoted.replace('""', '"')
        elif number or flag:
            yield float(number) if number else flag
