"""Fields and line numbers of text files."""

from __future__ import annotations

import re
from contextlib import contextmanager

_MISSING = "<NA>"


def _lines(text):
    # Not splitlines, which also splits at signs that labels may have.
    return enumerate(re.split(r"\r\n|\n|\r", text), 1)


@contextmanager
def _line(number):
    """Errors tell the line."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"line {number}: {error}") from error


_CONTROL = re.compile(r"[\x00-\x1f\x7f%]")


_BLANK = re.compile(r"[\s\x00-\x1f\x7f%]")


def _escaped(text, signs):
    """As in URLs, but for signs that are safe here: %20 for a space."""
    return signs.sub(lambda sign: "".join(f"%{byte:02X}" for byte in sign.group().encode()), text)


def _field(text):
    """A word of a line of RTTM."""
    return "%3CNA%3E" if text == _MISSING else _escaped(text, _BLANK) or _MISSING
