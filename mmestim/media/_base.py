"""Base class of readers: transformers of one column to arrays of one shape."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .._utils.validation import check_choice

Shape = tuple[int, ...]


class MediaError(ValueError):
    """Error about a file or text that cannot be read.

    Parameters
    ----------
    item : str
        Path of the file, or the beginning of the text.
    reason : str
        Description of the problem and of the way out.

    Examples
    --------
    >>> from mmestim.media import MediaError
    >>> print(MediaError("a.mp4", "has no audio track."))
    a.mp4: has no audio track.
    """

    def __init__(self, item: str, reason: str) -> None:
        super().__init__(item, reason)  # both, so that the error can be pickled
        self.item = item
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.item}: {self.reason}"


class MissingMediaError(MediaError):
    """Error about a file that does not exist where it was looked for."""


class Sample(NamedTuple):
    """Array that was read from one value of a column.

    >>> from mmestim.media import TextTokens
    >>> TextTokens(n_tokens=3, vocabulary=["a"]).read("a a").array
    array([2, 2, 0], dtype=int32)

    Attributes
    ----------
    array : ndarray
        The array.
    note : str
        End of a sentence about values from which something was left out; empty if nothing was.
    """

    array: np.ndarray
    note: str = ""


class Reader(TransformerMixin, BaseEstimator):
    """Base class of readers, which turn the values of one column into arrays of one shape.

    >>> import numpy as np
    >>> from mmestim.media import Reader, Sample
    >>> class Length(Reader):
    ...     sample_shape, sample_dtype, reads_files = (1,), np.dtype(int), False
    ...     def __init__(self, column=None):
    ...         self.column = column
    ...     def read(self, value):
    ...         return Sample(np.array([len(value)]))
    >>> Length().fit_transform(["a", "abc"]).tolist()
    [[1], [3]]

    Parameters
    ----------
    column : str, default=None
        Column of a DataFrame. `None` reads X itself: a list, array or Series of values, or a DataFrame of one column.

    Notes
    -----
    A subclass has an `__init__` that stores its parameters, and defines `sample_shape`, `sample_dtype` and `read`.
    """

    column: str | None

    @property
    def reads_files(self) -> bool:
        """Return whether the values are paths of files."""
        return True

    @property
    def _column(self) -> str | None:
        """Column that is read."""
        return self.column

    @property
    @abstractmethod
    def sample_shape(self) -> Shape:
        """Shape of the array of one value."""

    @property
    @abstractmethod
    def sample_dtype(self) -> np.dtype[Any]:
        """Type of the arrays."""

    @abstractmethod
    def read(self, value: Any) -> Sample:
        """Read one value.

        Parameters
        ----------
        value : object
            Value of the column, not missing.

        Returns
        -------
        Sample
            The array, and a note of what was left out.

        Raises
        ------
        MediaError
            If the value cannot be read.
        """

    def read_many(self, values: Sequence[Any]) -> Iterator[Sample | MediaError]:
        """Read several values; yield an array, or the error, for each."""
        for value in values:
            try:
                yield self.read(value)
            except MediaError as error:
                yield error

    def fit(self, X: Any, y: Any = None) -> Reader:
        """Check the parameters and the column; nothing is learned.

        Parameters
        ----------
        X : DataFrame, list, array or Series of n_samples values
            The values.
        y : ignored
            Not used.

        Returns
        -------
        self : object
            The reader itself.
        """
        self._check_parameters()
        if not isinstance(self.sample_dtype, np.dtype) or self.sample_dtype.kind not in "biuf":
            raise TypeError(
                f"sample_dtype={self.sample_dtype!r} of {type(self).__name__} must be a np.dtype of numbers."
            )
        column_values(X, self._column)
        self._is_fitted = True
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Read the values.

        Parameters
        ----------
        X : DataFrame, list, array or Series of n_samples values
            The values. Missing ones (None, NaN) become rows of NaN.

        Returns
        -------
        ndarray of shape (n_samples, ...)
            The arrays. They are float32 if a row is missing and the type of the arrays has no NaN.

        Raises
        ------
        MediaError
            If a value cannot be read.
        """
        check_is_fitted(self)
        values = column_values(X, self._column)
        rows = [row for row, value in enumerate(values) if not is_missing(value)]
        samples: dict[int, Sample] = {}
        for row, sample in zip(rows, self.read_many([values[row] for row in rows]), strict=True):
            if isinstance(sample, MediaError):
                raise sample
            samples[row] = sample
        return block_of(self, samples, len(values))

    def _check_parameters(self) -> None:
        """Raise if a parameter has an unsupported value."""

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_is_fitted")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def check_array_of(reader: Reader, sample: Sample) -> np.ndarray:
    """Return the array of a sample, or raise ValueError unless it has the shape of the reader."""
    if np.shape(sample.array) != tuple(reader.sample_shape):
        raise ValueError(
            f"{type(reader).__name__}.read returned an array of shape {np.shape(sample.array)}, but sample_shape is "
            f"{tuple(reader.sample_shape)}. Pad, crop or resize it."
        )
    return sample.array


def block_of(reader: Reader, samples: Mapping[int, Sample], n_values: int) -> np.ndarray:
    """Return samples by their rows as one array, with NaN in other rows, and warn of what was left out."""
    warn_of_notes(reader, (sample.note for sample in samples.values()), n_values)
    dtype = reader.sample_dtype
    if dtype.kind != "f" and len(samples) < n_values:
        dtype = np.dtype(np.float32)
    block = np.full((n_values, *reader.sample_shape), np.nan if dtype.kind == "f" else 0, dtype)
    for row, sample in samples.items():
        block[row] = check_array_of(reader, sample)
    return block


def column_values(X: Any, column: str | None) -> list[Any]:
    """Return the values of a column of X, or of X itself."""
    if isinstance(X, str | bytes | os.PathLike):
        raise TypeError(f"X is one path or text, {X!r}: pass a list of them, or a DataFrame.")
    if isinstance(X, Mapping | Set):
        raise TypeError(f"X is a {type(X).__name__}: pass a DataFrame, or a list of paths or texts.")
    if hasattr(X, "columns"):
        if column is None and len(X.columns) != 1:
            raise ValueError(f"X has {len(X.columns)} columns: name one by column=, such as {next(iter(X.columns))!r}.")
        if column is not None and column not in X.columns:
            raise ValueError(f"column={column!r} is not in X. Its columns are {list(X.columns)}.")
        if [*X.columns].count(X.columns[0] if column is None else column) > 1:
            raise ValueError(f"X has several columns with the name {column!r}: rename them.")
        return list(X[X.columns[0] if column is None else column])
    if column is not None:
        raise TypeError(f"column={column!r} needs a DataFrame, got {type(X).__name__}. For a list use column=None.")
    values = list(np.asarray(X, dtype=object).ravel() if np.ndim(X) == 2 and np.shape(X)[1] == 1 else X)
    if any(isinstance(value, np.ndarray | list | tuple) for value in values):
        raise ValueError("X has several values in a row. Pass one per row, or a DataFrame with column=.")
    return values


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or pd.NA."""
    if isinstance(value, str | bytes | os.PathLike):
        return False
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def check_path(value: Any) -> str:
    """Return a path as a string, or raise MediaError unless it is the path of a file."""
    from ..voice._files.paths import AudioError, MissingFileError, check_file

    if not isinstance(value, str | os.PathLike):
        raise MediaError(repr(value), f"is of type {type(value).__name__}, expected the path of a file.")
    path = os.fspath(value)
    try:
        check_file(path)
    except MissingFileError as error:
        raise MissingMediaError(path, error.reason) from None
    except AudioError as error:
        raise MediaError(path, error.reason) from None
    return path


def check_size(name: str, size: Any) -> None:
    """Raise ValueError unless a parameter is a pair of positive int."""
    is_pair = isinstance(size, Sequence) and len(size) == 2
    if not is_pair or not all(isinstance(n, int | np.integer) and n > 0 for n in size):
        raise ValueError(f"{name}={size!r} must be (height, width) in pixels, such as (112, 112).")


def check_dtype(dtype: Any, allowed: Iterable[str]) -> None:
    """Raise ValueError unless a dtype is one of the names."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = dtype
    check_choice("dtype", name, allowed)


def warn_of_notes(reader: Reader, notes: Iterable[str], n_values: int) -> None:
    """Warn of what was left out of the values that were read."""
    for note, count in Counter(filter(None, notes)).items():
        warnings.warn(f"{type(reader).__name__}: {count} of {n_values} values {note}", stacklevel=3)
