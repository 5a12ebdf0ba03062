"""Reading and writing of segment files, in the format that a parameter or the suffix names."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, TextIO

from ..._utils.atomic_write import write_atomically
from ..._utils.segment_formats import SEGMENT_FORMATS, FormatName
from ..._utils.validation import check_choice, check_number
from ..segments import EditSegment, sort_segments
from .audacity import read_audacity, write_audacity
from .json_csv import read_csv, read_json, write_csv, write_json
from .rttm import read_rttm, write_rttm
from .textgrid import read_textgrid, write_textgrid

Recordings = Mapping[str, Sequence[EditSegment]]


class _Functions(NamedTuple):
    write: Callable[[Recordings, Any], str]  # of recordings and a duration
    read: Callable[[str, str], dict[str, list[EditSegment]]]  # of a text and the name of its recording


_FUNCTIONS = {
    "json": _Functions(write_json, read_json),
    "csv": _Functions(write_csv, read_csv),
    "rttm": _Functions(write_rttm, read_rttm),
    "textgrid": _Functions(write_textgrid, read_textgrid),
    "audacity": _Functions(write_audacity, read_audacity),
}
_BY_SUFFIX = {info.suffix.lower(): name for name, info in SEGMENT_FORMATS.items()}
# Errors that the readers raise for a file that is not of their format, whatever it contains.
_FORMAT_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, csv.Error)


def write_segments(
    segments: Recordings | Sequence[EditSegment],
    file: str | os.PathLike[str] | TextIO,
    format: FormatName | None = None,
    *,
    duration: float | None = None,
) -> None:
    """Write the segments of one recording or of several.

    Parameters
    ----------
    segments : list of EditSegment, or dict of str to list of EditSegment
        The segments of one recording, which gets the name of the file without its suffix. A dict has the segments
        of several recordings by their names, which only 'json', 'csv' and 'rttm' can hold.
    file : str, path or text file
        File to write, in UTF-8. A text file should be opened with ``newline=""``.
    format : {'json', 'csv', 'rttm', 'textgrid', 'audacity'}, default=None
        `None` chooses by the suffix: .json, .csv, .rttm, .TextGrid, or .txt for 'audacity'.
    duration : float, default=None
        Duration of the recording in seconds. 'textgrid' requires it; the other formats do not accept it.

    Raises
    ------
    ValueError
        If the format is unknown or cannot hold these recordings, or a duration is missing or not accepted.
    OSError
        If the file cannot be written.

    See Also
    --------
    read_segments : The inverse.

    Notes
    -----
    ==========  ============================================================================================
    format      content
    ==========  ============================================================================================
    json        All fields: ``{"version": 1, "recordings": {name: [{"label": ..., ...}]}}``.
    csv         One row per segment: file, label, category, start, end, score. Texts that a spreadsheet
                would run as formulas, which begin with =, +, -, @, a tab or a line break, have an
                apostrophe before them. Recordings without segments are not in the file.
    rttm        One line per segment: ``SPEAKER name 1 start duration <NA> <NA> label score <NA>``, with
                times to the microsecond. A point has a duration of 0.001, the shortest that other programs
                keep, and segments of at most 0.001 s are read as points. White space and % in names and
                labels are percent-encoded, as %20 and %25. Categories and recordings without segments are
                not in the file.
    textgrid    One tier of intervals, one of points, or both for each label. Intervals of one label that
                overlap, and points at the same moment, are spread over tiers: label, label (2), ... The
                text of each is its label and its score to six digits, such as ``cut 0.93``. Categories are
                not in the file.
    audacity    Start, end and text, separated by tabs, with times to the microsecond. A point has equal
                start and end. The text is that of a TextGrid, with tabs and % percent-encoded. Categories
                are not in the file.
    ==========  ============================================================================================

    Examples
    --------
    >>> import sys
    >>> from mmestim.voice.formats import write_segments
    >>> from mmestim.voice.localization import EditSegment
    >>> segments = [EditSegment.from_label("mix", 1.5, 3.25, 0.8), EditSegment.from_label("cut", 4.0, score=0.93)]
    >>> write_segments({"interview": segments}, sys.stdout, "rttm")
    SPEAKER interview 1 1.500000 1.750000 <NA> <NA> mix 0.8 <NA>
    SPEAKER interview 1 4.000000 0.001000 <NA> <NA> cut 0.93 <NA>
    """
    format = _resolve_format(format, file)
    recordings = segments if isinstance(segments, Mapping) else {_recording_name(file): segments}
    if not SEGMENT_FORMATS[format].holds_many and len(recordings) != 1:
        raise ValueError(
            f"format={format!r} holds one recording, not {len(recordings)}. Write one file for each recording."
        )
    if (duration is not None) != (format == "textgrid"):
        raise ValueError(
            f"duration={duration!r}: format='textgrid' requires the duration of the recording in seconds, and other "
            "formats do not accept it."
        )
    if duration is not None:
        check_number("duration", duration, closed=False)
    text = _FUNCTIONS[format].write(recordings, duration)
    if isinstance(file, str | os.PathLike):
        write_atomically(file, [text.encode("utf-8", "surrogateescape")])  # File names need not be valid Unicode.
    else:
        file.write(text)


def read_segments(
    file: str | os.PathLike[str] | TextIO, format: FormatName | None = None
) -> dict[str, list[EditSegment]]:
    r"""Read segments that `write_segments`, `write_results`, Praat, Audacity or a spreadsheet has written.

    Parameters
    ----------
    file : str, path or text file
        File to read, in UTF-8, or in UTF-16 with a byte order mark as Praat writes it.
    format : {'json', 'csv', 'rttm', 'textgrid', 'audacity'}, default=None
        `None` chooses by the suffix: .json, .csv, .rttm, .TextGrid, or .txt for 'audacity'.

    Returns
    -------
    dict of str to list of EditSegment
        The segments of each recording, sorted by time. The recording of a TextGrid or of an Audacity label track
        has the name of the file without its suffix. In formats without categories, the taxonomy gives the
        category. The score is 1 if a text has no number at its end or a line has no score.

    Raises
    ------
    ValueError
        If the file does not have the format. The message names the line or the place.

    See Also
    --------
    write_segments : Description of the formats.

    Examples
    --------
    >>> import io
    >>> from mmestim.voice.formats import read_segments
    >>> by_hand = io.StringIO("1.5\t3.25\tmix\n4.0\t4.0\tcut 0.93\n")
    >>> read_segments(by_hand, "audacity")["recording"][1]
    EditSegment(label='cut', category='temporal', start=4.0, end=4.0, score=0.93)
    """
    format = _resolve_format(format, file)
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as stream:
            content: str | bytes = stream.read()
    else:
        content = file.read()
    try:
        recordings = _FUNCTIONS[format].read(_decode(content), _recording_name(file))
    except _FORMAT_ERRORS as error:
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ValueError(f"{_display_name(file)} cannot be read as {format}: {reason}") from error
    return {name: sort_segments(segments) for name, segments in recordings.items()}


def _resolve_format(format: FormatName | None, file: Any) -> FormatName:
    if format is not None:
        check_choice("format", format, SEGMENT_FORMATS)
        return format
    suffix = PurePath(_path(file)).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise ValueError(
            f"{_display_name(file)} has none of the suffixes {list(_BY_SUFFIX)}. Give format=, one of "
            f"{list(SEGMENT_FORMATS)}."
        )
    return _BY_SUFFIX[suffix]


def _decode(content: str | bytes) -> str:
    if isinstance(content, str):
        return content
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    return content.decode("utf-8-sig", errors="surrogateescape")


def _path(file: Any) -> str:
    """Return the path of a file, or the name of an open one; empty if there is none."""
    path = file if isinstance(file, str | os.PathLike) else getattr(file, "name", "")
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""


def _recording_name(file: Any) -> str:
    return PurePath(_path(file)).stem or "recording"


def _display_name(file: Any) -> str:
    return repr(_path(file) or file)
