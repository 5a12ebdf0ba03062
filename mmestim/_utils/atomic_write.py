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
        Path of the file. An existing file is replaced and keeps its permissions; a link keeps its target. A device or
        pipe cannot be replaced, so it is written directly.
    parts : iterable of bytes-like
        Content of the file, in order.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If `path` is a folder.
    OSError
        If the content cannot be written. The error names the file.
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
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as file:
                file.writelines(parts)
            return
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if os.path.isfile(target):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except BaseException as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        # An error of writing, such as that of a full disk, names no file.
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
