"""Standard input as a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from .paths import AudioError

# Name of the recording in results and errors, instead of the path of the file.
STANDARD_INPUT = "standard input"


@contextmanager
def spool(stream: BinaryIO) -> Iterator[str]:
    """Copy a stream of bytes to a temporary file, which a recording can be read from several times.

    Parameters
    ----------
    stream : binary file
        The stream, such as ``sys.stdin.buffer``.

    Yields
    ------
    path : str
        Path of the file, which is deleted afterwards.

    Raises
    ------
    AudioError
        If the stream is empty.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/standard-input"
        with open(path, "wb") as file:
            shutil.copyfileobj(stream, file)
            if file.tell() == 0:
                raise AudioError(STANDARD_INPUT, "is empty. Redirect a recording to it: mmestim scan - < x.wav.")
        yield path
