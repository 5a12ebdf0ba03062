"""Size of objects in memory, from which dask decides whether to send them with each task."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Mapping
from typing import Any

# Items of a list that are measured; a corpus may have millions of paths.
_N_SAMPLED = 1000


def nbytes_of(value: Any) -> int:
    """Return the bytes of the arrays, tensors and texts that an object holds, each counted once.

    Parameters
    ----------
    value : object
        Array, tensor, container, or object with attributes.

    Returns
    -------
    int
        Number of bytes; of long lists an estimate.
    """
    return _nbytes(value, set())


def sizeof_attributes(value: Any) -> int:
    """Return the bytes of an object with its attributes, as its `__sizeof__`; without those that cannot be measured."""
    size = object.__sizeof__(value)
    # An error would stop a task of dask before it starts, and its caller would wait for ever.
    with contextlib.suppress(Exception):
        size += nbytes_of(vars(value))
    return size


def _own_nbytes(value: Any) -> int | None:
    """Return the number of bytes that an array or tensor states, if it does."""
    try:
        size = value.nbytes
    except Exception:  # of any type: a sparse tensor raises a RuntimeError
        return None
    return size if isinstance(size, int) else None


def _nbytes(value: Any, seen: set[int]) -> int:
    if id(value) in seen or isinstance(value, type):
        return 0
    seen.add(id(value))
    if (size := _own_nbytes(value)) is not None:
        return size
    if isinstance(value, str | bytes | int | float | None):
        return sys.getsizeof(value)
    if isinstance(value, Mapping):
        return sum(_nbytes(value[key], seen) for key in value)
    if isinstance(value, list | tuple | set | frozenset):
        sizes = [_nbytes(item, seen) for item in itertools.islice(value, _N_SAMPLED)]
        return round(sum(sizes) * len(value) / max(1, len(sizes)))
    return sum(_nbytes(item, seen) for item in vars(value).values()) if hasattr(value, "__dict__") else 0
