"""Values of any container as numbers with NaN for missing ones, and offsets that keep their precision in float32."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

# A column gets an offset if float32, which has 24 bits, leaves fewer than 8 for its spread, or if it is constant and
# beyond the exact integers of float32. Neither occurs in types of two bytes.
_MAX_RATIO, _EXACT_INTEGERS = 2.0**16, 2.0**24
# Rows and values from which offsets are determined.
_MAX_ROWS, _MIN_ROWS, _MAX_VALUES = 256, 16, 2**18

_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)
_EPOCH, _SECOND = np.datetime64(0, "s"), np.timedelta64(1, "s")

# Ends of error messages.
ACCEPTED = "Pass a dict or SliceDict of blocks, one per modality, or one array with modalities, see stack_modalities."
READERS = (
    "read files into arrays first: np.load(path, mmap_mode='r') reads .npy files, pandas.read_csv tables, "
    f"soundfile.read audio and PIL.Image.open images. {ACCEPTED}"
)


def to_numbers(values: Any) -> tuple[Any, np.ndarray | None]:
    """Return array-like values in a form that scikit-learn's checks accept, and the mask of a masked array.

    Numeric arrays, DataFrames and memory maps are returned as they are. Missing markers in objects become NaN.

    Parameters
    ----------
    values : array-like
        Rows of X or of one block: an array, masked array, tensor, DataFrame, Series or nested list.

    Returns
    -------
    values : array-like
        Numbers or dates; the data of a masked array.
    mask : bool ndarray or None
        True where a masked array has no value.

    Raises
    ------
    TypeError, ValueError
        If the values are strings, rows of different lengths or sparse tensors.
    """
    if isinstance(values, torch.Tensor):
        return _tensor_to_array(values), None
    if isinstance(values, list | tuple):
        values = _list_to_array(values)
    if isinstance(values, np.ma.MaskedArray):
        mask = None if values.mask is np.ma.nomask else np.ma.getmaskarray(values)
        return to_numbers(values.data)[0], mask
    if _is_frame(values):
        return _frame_to_numbers(values), None
    if hasattr(values, "iloc"):  # A Series.
        values = values.to_numpy()
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "OSU":
        return values, None
    if values.ndim == 1 and any(map(_is_nested, values)):
        return to_numbers(_stack_cells(values))
    return _objects_to_numbers(values), None


def with_nan(values: Any) -> Any:
    """Return array-like values as numbers, with NaN for masked values and all other missing markers."""
    values, mask = to_numbers(values)
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        values = dates_to_seconds(values)
    return values if mask is None else np.where(mask, np.nan, values)


def dates_to_seconds(dates: np.ndarray) -> np.ndarray:
    """Return dates as seconds since 1970 and durations in seconds, as float64 with NaN for NaT."""
    return (dates - _EPOCH if dates.dtype.kind == "M" else dates) / _SECOND


def missing_values(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return the boolean mask of the values that are NaN, NaT or masked."""
    if values.dtype.kind in "mM":
        missing = np.isnat(values)
    else:
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
    return missing if mask is None else missing | mask


def sampled_rows(rows: np.ndarray, n_values: int) -> np.ndarray:
    """Return the rows from which offsets are determined, always the same ones, given the number of values in each."""
    size = min(_MAX_ROWS, max(_MIN_ROWS, _MAX_VALUES // n_values))
    if len(rows) <= size:
        return rows
    return rows[np.sort(np.random.default_rng(0).choice(len(rows), size, replace=False))]


def column_offsets(sample: np.ndarray) -> np.ndarray:
    """Return a value to subtract from each column before it is converted to float32, which is zero for most columns.

    The offset is the median if it is more than 2^16 times the spread: the rounding of float32 would then exceed 0.4 %
    of it. The spread is the median distance of the values that differ from the median. Columns of whole numbers up to
    2^24, such as tokens, have no offset because float32 holds them exactly. The result depends on the values alone, not
    on their type.

    Parameters
    ----------
    sample : ndarray of shape (n_rows, n_columns)
        Finite values of any type.

    Returns
    -------
    float64 ndarray of shape (n_columns,)
        The offsets.
    """
    offsets = np.zeros(sample.shape[1])
    if sample.dtype.itemsize <= 2 or not len(sample):
        return offsets
    values = np.ascontiguousarray(sample.T, dtype=np.float64)
    middle = (len(sample) - 1) // 2
    median = np.partition(values, middle, axis=1)[:, middle]
    with np.errstate(over="ignore"):
        distance = np.abs(values - median[:, None])
    # The median distance of all values is at most that of the differing ones, and quick: it rules out most columns.
    candidates = np.flatnonzero(np.abs(median) > _MAX_RATIO * np.partition(distance, middle, axis=1)[:, middle])
    median, values, distance = median[candidates], values[candidates], np.sort(distance[candidates], axis=1)
    n_equal = (distance == 0).sum(axis=1)
    spread = np.take_along_axis(distance, (n_equal + (len(sample) - 1 - n_equal) // 2)[:, None], axis=1)[:, 0]
    limit = np.where(n_equal == len(sample), _EXACT_INTEGERS, _MAX_RATIO * spread)
    is_exact = ((np.abs(values) <= _EXACT_INTEGERS) & (values == np.rint(values))).all(axis=1)
    offsets[candidates] = np.where((np.abs(median) > limit) & ~is_exact, median, 0)
    return offsets


def _tensor_to_array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise TypeError(
            "a sparse or nested tensor is not accepted: pass tensor.to_dense(), or a matrix of scipy.sparse, which is "
            f"made dense batch by batch. {ACCEPTED}"
        )
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS:
        tensor = tensor.float()  # numpy has no bfloat16.
    return tensor.numpy()


def _list_to_array(rows: Sequence[Any]) -> Any:
    """Return a list of rows as an array, without losing masks, gradients or bfloat16."""
    if any(map(_is_nested, rows)) and any(map(_is_missing, rows)):
        return _stack_cells(rows)
    if rows and all(isinstance(row, torch.Tensor) for row in rows):
        rows = [_tensor_to_array(row) for row in rows]
    try:
        if any(isinstance(row, np.ma.MaskedArray) for row in rows):
            return np.ma.stack(rows)
        return np.asarray(rows)
    except ValueError as error:
        raise ValueError(
            f"rows of different shapes (inhomogeneous) are not accepted: pad or crop them to one shape. {ACCEPTED}"
        ) from error


def _is_frame(values: Any) -> bool:
    # Recognised by its methods, so that pandas need not be installed.
    return hasattr(values, "iloc") and hasattr(values, "dtypes") and values.ndim == 2


def _frame_to_numbers(frame: Any) -> Any:
    """Return the DataFrame with its columns of dates and objects as numbers."""
    is_sparse = [hasattr(dtype, "fill_value") for dtype in frame.dtypes]
    is_matrix = all(is_sparse) and all(dtype.fill_value == 0 for dtype in frame.dtypes)  # scikit-learn converts it.
    columns: dict[int, np.ndarray] = {}
    for position, dtype in enumerate(frame.dtypes):
        column = frame.iloc[:, position]
        if is_sparse[position]:
            if not is_matrix:
                columns[position] = np.asarray(column)
        elif dtype.kind in "mM":
            unit = getattr(dtype, "unit", None) or np.datetime_data(dtype)[0]  # The former is that of a time zone.
            columns[position] = dates_to_seconds(column.to_numpy(dtype=f"{dtype.kind}8[{unit}]"))
        elif dtype.kind not in "biufc":
            columns[position] = _objects_to_numbers(np.asarray(column, dtype=object), frame.columns[position])
    if columns:
        frame = frame.copy(deep=False)
        for position, numbers in columns.items():
            frame.isetitem(position, numbers)
    return frame


def _stack_cells(cells: np.ndarray | Sequence[Any]) -> Any:
    """Return several arrays, such as a column of a DataFrame, as one array with a row of NaN for missing ones."""
    shape = np.shape(next(filter(_is_nested, cells)))
    return _list_to_array([np.full(shape, np.nan) if _is_missing(cell) else cell for cell in cells])


def _is_nested(cell: Any) -> bool:
    return isinstance(cell, list | tuple) or getattr(cell, "ndim", 0) > 0


def _objects_to_numbers(objects: np.ndarray, column: Any = None) -> np.ndarray:
    """Return an array of objects as float64, with NaN for None, NaN, NaT and pd.NA."""
    cells = objects.ravel()
    if objects.dtype.kind != "O" and len(cells):
        raise _strings_error(cells[0], column)
    if any(map(_is_nested, cells)):
        place = "X" if column is None else f"column {column!r} of X"
        raise ValueError(f"{place} holds arrays. {ACCEPTED} A block may be a column of arrays of one shape.")
    with np.errstate(invalid="ignore"):  # numpy 2.5 warns of comparisons with NaN.
        missing = np.frompyfunc(_is_missing, 1, 1)(objects).astype(bool)
    try:
        return np.where(missing, np.nan, objects).astype(np.float64)
    except (TypeError, ValueError) as error:
        if text := [cell for cell in cells if isinstance(cell, str | bytes | os.PathLike)]:
            raise _strings_error(text[0], column) from error
        raise


def _strings_error(example: Any, column: Any) -> ValueError:
    place = "" if column is None else f" in column {column!r}"
    return ValueError(
        f"strings and paths are not accepted, such as {str(example)!r}{place}: encode text and categories as numeric "
        f"columns, and {READERS}"
    )


def _is_missing(cell: Any) -> bool:
    if cell is None or cell is np.ma.masked:
        return True
    if _is_nested(cell):
        return False
    try:
        return bool(cell != cell)  # NaN and NaT differ from themselves.
    except (TypeError, ValueError):
        return type(cell).__name__ == "NAType"  # The comparison of pd.NA is pd.NA, which is neither true nor false.
