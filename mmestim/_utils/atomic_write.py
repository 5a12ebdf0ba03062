"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable
from typing import Any


def write_atomically(path: str | os.PathLike[str], parts: Iterable[Any]) -> None:
    """Write a file whole or, should anything go wrong, leave what was there.

    Parameters
    ----------
    path : path-like
        Where to; what is there is replaced and keeps its permissions, and of a link what it points to.
    parts : iterable of bytes-like
        The content.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    # Here, because later errors would name a file that nobody asked for.
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
