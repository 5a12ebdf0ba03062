"""What X is: named groups of columns, their shapes, and rows where one of them is absent."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

# Elements read at a time when a whole block is scanned: 16 MiB of float32.
_CHUNK = 2**22

Modalities = Mapping[str, slice | Sequence[int] | Sequence[str]]
Shapes = Mapping[str, tuple[int, ...]]


def stack_modalities(**blocks: Any) -> tuple[np.ndarray, dict[str, slice], dict[str, tuple[int, ...]]]:
    """One 2-D array from one array per modality.

    The result is the container that every scikit-learn tool understands; pass the other two
    results to an estimator as `modalities` and `shapes`.

    Parameters
    ----------
    **blocks : array-like of shape (n_samples, ...)
        One block per modality, all with the same number of rows. An absent modality is a row of
        NaN in its block.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The blocks side by side, each row flattened.
    modalities : dict of str to slice
        Columns of `X` in each modality, in the order given.
    shapes : dict of str to tuple of int
        Shape of one sample of each block of rank three and above.

    Raises
    ------
    ValueError
        If no block is given, a block has fewer than two dimensions, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim import stack_modalities
    >>> X, modalities, shapes = stack_modalities(audio=np.ones((4, 10)), image=np.zeros((4, 8, 8)))
    >>> X.shape, modalities, shapes
    ((4, 74), {'audio': slice(0, 10, None), 'image': slice(10, 74, None)}, {'image': (8, 8)})
    """
    arrays, shapes = _check_mapping(blocks)
    flat = [array.reshape(len(array), -1) for array in arrays.values()]
    return np.concatenate(flat, axis=1), _slices(arrays), shapes


def check_X(
    estimator: BaseEstimator, X: Any, y: Any = None, *, modalities: Modalities | None = None,
    shapes: Shapes | None = None, reset: bool,
) -> tuple[Blocks, Any]:  # fmt: skip
    """`X` as `Blocks` and `y` checked; with `reset`, the estimator learns its groups from them."""
    if isinstance(X, Mapping):
        arrays, found = _check_mapping(X)
        if reset:
            n_samples, n_features = _size(arrays)
            # scikit-learn checks y, its length and the feature names against an array with our rows.
            _, y = validate_data(estimator, np.zeros((n_samples, 1)), y)
            estimator.n_features_in_ = n_features
            groups = _slices(arrays) if modalities is None else _same_names(modalities, arrays)
            estimator.modalities_ = resolve_modalities(groups, n_features)
            estimator.shapes_ = resolve_shapes(found | dict(shapes or {}), estimator.modalities_)
        _check_blocks(arrays, estimator.modalities_, estimator.shapes_)
        sources: dict[str, tuple[np.ndarray, Any]] = {name: (arrays[name], None) for name in estimator.modalities_}
    else:
        checked = validate_data(
            estimator, X, "no_validation" if y is None and not reset else y, reset=reset, ensure_all_finite=False
        )
        array, y = checked if isinstance(checked, tuple) else (checked, None)
        if reset:
            names = getattr(estimator, "feature_names_in_", None)
            groups = {"x": slice(None)} if modalities is None else modalities
            estimator.modalities_ = resolve_modalities(groups, array.shape[1], names)
            estimator.shapes_ = resolve_shapes(shapes or {}, estimator.modalities_)
        sources = {name: (array, _as_slice(columns)) for name, columns in estimator.modalities_.items()}
    return Blocks(sources, estimator.modalities_, estimator.shapes_), y


def resolve_modalities(
    modalities: Modalities, n_features: int, feature_names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Column numbers of each modality; every column in exactly one."""
    if not isinstance(modalities, Mapping) or not modalities:
        raise TypeError(
            f"modalities={modalities!r}: expected a non-empty dict of name to slice, list of int or list of "
            "column names, or None for a single modality."
        )
    groups = {}
    for name, pick in modalities.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"modalities has the name {name!r}: a name must be a non-empty string.")
        groups[name] = _columns(name, pick, n_features, feature_names)
    owner: dict[int, str] = {}
    for name, columns in groups.items():
        for column in columns.tolist():
            if column in owner:
                raise ValueError(
                    f"modalities overlap: column {_label(column, feature_names)} is in {owner[column]!r} and in "
                    f"{name!r}. A column may belong to one modality only."
                )
            owner[column] = name
    if len(owner) < n_features:
        left = [column for column in range(n_features) if column not in owner]
        raise ValueError(
            f"{len(left)} of {n_features} column(s) belong to no modality, the first is column "
            f"{_label(left[0], feature_names)}. Add them to a modality, or drop them from X."
        )
    return groups


def resolve_shapes(shapes: Shapes, groups: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Per-sample shapes, each checked against the number of columns of its modality."""
    resolved = {}
    for name, shape in shapes.items():
        if name not in groups:
            raise ValueError(f"shapes names {name!r}, which is no modality. The modalities are {list(groups)}.")
        if isinstance(shape, (int, np.integer)) or not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape):
            raise TypeError(f"shapes[{name!r}]={shape!r}: expected a tuple of positive int, such as (64, 32).")
        if int(np.prod(shape)) != len(groups[name]):
            raise ValueError(
                f"shapes[{name!r}]={tuple(shape)} holds {int(np.prod(shape))} values, but modality {name!r} has "
                f"{len(groups[name])} column(s)."
            )
        resolved[name] = tuple(int(n) for n in shape)
    return resolved


class Blocks:
    """The rows of X as float32, one block per modality, read when asked for or held as tensors."""

    def __init__(
        self, sources: Mapping[str, tuple[np.ndarray, Any]], groups: Mapping[str, np.ndarray], shapes: Shapes
    ) -> None:
        self._sources = sources
        self.shapes = {name: tuple(shapes.get(name, (len(columns),))) for name, columns in groups.items()}
        self._tensors: dict[str, torch.Tensor] = {}
        self._present: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(next(iter(self._sources.values()))[0])

    def load(self, max_memory: float, device: torch.device) -> Blocks:
        """Check every row, and hold as tensors on `device` the blocks that fit `max_memory` MiB."""
        budget = max_memory * 2**20
        for name in sorted(self.shapes, key=self._n_bytes):
            tensor = None
            if not _is_memory_map(self._sources[name][0]) and self._n_bytes(name) <= budget:
                budget -= self._n_bytes(name)
                tensor = torch.empty((len(self), *self.shapes[name]))
            present = np.ones(len(self), dtype=bool)
            for rows in self.chunks(name):
                block, present[rows] = self.read(name, rows)
                if tensor is not None:
                    tensor[rows] = torch.from_numpy(block)
            self._present[name] = present
            if tensor is not None:
                self._tensors[name] = tensor.to(device)
        self._check_something_present(np.stack(list(self._present.values())), 0)
        return self

    def present(self, name: str) -> np.ndarray:
        """Boolean mask of the rows that have modality `name`, once `load` has seen them."""
        return self._present[name]

    def is_held(self, name: str) -> bool:
        """Whether modality `name` is a tensor on the device, rather than read batch by batch."""
        return name in self._tensors

    def take(self, name: str, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Rows of modality `name`, which must have been checked before, as one tensor on `device`."""
        if self.is_held(name):
            tensor = self._tensors[name]
            return tensor.index_select(0, rows.to(tensor.device, non_blocking=True))
        block, _ = self.read(name, rows.numpy())
        return torch.from_numpy(block).to(device)

    def chunks(self, name: str) -> Iterator[slice]:
        """Consecutive slices of rows of bounded size, for one pass over modality `name`."""
        step = max(1, _CHUNK // int(np.prod(self.shapes[name])))
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def stream(self, batch_size: int) -> Iterator[tuple[int, dict[str, torch.Tensor], dict[str, np.ndarray]]]:
        """Rows in order, checked as they are read: number of rows, blocks of those present, presence."""
        for start in range(0, len(self), batch_size):
            rows = slice(start, min(start + batch_size, len(self)))
            x, presence = {}, {}
            for name in self.shapes:
                block, present = self.read(name, rows)
                presence[name] = present
                x[name] = torch.from_numpy(block if present.all() else block[present])
            self._check_something_present(np.stack(list(presence.values())), start)
            yield rows.stop - start, x, presence

    def read(self, name: str, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A writable float32 copy of some rows of one modality, absent ones as zeros, and their presence."""
        array, columns = self._sources[name]
        if isinstance(columns, slice):
            part = array[rows, columns]
        else:
            part = array[rows] if columns is None else array[rows][:, columns]
        with np.errstate(over="ignore", invalid="ignore"):
            # A slice of rows is a view of the caller's data; an index array has made a copy already.
            block = part.astype(np.float32, order="C", copy=isinstance(rows, slice)).reshape(len(part), -1)
            suspect = not np.isfinite(block.sum())
        present = np.ones(len(block), dtype=bool)
        if suspect:
            missing = np.isnan(block)
            present = ~missing.all(axis=1)
            self._check_values(name, block, missing, present, rows)
            block[~present] = 0
        return block.reshape(len(block), *self.shapes[name]), present

    def _check_values(self, name, block, missing, present, rows):
        half = missing.any(axis=1) & present
        infinite = np.isinf(block).any(axis=1)
        if not (half | infinite).any():
            return
        at = int(np.argmax(half | infinite))
        row = int(np.arange(len(self))[rows][at])
        if infinite[at]:
            raise ValueError(
                f"modality {name!r} has infinity or a value too large for float32 in row {row}. Input X must be "
                "finite; clip or scale the column, or set the whole block of the row to NaN if it is absent."
            )
        cells = f"{int(missing[at].sum())} of {missing.shape[1]} values"
        raise ValueError(
            f"Input X contains NaN: modality {name!r} in row {row} has NaN in {cells}. A modality is absent only "
            "where all its values are NaN: impute the missing ones, or set the whole block of the row to NaN."
        )

    def _check_something_present(self, presence, offset):
        nothing = ~presence.any(axis=0)
        if nothing.any():
            row = offset + int(np.argmax(nothing))
            raise ValueError(
                f"Input X contains NaN: row {row} has nothing but NaN in every modality ({', '.join(self.shapes)}). "
                "At least one modality must be present: drop the row, or impute it."
            )

    def _n_bytes(self, name):
        return 4 * len(self) * int(np.prod(self.shapes[name]))


def _columns(name, pick, n_features, feature_names):
    every = np.arange(n_features)
    if isinstance(pick, slice):
        ends = [end for end in (pick.start, pick.stop) if end is not None]
        if any(end > n_features or end < -n_features for end in ends):
            raise ValueError(
                f"modalities[{name!r}]={pick} reaches past the last column: X has {n_features} feature(s)."
            )
        columns = every[pick]
    elif isinstance(pick, (str, int)) or not hasattr(pick, "__len__"):
        raise TypeError(f"modalities[{name!r}]={pick!r}: expected a slice, a list of int or a list of column names.")
    elif len(pick) and all(isinstance(column, str) for column in pick):
        columns = _named_columns(name, pick, feature_names)
    else:
        columns = np.asarray(pick)
        if columns.size and (columns.ndim != 1 or columns.dtype.kind not in "iu"):
            raise TypeError(f"modalities[{name!r}]={pick!r}: expected a slice, a list of int or of column names.")
        columns = columns.astype(np.intp)
        if columns.size and (columns.max() >= n_features or columns.min() < -n_features):
            raise ValueError(
                f"modalities[{name!r}] asks for column {columns[np.abs(columns).argmax()]}: X has {n_features} feature(s)."
            )
        columns = every[columns]
    if columns.size == 0:
        raise ValueError(f"modalities[{name!r}]={pick!r} selects no column; X has {n_features} feature(s).")
    if len(np.unique(columns)) < len(columns):
        raise ValueError(f"modalities[{name!r}] names a column twice.")
    return columns


def _named_columns(name, pick, feature_names):
    if feature_names is None:
        raise ValueError(
            f"modalities[{name!r}] gives column names, but X has none. Pass a DataFrame whose column names are all "
            "strings (an earlier Pipeline step may drop them: use set_output(transform='pandas')), or give slices."
        )
    position = {column: i for i, column in enumerate(feature_names)}
    if unknown := [column for column in pick if column not in position]:
        raise ValueError(f"modalities[{name!r}]: X has no column {unknown[0]!r}. Its columns begin {list(position)[:5]}.")
    return np.array([position[column] for column in pick])


def _as_slice(columns):
    """The slice equal to `columns` where there is one: slicing gives a view, indexing a copy."""
    step = int(columns[1] - columns[0]) if len(columns) > 1 else 1
    if step > 0 and (np.diff(columns) == step).all():
        return slice(int(columns[0]), int(columns[-1]) + 1, step)
    return columns


def _check_mapping(X):
    if not dict(X.items()):
        raise ValueError("X is an empty dict: give one array per modality, such as {'audio': A, 'image': V}.")
    arrays = {}
    for name, block in X.items():
        array = check_array(block, allow_nd=True, ensure_2d=False, ensure_all_finite=False, input_name=str(name))
        if array.ndim < 2:
            raise ValueError(f"modality {name!r} has shape {array.shape}: expected (n_samples, ...) with rank 2 or more.")
        arrays[name] = array
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the modalities differ in length: {lengths}. Each needs one row per sample.")
    return arrays, {name: array.shape[1:] for name, array in arrays.items() if array.ndim > 2}


def _slices(arrays):
    ends = np.cumsum([int(np.prod(array.shape[1:])) for array in arrays.values()]).tolist()
    return {name: slice(start, end) for name, start, end in zip(arrays, [0, *ends], ends, strict=False)}


def _size(arrays):
    return len(next(iter(arrays.values()))), sum(int(np.prod(array.shape[1:])) for array in arrays.values())


def _same_names(modalities, arrays):
    if set(modalities) != set(arrays):
        raise ValueError(
            f"X is a dict with the modalities {list(arrays)}, but modalities names {list(modalities)}. "
            "Leave modalities=None: a dict names its own."
        )
    return modalities


def _check_blocks(arrays, groups, shapes):
    if set(arrays) != set(groups):
        raise ValueError(
            f"X is a dict with the modalities {list(arrays)}, expected {list(groups)}. Give an absent modality as a "
            "block of NaN."
        )
    for name, columns in groups.items():
        shape = arrays[name].shape[1:]
        if shape not in {(len(columns),), shapes.get(name)}:
            raise ValueError(
                f"modality {name!r} has rows of shape {shape}, expected {shapes.get(name, (len(columns),))}."
            )


def _label(column, feature_names):
    return f"{column}" if feature_names is None else f"{column} ({feature_names[column]!r})"


def _is_memory_map(array):
    # scikit-learn's validation strips the memmap class but keeps the chain of bases.
    while array is not None and not isinstance(array, (np.memmap, mmap.mmap)):
        array = getattr(array, "base", None)
    return array is not None
