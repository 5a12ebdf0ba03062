"""Lines, fields, cells and marks of the text formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from ..segments import EditSegment

MISSING_FIELD = "<NA>"
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f%]")
_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f%]")
# Spreadsheets run a cell that begins with one of these as a formula; an apostrophe before it prevents that.
_FORMULA, _ESCAPED_FORMULA = re.compile(r"'*[=+\-@\t\r\n]"), re.compile(r"'+[=+\-@\t\r\n]")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Pair each line of a text with its number, from 1."""
    # Not splitlines, which also splits at characters that labels may contain.
    return enumerate(re.split(r"\r\n|\n|\r", text), 1)


@contextmanager
def line_errors(number: int) -> Iterator[None]:
    """Add the number of a line to the errors that reading it raises."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"line {number}: {error}") from error


def format_mark(segment: EditSegment) -> str:
    """Format a segment's label and score as one text, such as ``cut 0.93``."""
    return f"{segment.label} {segment.score:.6g}"


def parse_mark(text: str, start: float, end: float) -> EditSegment:
    """Return the segment of a text such as ``cut 0.93``, or of a label alone."""
    label, _, score = text.rpartition(" ")
    if label and _NUMBER.fullmatch(score):
        return EditSegment.from_label(label, start, end, float(score))
    return EditSegment.from_label(text.strip(), start, end)


def encode_mark(text: str) -> str:
    """Percent-encode control characters, which would end a line or a field."""
    return _percent_encode(text, _CONTROL_CHARACTERS)


def encode_field(text: str) -> str:
    """Percent-encode a text as one word, because white space separates fields."""
    return "%3CNA%3E" if text == MISSING_FIELD else _percent_encode(text, _CONTROL_OR_SPACE) or MISSING_FIELD


def decode_field(field: str) -> str:
    """Return the text of a word from `encode_field`."""
    return "" if field == MISSING_FIELD else unquote(field)


def _percent_encode(text: str, unsafe: re.Pattern[str]) -> str:
    return unsafe.sub(lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), text)


def escape_cell(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_cell(cell: str) -> str:
    """Return the text of a cell from `escape_cell`."""
    return cell[1:] if _ESCAPED_FORMULA.match(cell) else cell


def recording_name(path: str, channel: int | str | None) -> str:
    """Return the name of a recording, a file or one of its channels."""
    return f"{path}, channel {channel}" if channel else path
