"""Standard output, which may not know all signs that names of files have."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print at once, with escapes for what standard output cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def give(text: str) -> None:
    """Put out what other programs read: the bytes that a file would have, in UTF-8, names of files as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()
