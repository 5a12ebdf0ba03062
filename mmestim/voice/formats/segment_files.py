"""Segments in files that other programs read, and back: JSON, CSV, RTTM, Praat TextGrid, Audacity labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, TextIO

from ..._utils.validation import check_choice, check_number
from ..localization import EditSegment
from ..segments import in_order
from .audacity import _read_audacity, _write_audacity
from .json_csv import _read_csv, _read_json, _write_csv, _write_json
from .rttm import _read_rttm, _write_rttm
from .textgrid import read_textgrid, write_textgrid

Recordings = Mapping[str, Sequence[EditSegment]]

_SUFFIXES = {".json": "json", ".csv": "csv", ".rttm": "rttm", ".textgrid": "textgrid", ".txt": "audacity"}


def write_segments(
    segments: Recordings | Sequence[EditSegment],
    file: str | os.PathLike[str] | TextIO,
    format: str | None = None,
    *,
    duration: float | None = None,
) -> None:
    """Write segments of one recording or of several.

    Parameters
    ----------
    segments : list of EditSegment, or dict of str to list of EditSegment
        Those of one recording, which gets the name of the file without its suffix; or those of several, by
        their names, which only 'json', 'csv' and 'rttm' can hold.
    file : str, path or text file
        Where to write, in UTF-8. A text file should be opened with ``newline=""``.
    format : {'json', 'csv', 'rttm', 'textgrid', 'audacity'}, default=None
        `None` goes by the suffix: .json, .csv, .rttm, .TextGrid, or .txt for 'audacity'.
    duration : float, default=None
        Seconds of the recording: for 'textgrid', which needs it to fit the sound, and no other.

    Raises
    ------
    ValueError
        If the format is not known or cannot hold what is given.

    See Also
    --------
    read_segments : The way back.

    Notes
    -----
    ==========  ============================================================================================
    format      what is in it
    ==========  ============================================================================================
    json        Everything: ``{"version": 1, "recordings": {name: [{"label": ..., ...}]}}``.
    csv         A row for each segment: file, label, category, start, end, score. A recording without any
                segment leaves no trace.
    rttm        A line for each: ``SPEAKER name 1 start duration <NA> <NA> label score <NA>``, times to the
                microsecond; a point has the duration 0.000000. White space and % in names and labels are
                written as in URLs, %20 and %25. No category, no recordings without segments.
    textgrid    For each label a tier of intervals, a tier of points, or both. Intervals of one label that
                overlap, and points at the same moment, are spread over tiers: label, label (2), ... The text
                of each is its label and its score to six digits, such as ``cut 0.93``. No category.
    audacity    Start, end and text, with tabs between, times to the microsecond; start and end of a point
                are the same. The text is as in a TextGrid, with tabs and % as in URLs. No category.
    ==========  ============================================================================================

    Examples
    --------
    >>> import sys
    >>> from mmestim.voice.formats import write_segments
    >>> from mmestim.voice.localization import EditSegment
    >>> segments = [EditSegment.from_label("mix", 1.5, 3.25, 0.8), EditSegment.from_label("cut", 4.0, score=0.93)]
    >>> write_segments({"interview": segments}, sys.stdout, "rttm")
    SPEAKER interview 1 1.500000 1.750000 <NA> <NA> mix 0.8 <NA>
    SPEAKER interview 1 4.000000 0.000000 <NA> <NA> cut 0.93 <NA>
    """
    format = _resolved(format, file)
    recordings = segments if isinstance(segments, Mapping) else {_name(file): segments}
    if not _FORMATS[format].holds_many and len(recordings) != 1:
        raise ValueError(f"format={format!r} holds one recording, not {len(recordings)}. Write a file for each.")
    if (duration is not None) != (format == "textgrid"):
        raise ValueError(
            f"duration={duration!r}: format='textgrid' needs the seconds of the recording, others take none."
        )
    if duration is not None:
        check_number("duration", duration, closed=False)
    text = _FORMATS[format].write(recordings, duration)
    if isinstance(file, str | os.PathLike):
        # Names of files need not be valid Unicode; newlines in labels are to stay as they are.
        with open(file, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)
    else:
        file.write(text)


def read_segments(file: str | os.PathLike[str] | TextIO, format: str | None = None) -> dict[str, list[EditSegment]]:
    r"""Read what `write_segments` wrote, or what was made by hand in Praat, Audacity or a spreadsheet.

    Parameters
    ----------
    file : str, path or text file
        Where to read, in UTF-8, or in UTF-16 with a byte order mark as Praat writes it.
    format : {'json', 'csv', 'rttm', 'textgrid', 'audacity'}, default=None
        `None` goes by the suffix: .json, .csv, .rttm, .TextGrid, or .txt for 'audacity'.

    Returns
    -------
    dict of str to list of EditSegment
        The segments of each recording, in the order of time. The recording of a TextGrid or of Audacity's labels
        has the name of the file without its suffix. Where the format has no category it is that of the
        taxonomy, where a text has no number at its end, or a line no score, the score is 1.

    Raises
    ------
    ValueError
        If the file is not of the format; the message names the line or the place.

    See Also
    --------
    write_segments : The formats.

    Examples
    --------
    >>> import io
    >>> from mmestim.voice.formats import read_segments
    >>> by_hand = io.StringIO("1.5\t3.25\tmix\n4.0\t4.0\tcut 0.93\n")
    >>> read_segments(by_hand, "audacity")["recording"][1]
    EditSegment(label='cut', category='temporal', start=4.0, end=4.0, score=0.93)
    """
    format = _resolved(format, file)
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as stream:
            content: Any = stream.read()
    else:
        content = file.read()
    try:
        recordings = _FORMATS[format].read(_decoded(content), _name(file))
    except _UNREADABLE as error:
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ValueError(f"{_shown(file)} cannot be read as {format}: {reason}") from error
    return {name: in_order(found) for name, found in recordings.items()}


def _resolved(format, file):
    if format is not None:
        check_choice("format", format, _FORMATS)
        return format
    suffix = PurePath(_path(file)).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"{_shown(file)} has none of the suffixes {list(_SUFFIXES)}. Give format=, one of {list(_FORMATS)}."
        )
    return _SUFFIXES[suffix]


# What comes of a file that is not of the format, whatever is in it.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, csv.Error)


def _decoded(content):
    if isinstance(content, str):
        return content
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    return content.decode("utf-8-sig", errors="surrogateescape")


def _path(file):
    """Path of a file, also of an open one that has a name."""
    path = file if isinstance(file, str | os.PathLike) else getattr(file, "name", "")
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""


def _name(file):
    return PurePath(_path(file)).stem or "recording"


def _shown(file):
    return repr(_path(file) or file)


# JSON and CSV --------------------------------------------------------------------------------------


# Lines: RTTM and Audacity --------------------------------------------------------------------------


class _Format(NamedTuple):
    write: Callable[[Any, float | None], str]
    read: Callable[[str, str], dict[str, list[EditSegment]]]
    holds_many: bool


_FORMATS = {
    "json": _Format(_write_json, _read_json, True),
    "csv": _Format(_write_csv, _read_csv, True),
    "rttm": _Format(_write_rttm, _read_rttm, True),
    "textgrid": _Format(write_textgrid, read_textgrid, False),
    "audacity": _Format(_write_audacity, _read_audacity, False),
}
