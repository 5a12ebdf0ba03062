"""Checks of paths, and the error about a clip that cannot be used."""

from __future__ import annotations

import difflib
import itertools
import os
import stat
import unicodedata


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


NO_SAMPLES = "contains no samples. Leave it out, or export it again."


def check_file(path: str) -> None:
    """Raise an AudioError unless the path is a regular file with content."""
    if "://" in path:
        raise AudioError(path, "is a URL, and files must be local. Download it first.")
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(path, f"does not exist{path_suggestion(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise AudioError(path, f"cannot be opened: {getattr(error, 'strerror', error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder. Pass a folder by itself, or a list of the files in it.")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
        raise AudioError(path, "is not a regular file. Copy its content to a file.")
    if status.st_size == 0:
        raise AudioError(path, "is an empty file, of 0 bytes. Download or export it again.")


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
