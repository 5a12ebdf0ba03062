"""Settings of glibc's malloc that keep freed memory in the process during training."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Numbers of the options of mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4

# Largest threshold that glibc reaches by itself after large blocks are freed, in bytes.
_MAX_MMAP_THRESHOLD = 2**25

# Default number of blocks that glibc maps at most.
_DEFAULT_MMAP_MAX = 2**16


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Keep freed memory in the process for reuse, until the context ends.

    Each training step allocates and frees the same hundreds of megabytes. By default glibc returns blocks
    above 32 MiB to the system, which clears and maps every page again: 25 % of the time on a CPU.

    At the end all free memory is returned to the system. The thresholds are then those that glibc would
    have reached by itself. With other C libraries the context has no effect.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _DEFAULT_MMAP_MAX)
        libc.mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _MAX_MMAP_THRESHOLD)
        libc.malloc_trim(0)
