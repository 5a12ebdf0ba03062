"""The C library's memory, which it would take from the system anew for every step of training."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of glibc's mallopt: numbers of options, and what two of them become by themselves once large blocks were freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST_KEPT, _MOST_MAPPED = 2**25, 2**16


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Keep what is freed for the next who asks, until the end.

    Each step of training takes and frees the same hundreds of megabytes. Blocks above 32 MB glibc gives back to the
    system each time, which then has to clear and map every page again: a quarter of the time on a CPU. Afterwards all
    is given back, and blocks count as large as glibc itself would have come to count them. Other C libraries are left
    as they are.
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
        libc.mallopt(_MMAP_MAX, _MOST_MAPPED)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_KEPT)
        libc.malloc_trim(0)
