"""Rows of one modality, read on demand from an array, a sparse matrix, a file of arrays or a sequence of samples."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Subset

from .._utils.sizes import nbytes_of
from .numeric import ACCEPTED, dates_to_seconds, to_numbers, with_nan

Shape = tuple[int, ...]
# In bytes: rows are read together with those between them if these fit.
_MAX_SPAN = 2**24


class Source(Protocol):
    """Rows of one modality that are read on demand.

    Attributes
    ----------
    shape : tuple of int
        Number of rows and shape of one row.
    is_lazy : bool
        Whether the rows are too large for memory, so that they are read batch by batch.
    """

    shape: Shape
    is_lazy: bool

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows as numbers, with NaN for missing values. An index array gives a copy, a slice may give a view."""
        ...


class ArrayRows:
    """Rows of an array, or of some of its columns.

    Parameters
    ----------
    array : ndarray of shape (n_rows, ...)
        Numbers or dates.
    columns : int ndarray or None, default=None
        Columns to read, None for all.
    mask : bool ndarray or None, default=None
        True where `array` has no value.
    """

    def __init__(self, array: np.ndarray, columns: np.ndarray | None = None, mask: np.ndarray | None = None) -> None:
        self.shape = array.shape if columns is None else (len(array), len(columns))
        self.is_lazy = _is_memory_map(array)
        self._array, self._columns = _select_columns(array, columns)
        self._mask = None if mask is None else _select_columns(mask, columns)[0]

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows as numbers, with NaN for missing values."""
        part = _take(self._array, rows, self._columns)
        if part.dtype.kind in "mM":
            part = dates_to_seconds(part)
        return part if self._mask is None else np.where(_take(self._mask, rows, self._columns), np.nan, part)


class SparseRows:
    """Rows of a sparse matrix, which are made dense as they are read.

    Parameters
    ----------
    matrix : sparse array of shape (n_rows, n_columns)
        Numbers in CSR format.
    columns : int ndarray or None, default=None
        Columns to read, None for all.
    shape : tuple of int, default=None
        Number of rows and shape of one row, None for vectors.

    Attributes
    ----------
    matrix : sparse array
        The columns.
    """

    is_lazy = True

    def __init__(self, matrix: Any, columns: np.ndarray | None = None, shape: Shape | None = None) -> None:
        is_whole = columns is None or np.array_equal(columns, np.arange(matrix.shape[1]))
        self.matrix = matrix if is_whole else matrix[:, columns]
        self.shape = shape or self.matrix.shape

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows as a dense array."""
        return self.matrix[rows].toarray()


class StoredArray:
    """Rows of an array on disk, which are read by number.

    It supports ``len``, `shape`, `dtype` and indexing by rows. Indexing reads them into memory.

    Parameters
    ----------
    array : array-like of shape (n_stored_rows, ...)
        Array of h5py or zarr, memory map, or another object with `shape`, `dtype` and indexing by a slice and by
        increasing numbers.
    rows : int ndarray of shape (n_rows,), default=None
        Its rows; -1 stands for a row that is absent. `None` means all.

    Attributes
    ----------
    shape : tuple of int
        Number of rows and shape of one row.
    dtype : dtype
        Type of the values. It is float32 if rows are absent and the stored type has no NaN.
    """

    def __init__(self, array: Any, rows: np.ndarray | None = None) -> None:
        self.array = array
        self.rows = np.arange(array.shape[0]) if rows is None else rows
        self.shape: Shape = (len(self.rows), *array.shape[1:])
        lacks_rows = bool((self.rows < 0).any())
        self.dtype = np.dtype(np.float32) if lacks_rows and array.dtype.kind != "f" else np.dtype(array.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __sizeof__(self) -> int:
        # Arrays on disk are sent as references, but numpy pickles the values of a memory map.
        return object.__sizeof__(self) + nbytes_of([self.rows, self.array if isinstance(self.array, np.ndarray) else 0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        numbers = self.rows[rows]
        if numbers.ndim == 0:
            return self[[rows]][0]
        block = np.full((len(numbers), *self.shape[1:]), np.nan if self.dtype.kind == "f" else 0, self.dtype)
        is_present = numbers >= 0
        if is_present.any():
            block[is_present] = _read_rows(self.array, numbers[is_present])
        return block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def take(self, rows: Any) -> StoredArray:
        """Return some of the rows without reading them."""
        return StoredArray(self.array, self.rows[rows])


class StoredRows:
    """Rows of one modality in an array on disk, in the form of `Source`.

    Parameters
    ----------
    array : StoredArray
        The array.
    """

    def __init__(self, array: StoredArray) -> None:
        if array.dtype.kind not in "biuf":
            raise ValueError(f"an array on disk has values of type {array.dtype}, expected numbers. {ACCEPTED}")
        self._array = array
        self.shape: Shape = array.shape
        # Compressed chunks are read again for each batch, so an array of HDF5 or zarr is held if memory allows.
        self.is_lazy = not is_chunked(array.array)

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows as numbers, with NaN for missing values."""
        return self._array[rows]


def is_stored(block: Any) -> bool:
    """Return whether a block is an array on disk whose rows can be read alone."""
    return isinstance(block, StoredArray) or is_chunked(block)


def is_chunked(block: Any) -> bool:
    """Return whether a block is an array of h5py, zarr or a like library, which have an attribute `chunks`."""
    return all(hasattr(block, name) for name in ("chunks", "shape", "dtype", "__getitem__"))


def as_stored(block: Any) -> StoredArray:
    """Return an array on disk as `StoredArray`."""
    return block if isinstance(block, StoredArray) else StoredArray(block)


class Samples:
    """Samples of several modalities, such as the items of a map-style Dataset.

    Parameters
    ----------
    items : sequence
        One item per row: a dict of arrays, or a tuple or list of arrays, which get the names ``x0``, ``x1``, ...
        Targets are left out: every int, bool and str of a dict, or the last one of a tuple. None marks an absent
        modality.
    shapes : dict of str to tuple of int, default=None
        Shape of one sample of each modality. None takes them from the items.
    """

    def __init__(self, items: Any, shapes: Mapping[str, Shape] | None = None) -> None:
        if not len(items):
            raise ValueError("X has no samples: at least one is required.")
        self._items = items
        self._shapes = {name: self._find_shape(name) for name in _parts(items[0])} if shapes is None else shapes
        self._rows, self._blocks = b"", {name: np.empty(0) for name in self._shapes}

    def by_modality(self) -> dict[str, SampleRows]:
        """Return the rows of each modality."""
        return {name: SampleRows(self, name, (len(self._items), *shape)) for name, shape in self._shapes.items()}

    def take(self, rows: np.ndarray) -> Samples:
        """Return some of the samples."""
        return Samples(Subset(self._items, np.arange(len(self._items))[rows].tolist()), self._shapes)

    def read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows of one modality. The rows read last are kept, because other modalities are read next."""
        numbers = np.arange(len(self._items))[rows]
        if self._rows != numbers.tobytes():
            parts = [_parts(self._items[number]) for number in numbers.tolist()]
            self._blocks = {key: self._stack(key, parts, numbers) for key in self._shapes}
            self._rows = numbers.tobytes()
        return self._blocks[name].copy()

    def _find_shape(self, name: str) -> Shape:
        """Return the shape of one modality in the first item that has it."""
        for number in range(len(self._items)):
            if (value := _parts(self._items[number]).get(name)) is not None:
                shape: Shape = np.shape(to_numbers(value)[0])
                if not shape:
                    raise ValueError(f"modality {name!r} is a single number per sample: make it an array of length 1.")
                return shape
        raise ValueError(f"modality {name!r} is None in every sample: leave it out.")

    def _stack(self, name: str, parts: Sequence[Mapping[str, Any]], numbers: np.ndarray) -> np.ndarray:
        shape, arrays = self._shapes[name], []
        for number, part in zip(numbers.tolist(), parts, strict=True):
            array = np.full(shape, np.nan) if part.get(name) is None else np.asarray(with_nan(part[name]))
            if array.shape != shape:
                raise ValueError(
                    f"modality {name!r} has shape {array.shape} in sample {number}, expected {shape} as in the first "
                    "one: pad, crop or resize it in the Dataset."
                )
            arrays.append(array)
        return np.stack(arrays) if arrays else np.empty((0, *shape))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": b"", "_blocks": {}}


class SampleRows:
    """Rows of one modality of `Samples`.

    Parameters
    ----------
    samples : Samples
        Samples of all modalities.
    name : str
        The modality.
    shape : tuple of int
        Number of rows and shape of one row.
    """

    is_lazy = False

    def __init__(self, samples: Samples, name: str, shape: Shape) -> None:
        self.samples, self.name, self.shape = samples, name, shape

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows as numbers, with NaN for missing values."""
        return self.samples.read(self.name, rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.read(slice(None)) if dtype is None else self.read(slice(None)).astype(dtype)


def _parts(item: Any) -> Mapping[str, Any]:
    """Return the arrays of one sample by the names of their modalities."""
    if isinstance(item, Mapping):
        return {name: value for name, value in item.items() if not _is_label(value)}
    if not isinstance(item, tuple | list):
        return {"x0": item}
    arrays = item[:-1] if len(item) > 1 and _is_label(item[-1]) else item
    if len(arrays) == 1 and isinstance(arrays[0], Mapping | tuple):
        return _parts(arrays[0])
    return {f"x{number}": array for number, array in enumerate(arrays)}


def _is_label(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.ndim == 0 and not value.is_floating_point()
    return np.ndim(value) == 0 and isinstance(value, str | bytes | int | np.integer | np.bool_)


def _take(array: np.ndarray, rows: slice | np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    """Return rows of an array, reading the listed columns alone."""
    if columns is None:
        return array[rows]
    if isinstance(rows, np.ndarray):
        return array[rows[:, None], columns]
    # In C order `take` is four times as fast; in other orders it would copy all columns first.
    return array[rows].take(columns, axis=1) if array.flags.c_contiguous else array[rows, columns]


def _select_columns(array: np.ndarray, columns: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a view of the columns if a slice can give one, else the array and the column numbers."""
    if columns is None:
        return array, None
    step = int(columns[1] - columns[0]) if len(columns) > 1 else 1
    if step > 0 and (np.diff(columns) == step).all():
        return array[:, columns[0] : columns[-1] + 1 : step], None
    return array, columns


def _is_memory_map(array: Any) -> bool:
    # scikit-learn's validation strips the memmap class but keeps the chain of bases.
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def _read_rows(array: Any, numbers: np.ndarray) -> np.ndarray:
    """Return rows in the order of their numbers, which may repeat."""
    unique, positions = np.unique(numbers, return_inverse=True)
    first, stop = int(unique[0]), int(unique[-1]) + 1
    row_bytes = np.dtype(array.dtype).itemsize * math.prod(array.shape[1:])
    is_dense = stop - first <= 2 * len(unique) and (stop - first) * row_bytes <= _MAX_SPAN
    if stop - first == len(unique) or is_dense:
        return np.asarray(array[first:stop])[numbers - first]
    # zarr reads listed rows by `oindex`; h5py only in increasing order.
    part = array.oindex[unique] if hasattr(array, "oindex") else array[unique]
    return np.asarray(part)[positions]
