"""Modalities of X: named groups of columns, their shapes, and dicts of blocks."""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array, hstack, issparse
from sklearn.utils.validation import validate_data

from .blocks import Blocks
from .containers import check_is_no_list_of_rows, open_blocks, open_container
from .layouts import channels_first, fits_when_moved, resolve_layout
from .numeric import sampled_rows, to_numbers
from .sources import ArrayRows, Shape, Source, SparseRows

Modalities = Mapping[str, slice | Sequence[int] | Sequence[str]]


def stack_modalities(**blocks: Any) -> tuple[np.ndarray, dict[str, slice], dict[str, Shape]]:
    """Stack one array per modality into one 2-D array.

    Every scikit-learn tool accepts the resulting array. Pass the other two results to an estimator as
    `modalities` and `shapes`.

    Parameters
    ----------
    **blocks : array-like of shape (n_samples, ...)
        One block per modality, all with the same number of rows. A row of NaN, or of another missing marker,
        marks the modality as absent.

    Returns
    -------
    X : ndarray or sparse array of shape (n_samples, n_features)
        The blocks side by side, each row flattened. Sparse in CSR format if a block is sparse. Missing values of
        every kind are NaN.
    modalities : dict of str to slice
        Columns of `X` in each modality, in the order given.
    shapes : dict of str to tuple of int
        Shape of one sample of each block with three or more axes. The axes of images are not moved; estimators
        move channels to the front.

    Raises
    ------
    ValueError
        If no block is given, a block has fewer than two axes, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim import stack_modalities
    >>> X, modalities, shapes = stack_modalities(audio=np.ones((4, 10)), image=np.zeros((4, 8, 8)))
    >>> X.shape, modalities, shapes
    ((4, 74), {'audio': slice(0, 10, None), 'image': slice(10, 74, None)}, {'image': (8, 8)})
    """
    sources = open_blocks(blocks)
    flat = [
        source.matrix if isinstance(source, SparseRows) else source.read(slice(None)).reshape(source.shape[0], -1)
        for source in sources.values()
    ]
    if any(map(issparse, flat)):
        return hstack([csr_array(block) for block in flat], format="csr"), *_layout(sources)
    return np.concatenate(flat, axis=1), *_layout(sources)


def check_X(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    modalities: Modalities | None = None,
    shapes: Mapping[str, Shape] | None = None,
    reset: bool,
) -> tuple[Blocks, Any]:
    """Check `X` and `y`, and return `X` as `Blocks`.

    Parameters
    ----------
    estimator : estimator
        Estimator that stores `modalities_`, `shapes_`, `offsets_`, `n_features_in_`, column names and layouts.
    X : array-like or dict of str to array-like
        Data of shape (n_samples, n_features), or one block per modality.
    y : array-like of shape (n_samples,), default=None
        Targets.
    modalities, shapes : dict, default=None
        Parameters of the estimator, used with `reset`.
    reset : bool
        Whether to set the attributes of the estimator from `X`, as in `fit`. Otherwise `X` must agree with them.

    Returns
    -------
    blocks : Blocks
        Blocks that are not loaded yet.
    y : ndarray of shape (n_samples,) or None
        Checked targets.
    """
    if isinstance(blocks := open_container(X), Mapping):
        sources = open_blocks(blocks)
        if reset:
            slices, _ = _layout(sources)
            # With an array of as many rows scikit-learn checks y, and deletes feature names of an earlier fit.
            n_rows = next(iter(sources.values())).shape[0]
            check_is_no_list_of_rows(X, y, n_rows)
            _, y = validate_data(estimator, np.zeros((n_rows, 1)), y)
            _warn_if_targets(sources, y)
            estimator.n_features_in_ = max(columns.stop for columns in slices.values())
            _set_modalities(estimator, slices if modalities is None else modalities, shapes)
        channels_last = _check_blocks(estimator, blocks, sources, reset)
        sources = {name: sources[name] for name in estimator.modalities_}
    else:
        table, mask = to_numbers(blocks)
        if isinstance(table, np.ndarray) and table.ndim > 2:
            raise ValueError(
                f"X is one array of shape {table.shape}, but a table has 2 axes. Pass a block with more axes in a "
                "dict, such as {'image': X}, or in a table with modalities and shapes, see stack_modalities."
            )
        checks: dict[str, Any] = {"accept_sparse": "csr", "ensure_all_finite": False, "reset": reset}
        if reset:
            array, y = validate_data(estimator, table, y, **checks)
            _set_modalities(estimator, {"x": slice(None)} if modalities is None else modalities, shapes)
        else:
            array = validate_data(estimator, table, **checks)
        channels_last = estimator._channels_last
        sources = {
            name: SparseRows(array, columns) if issparse(array) else ArrayRows(array, columns, mask)
            for name, columns in estimator.modalities_.items()
        }
    if reset and getattr(estimator, "verbose", False):
        for name in estimator._channels_last:
            channels, *size = estimator.shapes_[name]
            print(f"{name}: images {(*size, channels)} are moved to channels first, {(channels, *size)}")
    flat = {name: (len(columns),) for name, columns in estimator.modalities_.items()}
    return Blocks(sources, flat | estimator.shapes_, channels_last, estimator.offsets_), y


def resolve_modalities(
    modalities: Modalities, n_features: int, feature_names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the column numbers of each modality.

    Parameters
    ----------
    modalities : dict of str to slice, list of int or list of str
        Columns of each modality.
    n_features : int
        Number of columns of X.
    feature_names : sequence of str, default=None
        Names of the columns.

    Returns
    -------
    dict of str to int ndarray
        Column numbers. Every column of X belongs to exactly one modality.

    Raises
    ------
    TypeError, ValueError
        If a name or selection is not valid, modalities overlap, or a column belongs to none.
    """
    if not isinstance(modalities, Mapping) or not modalities:
        raise TypeError(
            f"modalities={modalities!r}: expected a non-empty dict of name to slice, list of int or list of "
            "column names, or None for a single modality."
        )
    groups: dict[str, np.ndarray] = {}
    owner = np.full(n_features, -1)
    for number, (name, selection) in enumerate(modalities.items()):
        if not isinstance(name, str) or not name:
            raise TypeError(f"modalities has the name {name!r}: a name must be a non-empty string.")
        columns = _select_columns(name, selection, n_features, feature_names)
        if (shared := columns[owner[columns] >= 0]).size:
            raise ValueError(
                f"modalities overlap: column {_label(shared[0], feature_names)} is in {[*groups][owner[shared[0]]]!r} "
                f"and in {name!r}. A column may belong to one modality only."
            )
        groups[name], owner[columns] = columns, number
    if (unassigned := np.flatnonzero(owner < 0)).size:
        raise ValueError(
            f"{len(unassigned)} of {n_features} column(s) belong to no modality, the first is column "
            f"{_label(unassigned[0], feature_names)}. Add them to a modality, or drop them from X."
        )
    return groups


def resolve_shapes(shapes: Mapping[str, Shape] | None, groups: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    """Return the shape of one sample of each listed modality, checked against its number of columns."""
    if not isinstance(shapes, Mapping | None):
        raise TypeError(f"shapes={shapes!r}: expected a dict of modality to shape, such as {{'image': (28, 28)}}.")
    resolved = {}
    for name, shape in (shapes or {}).items():
        if name not in groups:
            raise ValueError(f"shapes names {name!r}, which is not a modality. The modalities are {list(groups)}.")
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


def _set_modalities(estimator: Any, modalities: Modalities, shapes: Mapping[str, Shape] | None) -> None:
    names = getattr(estimator, "feature_names_in_", None)
    estimator.modalities_ = groups = resolve_modalities(modalities, estimator.n_features_in_, names)
    estimator.offsets_ = {}  # `fit` sets those of its training rows.
    given = resolve_shapes(shapes, groups)
    estimator.shapes_ = {name: channels_first(shape) for name, shape in given.items()}
    estimator._channels_last = [name for name, shape in given.items() if shape != estimator.shapes_[name]]
    estimator._column_names = {} if names is None else {name: [*names[columns]] for name, columns in groups.items()}


def _select_columns(name: str, selection: Any, n_features: int, feature_names: Sequence[str] | None) -> np.ndarray:
    entry = f"modalities[{name!r}]={reprlib.repr(selection)}"
    expected = "Expected a slice, a list of int or a list of column names"
    if isinstance(selection, str) or not isinstance(selection, slice | Iterable):
        raise TypeError(f"{entry} selects no columns. {expected}.")
    index = selection if isinstance(selection, slice) else list(selection)
    if isinstance(index, list) and index and all(isinstance(column, str) for column in index):
        index = _find_columns(name, index, feature_names)
    try:
        columns = np.arange(n_features)[index]
        if columns.ndim > 1:
            raise IndexError("the list is nested")
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{entry}: {error}. {expected}; X has {n_features} feature(s).") from error
    if isinstance(index, slice) and any(abs(end or 0) > n_features for end in (index.start, index.stop)):
        raise ValueError(f"{entry} reaches past the last column; X has {n_features} feature(s).")
    if not columns.size:
        raise ValueError(f"{entry} selects no column; X has {n_features} feature(s).")
    unique, counts = np.unique(columns, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"modalities[{name!r}] has column {_label(unique[counts.argmax()], feature_names)} twice.")
    return columns


def _find_columns(name: str, columns: list[str], feature_names: Sequence[str] | None) -> list[int]:
    """Return the numbers of the named columns."""
    if feature_names is None:
        raise ValueError(
            f"modalities[{name!r}] gives column names, but X has none. Pass a DataFrame whose column names are all "
            "strings (an earlier Pipeline step may drop them: use set_output(transform='pandas')), or give slices."
        )
    numbers = {column: number for number, column in enumerate(feature_names)}
    if unknown := [column for column in columns if column not in numbers]:
        raise ValueError(
            f"modalities[{name!r}]: X has no column {unknown[0]!r}. Its columns begin with {list(numbers)[:5]}."
        )
    return [numbers[column] for column in columns]


def _label(column: int, feature_names: Sequence[str] | None) -> str:
    return f"{column}" if feature_names is None else f"{column} ({feature_names[column]!r})"


def _layout(sources: Mapping[str, Source]) -> tuple[dict[str, slice], dict[str, Shape]]:
    """Return the columns of each block after concatenation, and the shapes of blocks with three or more axes."""
    slices, stop = {}, 0
    for name, source in sources.items():
        start, stop = stop, stop + math.prod(source.shape[1:])
        slices[name] = slice(start, stop)
    return slices, {name: source.shape[1:] for name, source in sources.items() if len(source.shape) > 2}


def _warn_if_targets(sources: Mapping[str, Source], y: np.ndarray) -> None:
    """Warn if a block of one value per row holds the targets, as some Datasets yield them."""
    rows = sampled_rows(np.arange(len(y)), 1)
    if y.dtype.kind not in "biuf" or len(np.unique(y[rows])) < 2:
        return
    for name, source in sources.items():
        if math.prod(source.shape[1:]) == 1 and np.array_equal(source.read(rows).ravel(), y[rows]):
            warnings.warn(
                f"modality {name!r} equals the targets y. Leave it out of X, or the classifier learns to copy it.",
                stacklevel=4,
            )


def _check_blocks(estimator: Any, X: Mapping[str, Any], sources: Mapping[str, Source], reset: bool) -> list[str]:
    """Check a dict against the modalities, shapes and column names of the estimator.

    With `reset` the estimator takes layouts, and shapes and column names that it does not have yet, from the dict.
    Returns the modalities whose blocks have channels in the last axis.
    """
    groups, shapes, names = estimator.modalities_, estimator.shapes_, estimator._column_names
    if set(X) != set(groups):
        raise ValueError(
            f"X is a dict with the modalities {reprlib.repr(list(X))}, expected {list(groups)}. Give an absent one as "
            "a block of NaN; in fit, modalities=None takes the names from the dict. Blocks in a list or tuple are "
            "named x0, x1, ...: join the rows of one block by np.stack."
        )
    channels_last = []
    for name, columns in groups.items():
        shape, flat_shape = sources[name].shape[1:], (len(columns),)
        if reset and len(shape) > 1 and math.prod(shape) == len(columns) and name not in shapes:
            shapes[name] = resolve_layout(name, shape)
        expected_shape = shapes.get(name, flat_shape)
        if shape not in (flat_shape, expected_shape) and not fits_when_moved(shape, expected_shape):
            raise ValueError(
                f"modality {name!r} has rows of shape {shape}, expected {expected_shape}: reshape the block."
            )
        is_moved = name in estimator._channels_last if shape == flat_shape else shape != expected_shape
        if is_moved:
            channels_last.append(name)
        labels = list(getattr(X[name], "columns", []))
        if labels and all(isinstance(label, str) for label in labels):
            fitted_labels = names.setdefault(name, labels) if reset else names.get(name, labels)
            if differing := [pair for pair in zip(labels, fitted_labels, strict=True) if pair[0] != pair[1]]:
                raise ValueError(
                    f"modality {name!r} has column {differing[0][0]!r} where fit had {differing[0][1]!r}. The feature "
                    "names should match those of fit, in the same order."
                )
    if reset:
        estimator._channels_last = channels_last
    return channels_last
