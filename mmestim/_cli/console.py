"""Writing to standard output, whose encoding may not support every character in a file name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def print_escaped(text: str) -> None:
    """Print a text and flush, with escapes for characters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    with _output_errors():
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def write_utf8(text: str) -> None:
    """Write a text to standard output as UTF-8, with undecodable bytes of file names unchanged."""
    with _output_errors():
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()


def discard_output() -> None:
    """Discard what standard output still holds; otherwise Python would report the error again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _output_errors() -> Iterator[None]:
    """Name standard output in the errors of writing to it, such as that of a full disk."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise OSError(error.errno, error.strerror, "standard output") from error
