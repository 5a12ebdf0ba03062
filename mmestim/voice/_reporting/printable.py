"""Text from files that is safe to print on one line."""

from __future__ import annotations

import unicodedata


def printable(name: str) -> str:
    r"""A name of a file with what would break a line, or turn its direction, as ``\x0a`` or ``\u202e``."""
    return "".join(_escaped(sign) if unicodedata.category(sign) in _UNPRINTABLE else sign for sign in name)


# Control and format characters, surrogates that stand for bytes, ends of lines.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _escaped(sign):
    return sign.encode("unicode_escape").decode()
