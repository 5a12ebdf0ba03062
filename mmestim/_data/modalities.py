"""What X is: named groups of columns, their shapes, and rows where one of them is absent."""

from __future__ import annotations

import math
import mmap
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

# Values read at a time when a whole block is scanned: 16 MiB of float32.
_CHUNK = 2**22

Modalities = Mapping[str, slice | Sequence[int] | Sequence[str]]
Shape = tuple[int, ...]
# Rows of X or of one block, and which columns of them if not all.
Source = tuple[np.ndarray, np.ndarray | None]


def stack_modalities(**blocks: Any) -> tuple[np.ndarray, dict[str, slice], dict[str, Shape]]:
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
    arrays = _check_arrays(blocks)
    flat = [array.reshape(len(array), -1) for array in arrays.values()]
    return np.concatenate(flat, axis=1), *_layout(arrays)


def check_X(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    modalities: Modalities | None = None,
    shapes: Mapping[str, Shape] | None = None,
    reset: bool,
) -> tuple[Blocks, Any]:
    """`X` as `Blocks` and `y` checked; with `reset`, the estimator learns its groups from them."""
    sources: dict[str, Source]
    if isinstance(X, Mapping) and not issparse(X):  # scipy's dok_matrix is a dict too
        arrays = _check_arrays(X)
        if reset:
            slices, _ = _layout(arrays)
            # scikit-learn checks y against an array with as many rows, and forgets names of an earlier fit.
            _, y = validate_data(estimator, np.zeros((len(next(iter(arrays.values()))), 1)), y)
            estimator.n_features_in_ = max(columns.stop for columns in slices.values())
            _learn(estimator, slices if modalities is None else modalities, shapes)
        _check_blocks(estimator, X, arrays, reset)
        sources = {name: (arrays[name], None) for name in estimator.modalities_}
    else:
        if reset:
            array, y = validate_data(estimator, X, y, ensure_all_finite=False)
            _learn(estimator, {"x": slice(None)} if modalities is None else modalities, shapes)
        else:
            array = validate_data(estimator, X, reset=False, ensure_all_finite=False)
        sources = {name: _select(array, columns) for name, columns in estimator.modalities_.items()}
    flat = {name: (len(columns),) for name, columns in estimator.modalities_.items()}
    return Blocks(sources, flat | estimator.shapes_), y


def resolve_modalities(
    modalities: Modalities, n_features: int, feature_names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Column numbers of each modality; every column in exactly one."""
    if not isinstance(modalities, Mapping) or not modalities:
        raise TypeError(
            f"modalities={modalities!r}: expected a non-empty dict of name to slice, list of int or list of "
            "column names, or None for a single modality."
        )
    groups: dict[str, np.ndarray] = {}
    owner = np.full(n_features, -1)
    for number, (name, pick) in enumerate(modalities.items()):
        if not isinstance(name, str) or not name:
            raise TypeError(f"modalities has the name {name!r}: a name must be a non-empty string.")
        columns = _columns(name, pick, n_features, feature_names)
        if (taken := columns[owner[columns] >= 0]).size:
            raise ValueError(
                f"modalities overlap: column {_label(taken[0], feature_names)} is in {[*groups][owner[taken[0]]]!r} "
                f"and in {name!r}. A column may belong to one modality only."
            )
        groups[name], owner[columns] = columns, number
    if (left := np.flatnonzero(owner < 0)).size:
        raise ValueError(
            f"{len(left)} of {n_features} column(s) belong to no modality, the first is column "
            f"{_label(left[0], feature_names)}. Add them to a modality, or drop them from X."
        )
    return groups


def resolve_shapes(shapes: Mapping[str, Shape] | None, groups: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    """Per-sample shapes, each checked against the number of columns of its modality."""
    if not isinstance(shapes, Mapping | None):
        raise TypeError(f"shapes={shapes!r}: expected a dict of modality to shape, such as {{'image': (28, 28)}}.")
    resolved = {}
    for name, shape in (shapes or {}).items():
        if name not in groups:
            raise ValueError(f"shapes names {name!r}, which is no modality. The modalities are {list(groups)}.")
        axes = list(shape) if isinstance(shape, Sequence) else []
        if not axes or not all(isinstance(n, int | np.integer) and n > 0 for n in axes):
            raise TypeError(f"shapes[{name!r}]={shape!r}: expected a tuple of positive int, such as (64, 32).")
        if math.prod(axes) != len(groups[name]):
            raise ValueError(
                f"shapes[{name!r}]={shape!r} holds {math.prod(axes)} values, but modality {name!r} has "
                f"{len(groups[name])} column(s)."
            )
        resolved[name] = tuple(int(n) for n in axes)
    return resolved


class Blocks:
    """The rows of X as float32, one block per modality, read when asked for or held as tensors."""

    def __init__(self, sources: Mapping[str, Source], shapes: Mapping[str, Shape]) -> None:
        self._sources = dict(sources)
        self.shapes = dict(shapes)
        self._tensors: dict[str, torch.Tensor] = {}
        self._present: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(next(iter(self._sources.values()))[0])

    def load(self, max_memory: float, device: torch.device) -> Blocks:
        """Check every row, and hold as tensors on `device` the blocks that fit `max_memory` MiB, small ones first."""
        budget = max_memory * 2**20
        for name in sorted(self.shapes, key=self._n_bytes):
            fits = self._n_bytes(name) <= budget and not _is_memory_map(self._sources[name][0])
            if fits:
                budget -= self._n_bytes(name)
                self._tensors[name] = torch.empty((len(self), *self.shapes[name]), device=device)
            self._present[name] = np.empty(len(self), dtype=bool)
            for rows in self.chunks(name):
                block, self._present[name][rows] = self.read(name, rows)
                if fits:
                    self._tensors[name][rows] = torch.from_numpy(block)
        self._check_something_present(self._present, 0)
        return self

    def present(self, name: str) -> np.ndarray:
        """Boolean mask of the rows that have modality `name`, once `load` has seen them."""
        return self._present[name]

    def is_held(self, name: str) -> bool:
        """Whether modality `name` is a tensor on the device, rather than read batch by batch."""
        return name in self._tensors

    def take(self, name: str, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Rows that have modality `name`, once `load` has checked them, as one tensor on `device`."""
        if self.is_held(name):
            tensor = self._tensors[name]
            return tensor.index_select(0, rows.to(tensor.device, non_blocking=True))
        return torch.from_numpy(self._float32(name, rows.numpy())).to(device)

    def chunks(self, name: str) -> Iterator[slice]:
        """Consecutive slices of rows of bounded size, for one pass over modality `name`."""
        step = max(1, _CHUNK // math.prod(self.shapes[name]))
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
            self._check_something_present(presence, start)
            yield rows.stop - start, x, presence

    def read(self, name: str, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A checked copy of some rows of one modality, absent ones as zeros, and which are present."""
        block = self._float32(name, rows)
        flat = block.reshape(len(block), -1)
        present = np.ones(len(block), dtype=bool)
        finite = np.isfinite(flat)
        if not finite.all():
            suspect = np.flatnonzero(~finite.all(axis=1))
            absent = np.isnan(flat[suspect]).all(axis=1)
            if not absent.all():
                bad = suspect[np.argmin(absent)]
                n_missing = np.isnan(flat[bad]).sum()
                what = (
                    f"NaN in {n_missing} of {flat.shape[1]} values"
                    if n_missing
                    else "infinity or values beyond float32"
                )
                raise ValueError(
                    f"Input X contains {what}: modality {name!r} in row {np.arange(len(self))[rows][bad]}. Impute or "
                    "clip such values; where the modality is absent, set its whole block of the row to NaN."
                )
            present[suspect] = False
            flat[suspect] = 0
        return block, present

    def _float32(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        """A writable copy of some rows, whose columns, if listed, are read without their neighbours."""
        array, columns = self._sources[name]
        if columns is None:
            part = array[rows]
        elif isinstance(rows, np.ndarray):
            part = array[rows[:, None], columns]
        else:  # On C order `take` is four times as fast; on others it would copy the neighbours too.
            part = array[rows].take(columns, axis=1) if array.flags.c_contiguous else array[rows, columns]
        with np.errstate(over="ignore", invalid="ignore"):  # Values too large become infinite, which read refuses.
            # A slice of rows may be a view of the caller's data; an index array has made a copy already.
            block = part.astype(np.float32, order="C", copy=isinstance(rows, slice))
        return block.reshape(len(block), *self.shapes[name])

    def _check_something_present(self, presence: Mapping[str, np.ndarray], offset: int) -> None:
        present = np.logical_or.reduce(list(presence.values()))
        if not present.all():
            raise ValueError(
                f"Input X contains NaN: row {offset + np.argmin(present)} has nothing but NaN in every modality "
                f"({', '.join(self.shapes)}). At least one modality must be present: drop the row, or impute it."
            )

    def _n_bytes(self, name: str) -> int:
        return 4 * len(self) * math.prod(self.shapes[name])


def _learn(estimator: Any, modalities: Modalities, shapes: Mapping[str, Shape] | None) -> None:
    names = getattr(estimator, "feature_names_in_", None)
    estimator.modalities_ = groups = resolve_modalities(modalities, estimator.n_features_in_, names)
    estimator.shapes_ = resolve_shapes(shapes, groups)
    estimator._column_names = {} if names is None else {name: [*names[columns]] for name, columns in groups.items()}


def _columns(name: str, pick: Any, n_features: int, feature_names: Sequence[str] | None) -> np.ndarray:
    what = f"modalities[{name!r}]={reprlib.repr(pick)}"
    expected = "Expected a slice, a list of int or a list of column names"
    if isinstance(pick, str) or not isinstance(pick, slice | Iterable):
        raise TypeError(f"{what} selects no columns. {expected}.")
    index = pick if isinstance(pick, slice) else list(pick)
    if isinstance(index, list) and index and all(isinstance(column, str) for column in index):
        index = _positions(name, index, feature_names)
    try:
        columns = np.arange(n_features)[index]
        if columns.ndim > 1:
            raise IndexError("the list is nested")
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}. {expected}; X has {n_features} feature(s).") from error
    if isinstance(index, slice) and any(abs(end or 0) > n_features for end in (index.start, index.stop)):
        raise ValueError(f"{what} reaches past the last column; X has {n_features} feature(s).")
    if not columns.size:
        raise ValueError(f"{what} selects no column; X has {n_features} feature(s).")
    unique, counts = np.unique(columns, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"modalities[{name!r}] has column {_label(unique[counts.argmax()], feature_names)} twice.")
    return columns


def _positions(name: str, wanted: list[str], feature_names: Sequence[str] | None) -> list[int]:
    if feature_names is None:
        raise ValueError(
            f"modalities[{name!r}] gives column names, but X has none. Pass a DataFrame whose column names are all "
            "strings (an earlier Pipeline step may drop them: use set_output(transform='pandas')), or give slices."
        )
    position = {column: number for number, column in enumerate(feature_names)}
    if unknown := [column for column in wanted if column not in position]:
        raise ValueError(
            f"modalities[{name!r}]: X has no column {unknown[0]!r}. Its columns begin {list(position)[:5]}."
        )
    return [position[column] for column in wanted]


def _label(column: int, feature_names: Sequence[str] | None) -> str:
    return f"{column}" if feature_names is None else f"{column} ({feature_names[column]!r})"


def _select(array: np.ndarray, columns: np.ndarray) -> Source:
    """A view of the columns where a slice can give one, else the array and the list of them."""
    step = int(columns[1] - columns[0]) if len(columns) > 1 else 1
    if step > 0 and (np.diff(columns) == step).all():
        return array[:, columns[0] : columns[-1] + 1 : step], None
    return array, columns


def _check_arrays(X: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The blocks of a dict as arrays, uncopied where they are numeric."""
    arrays = {}
    for name, block in X.items():
        try:
            block = block.detach().cpu().numpy() if isinstance(block, torch.Tensor) else block
            array = check_array(block, allow_nd=True, ensure_2d=False, ensure_all_finite=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"modality {name!r}: {error}") from error
        if array.ndim < 2:
            raise ValueError(f"modality {name!r} has shape {array.shape}: expected (n_samples, ...), rank 2 or more.")
        arrays[name] = array
    if not arrays:
        raise ValueError("X is an empty dict: give one array per modality, such as {'audio': A, 'image': V}.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the modalities differ in length: {lengths}. Each needs one row per sample.")
    return arrays


def _layout(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, slice], dict[str, Shape]]:
    """Where each block's columns are once they stand side by side, and the shapes that flattening loses."""
    slices, stop = {}, 0
    for name, array in arrays.items():
        start, stop = stop, stop + math.prod(array.shape[1:])
        slices[name] = slice(start, stop)
    return slices, {name: array.shape[1:] for name, array in arrays.items() if array.ndim > 2}


def _check_blocks(estimator: Any, X: Mapping[str, Any], arrays: Mapping[str, np.ndarray], reset: bool) -> None:
    """Hold a dict to the modalities, shapes and column names of fit; in fit, learn shapes and names from it."""
    groups, shapes, names = estimator.modalities_, estimator.shapes_, estimator._column_names
    if set(X) != set(groups):
        raise ValueError(
            f"X is a dict with the modalities {list(X)}, expected {list(groups)}. Give an absent one as a block of "
            "NaN; in fit, modalities=None takes the names from the dict."
        )
    for name, columns in groups.items():
        got, flat = arrays[name].shape[1:], (len(columns),)
        if reset and len(got) > 1 and math.prod(got) == len(columns):
            shapes.setdefault(name, got)
        if got not in (flat, want := shapes.get(name, flat)):
            raise ValueError(f"modality {name!r} has rows of shape {got}, expected {want}: reshape the block.")
        labels = list(getattr(X[name], "columns", []))
        if labels and all(isinstance(label, str) for label in labels):
            seen = names.setdefault(name, labels) if reset else names.get(name, labels)
            if differing := [pair for pair in zip(labels, seen, strict=True) if pair[0] != pair[1]]:
                raise ValueError(
                    f"modality {name!r} has column {differing[0][0]!r} where fit had {differing[0][1]!r}. The feature "
                    "names should match those of fit, in the same order."
                )


def _is_memory_map(array: Any) -> bool:
    # scikit-learn's validation strips the memmap class but keeps the chain of bases.
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)
