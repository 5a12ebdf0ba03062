"""Atomic writing of files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable
from typing import Any


def write_atomically(path: str | os.PathLike[str], parts: Iterable[Any]) -> None:
    """Write a file completely or, if an error occurs, leave the old file unchanged.

    Parameters
    ----------
    path : path-like
        Path of the file. An existing file is replaced and keeps its permissions; a link keeps its target.
    parts : iterable of bytes-like
        Content of the file, in order.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If `path` is a folder.
    OSError
        If the content cannot be written.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    # Check these first, because later errors would name the temporary file.
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "No such folder", os.fspath(path))
    temporary = os.path.join(folder, f".{name[:64]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if os.path.isfile(target):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
