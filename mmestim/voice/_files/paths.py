"""Checks of paths, and the error about a clip that cannot be used."""

from __future__ import annotations

import difflib
import io
import itertools
import os
import stat
import unicodedata
from typing import BinaryIO

import numpy as np


class AudioError(ValueError):
    """Error about a clip that cannot be used.

    Parameters
    ----------
    item : str
        Path of the clip, or its number for a clip that is an array.
    reason : str
        Description of the problem and of the way out.
    """

    def __init__(self, item: str, reason: str) -> None:
        super().__init__(item, reason)  # both, so that the error can be pickled
        self.item = item
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.item}: {self.reason}"


class MissingFileError(AudioError):
    """Error about a file that does not exist where it was looked for."""


NO_SAMPLES = "contains no samples. Leave it out, or export it again."
_EMPTY = "is an empty file, of 0 bytes. Download or export it again."


class PlacedFile:
    """File that errors name as the user did, read where a worker finds it.

    Parameters
    ----------
    name : str
        Path as the user gave it.
    folder : str, default=''
        Folder that a relative path starts from; the working directory if it is empty.
    content : uint8 ndarray, default=None
        Content of the file, if it was sent; `None` opens the file.
    """

    def __init__(self, name: str, folder: str = "", content: np.ndarray | None = None) -> None:
        self.name, self.location, self.content = name, os.path.join(folder, name), content

    def __fspath__(self) -> str:
        return self.name

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + (0 if self.content is None else self.content.nbytes)

    def check(self) -> None:
        """Raise an AudioError unless it is a regular file with content."""
        if self.content is None:
            check_file(self.name, self.location)
        elif not len(self.content):
            raise AudioError(self.name, _EMPTY)

    def open(self) -> BinaryIO:
        """Return the open file, or its content."""
        return open(self.location, "rb") if self.content is None else io.BytesIO(self.content.data)


def check_file(path: str, location: str = "") -> None:
    """Raise an AudioError unless the path is a regular file with content; `location` is where it is, if elsewhere."""
    if "://" in path:
        raise AudioError(path, "is a URL, and files must be local. Download it first.")
    try:
        status = os.stat(location or path)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(path, f"does not exist{path_suggestion(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise AudioError(path, f"cannot be opened: {getattr(error, 'strerror', error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder. Pass a folder by itself, or a list of the files in it.")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
        raise AudioError(path, "is not a regular file. Copy its content to a file.")
    if status.st_size == 0:
        raise AudioError(path, _EMPTY)


def explain_missing(path: str, way_out: str) -> str:
    """Return the reason why a worker did not find a file; `way_out` is advice if this process finds it."""
    if os.path.exists(path):
        return f"exists here, but a worker does not find it. Mount its folder there under the same path, or {way_out}."
    return f"does not exist{path_suggestion(path)}"


def seen_from_here(error: AudioError) -> AudioError:
    """Return an error of a worker with the reason that this process knows, if a file is missing."""
    if not isinstance(error, MissingFileError):
        return error
    return AudioError(error.item, explain_missing(error.item, "pass the clips as arrays, which are sent"))


def path_suggestion(path: str) -> str:
    """Return the end of a sentence that begins with a path and 'does not exist': a similar name, or advice."""
    if os.path.islink(path):
        return f": it is a link to {os.readlink(path)!r}. Correct the link."
    folder, name = os.path.split(path.rstrip(os.sep))
    start = "" if os.path.isabs(path) else f"; it is relative to {os.getcwd()!r}"
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in itertools.islice(entries, 2000)]
    except OSError:
        return f", and neither does the folder {folder!r}. Correct the path{start}."
    similar = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    suggestion = os.path.join(folder, similar[0]) if similar else path
    if suggestion == path:
        return f". Correct the path{start}."
    looks_equal = unicodedata.normalize("NFC", suggestion) == unicodedata.normalize("NFC", path)
    return f". Did you mean {ascii(suggestion) if looks_equal else repr(suggestion)}?"
