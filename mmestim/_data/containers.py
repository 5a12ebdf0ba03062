"""Containers of X: what is accepted as one table or as a dict of blocks, and what is refused."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterator, Mapping, ValuesView
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, issparse
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import _num_samples
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from .numeric import ACCEPTED, READERS, missing_values, to_numbers
from .sources import ArrayRows, SampleRows, Samples, Source, SparseRows, StoredRows, as_stored, is_stored


class SliceDict(dict[str, Any]):
    """Dict of blocks that splitters and searches of scikit-learn can split by rows.

    >>> import numpy as np
    >>> import pandas as pd
    >>> from mmestim import SliceDict
    >>> X = SliceDict(audio=np.ones((4, 10)), text=pd.DataFrame({"length": [1, 2, 3, 4]}))
    >>> X[[0, 3]]["text"]["length"].tolist()
    [1, 4]

    Blocks are arrays, DataFrames, sparse matrices, masked arrays or tensors. Indexing by a string returns a
    block, and by anything else a `SliceDict` with these rows of all blocks. It differs from skorch's in that its
    blocks may be DataFrames.

    Parameters
    ----------
    **blocks : array-like of shape (n_samples, ...)
        One block per modality, all with the same number of rows.

    Attributes
    ----------
    shape : tuple of int
        Number of rows, as the only axis.

    Raises
    ------
    ValueError
        If the blocks differ in length.
    """

    def __init__(self, **blocks: Any) -> None:
        super().__init__(**blocks)
        check_lengths(blocks)

    def __len__(self) -> int:
        return _num_samples(next(iter(self.values()))) if self.keys() else 0

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        if isinstance(key, tuple):  # scikit-learn asks for X[rows, ...].
            [key] = [part for part in key if part is not Ellipsis]
        if isinstance(key, numbers.Integral):
            raise TypeError(f"SliceDict has no single rows, got the index {key}: use [{key}:{key + 1}].")
        return SliceDict(**take_rows(self, key))

    def __bool__(self) -> bool:
        return bool(self.keys())

    def copy(self) -> SliceDict:
        """Return a dict of the same blocks."""
        return SliceDict(**self)

    @property
    def shape(self) -> tuple[int]:
        """Number of rows, as the only axis."""
        return (len(self),)


def open_container(X: Any) -> Any:
    """Return X as a dict of blocks or as one array-like of rows.

    Parameters
    ----------
    X : object
        The argument X of a public method.

    Returns
    -------
    dict of str to array-like, or array-like
        Blocks by modality for a dict, a list or tuple of arrays, a TensorDataset, another map-style Dataset and a
        sequence of samples. Anything else is returned as it is, sparse matrices in CSR format.

    Raises
    ------
    TypeError
        If X is a path, a DataLoader, an iterator or another object that cannot be read by row.
    """
    if issparse(X):  # Before dicts, because scipy's dok_matrix is one.
        return X.tocsr()
    if isinstance(X, Mapping):
        return X
    _check_is_readable(X)
    if isinstance(X, TensorDataset):
        return _tensor_blocks(X)
    if isinstance(X, Dataset) or _has_samples(X):
        return Samples(X).by_modality()
    if isinstance(X, list | tuple) and X:
        return _open_list(X)
    return X


def open_blocks(X: Mapping[str, Any]) -> dict[str, Source]:
    """Return the blocks of a dict as rows that are read on demand, without copies of numeric blocks."""
    sources = {name: _open_block(name, block) for name, block in X.items()}
    if not sources:
        raise ValueError("X is an empty dict: give one array per modality, such as {'audio': A, 'image': V}.")
    check_lengths(sources)
    return sources


def check_lengths(blocks: Mapping[str, Any]) -> None:
    """Raise ValueError unless all blocks have the same number of rows."""
    lengths = {name: _num_samples(block) for name, block in blocks.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the modalities differ in length: {lengths}. Each needs one row per sample.")


def open_rows(X: Any, y: Any) -> Any:
    """Return any container of X opened, or raise ValueError unless it has as many rows as y."""
    # A list of as many elements as y has rows, such as texts, for the first step of a Pipeline.
    if not isinstance(X, list | tuple) or len(X) != len(y):
        X = open_container(X)
    if isinstance(X, Mapping):
        check_lengths(X)
    n_rows = [_num_samples(block) for block in (X.values() if isinstance(X, Mapping) else [X])][:1]
    if n_rows != [len(y)]:
        raise ValueError(f"inconsistent numbers of samples: {[*n_rows, len(y)]} in X and y.")
    return X


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Return some rows of an array-like or of a dict of blocks."""
    if issparse(X):
        flat = X.reshape(X.shape[0], -1).tocsr()[rows]
        return flat if X.ndim == 2 else coo_array(flat).reshape(flat.shape[0], *X.shape[1:])
    if is_stored(X):
        return as_stored(X).take(rows)
    if isinstance(X, Dataset):
        return Subset(X, np.arange(_num_samples(X))[rows].tolist())
    if not isinstance(X, Mapping):
        return X[rows] if isinstance(X, torch.Tensor | np.ndarray) else _safe_indexing(X, rows)
    if samples := [block.samples for block in X.values() if isinstance(block, SampleRows)]:
        return samples[0].take(rows).by_modality()
    return {name: take_rows(block, rows) for name, block in X.items()}


def present_rows(block: Any) -> np.ndarray:
    """Return the numbers of the rows of a block, such as an array or text, that are not missing as a whole."""
    if issparse(block):
        coordinates = block.tocoo()
        n_missing = np.bincount(coordinates.coords[0][np.isnan(coordinates.data)], minlength=block.shape[0])
        return np.flatnonzero(n_missing < math.prod(block.shape[1:]))
    try:
        values, mask = to_numbers(block)
        array = check_array(values, allow_nd=True, ensure_2d=False, ensure_all_finite=False)
    except (TypeError, ValueError):  # Text, which some classifiers accept.
        return np.arange(_num_samples(block))
    missing = missing_values(array, mask)
    return np.flatnonzero(~missing.reshape(len(missing), -1).all(axis=1))


def check_is_no_list_of_rows(X: Any, y: Any, n_rows: int) -> None:
    """Raise ValueError if X is a list of arrays that are meant as rows, because their number is that of y."""
    if isinstance(X, list | tuple) and y is not None and len(X) == _num_samples(y) != n_rows:
        raise ValueError(
            f"X is a list of {len(X)} arrays, which count as one block per modality, not as rows: join rows by "
            f"np.stack. {ACCEPTED}"
        )


def _open_block(name: str, block: Any) -> Source:
    shape = block.shape if issparse(block) and block.ndim > 2 else None
    try:
        _check_is_readable(block)
        if isinstance(block, Dataset):
            block = _only_block(block)
        if isinstance(block, SampleRows):
            return block
        if is_stored(block):
            return _open_stored(block)
        values, mask = to_numbers(block if shape is None else block.reshape(shape[0], -1))
        array = check_array(values, accept_sparse="csr", allow_nd=True, ensure_2d=False, ensure_all_finite=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"modality {name!r}: {error}") from error
    if array.ndim < 2:
        raise ValueError(f"modality {name!r} has shape {array.shape}: expected (n_samples, ...), 2 or more axes.")
    return SparseRows(array, shape=shape) if issparse(array) else ArrayRows(array, mask=mask)


def _open_stored(block: Any) -> StoredRows:
    if len(block.shape) < 2:
        raise ValueError(f"it has shape {tuple(block.shape)}: expected (n_samples, ...), 2 or more axes.")
    return StoredRows(as_stored(block))


def _only_block(dataset: Dataset[Any]) -> Any:
    blocks = list(open_container(dataset).values())
    if len(blocks) > 1:
        raise ValueError(f"this Dataset has {len(blocks)} arrays per sample: pass it as X itself.")
    return blocks[0]


def _check_is_readable(X: Any) -> None:
    """Raise TypeError if X, or a block, is a path, or an object whose rows cannot be read by number."""
    if isinstance(X, str | bytes | os.PathLike):
        raise TypeError(f"{X!r} is a path or string: {READERS}")
    if isinstance(X, DataLoader | IterableDataset):
        raise TypeError(
            f"a {type(X).__name__} yields rows in an order of its own. Pass a map-style Dataset as X, and its targets "
            f"as y. {ACCEPTED}"
        )
    if isinstance(X, Iterator | ValuesView):
        raise TypeError(f"a {type(X).__name__} has no rows that are read by number. {ACCEPTED}")


def _tensor_blocks(dataset: TensorDataset) -> dict[str, torch.Tensor]:
    """Return the tensors of a TensorDataset as blocks, without targets in the last one."""
    tensors = list(dataset.tensors)
    if len(tensors) > 1 and tensors[-1].ndim == 1 and not tensors[-1].is_floating_point():
        tensors.pop()
    for number, tensor in enumerate(tensors):
        if tensor.ndim < 2:
            raise ValueError(
                f"tensor {number} of the TensorDataset has shape {tuple(tensor.shape)}: a block needs 2 or more axes, "
                "such as those of tensor.reshape(-1, 1). Only the last tensor may hold targets, as integers, and they "
                "are passed as y."
            )
    return _numbered(tensors)


def _open_list(X: list[Any] | tuple[Any, ...]) -> Any:
    """Return a list of blocks as a dict, and a list of rows as it is."""
    are_blocks = [getattr(block, "ndim", 0) > 1 for block in X]
    if not any(are_blocks):
        return X
    if not all(are_blocks):
        raise ValueError(
            f"element {are_blocks.index(False)} of X has fewer than 2 axes, but others are blocks of shape "
            f"(n_samples, ...): reshape it to (n_samples, 1). {ACCEPTED}"
        )
    return _numbered(X)


def _has_samples(X: Any) -> bool:
    """Return whether X is a sequence of dicts or tuples of arrays, rather than of rows or blocks."""
    is_sequence = hasattr(X, "__getitem__") and hasattr(X, "__len__") and not hasattr(X, "shape")
    return is_sequence and len(X) > 0 and _is_sample(X[0])


def _is_sample(item: Any) -> bool:
    if isinstance(item, Mapping):
        return not issparse(item)
    if not isinstance(item, list | tuple):
        return False
    return any(_is_sample(part) or getattr(part, "ndim", 0) > 0 for part in item)


def _numbered(blocks: list[Any] | tuple[Any, ...]) -> dict[str, Any]:
    return {f"x{number}": block for number, block in enumerate(blocks)}
