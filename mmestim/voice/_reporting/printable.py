"""Escaping of text from files, so that it is safe to print on one line."""

from __future__ import annotations

import unicodedata

# Control and format characters, surrogates that stand for undecodable bytes, and line separators.
_UNPRINTABLE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""Escape characters that end a line or change its direction, as ``\x0a`` or ``\u202e``.

    Parameters
    ----------
    text : str
        A text from outside, such as a file name.

    Returns
    -------
    str
        The text on one line.
    """
    if text.isprintable():  # fast for long texts, such as encoded sound
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNPRINTABLE_CATEGORIES
        else character
        for character in text
    )
