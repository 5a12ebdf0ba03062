"""Writing to standard output, whose encoding may not support every character in a file name."""

from __future__ import annotations

import sys


def print_escaped(text: str) -> None:
    """Print a text and flush, with escapes for characters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def write_utf8(text: str) -> None:
    """Write a text to standard output as UTF-8, with undecodable bytes of file names unchanged."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()
