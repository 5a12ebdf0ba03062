"""Several readers of a table, with a cache."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal, TypeVar

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .._data.containers import SliceDict
from .._data.sources import StoredArray
from .._utils.parallel import run_tasks
from .._utils.validation import check_choice, check_flag
from ._base import MediaError, MissingMediaError, Reader, Sample, block_of, column_values, is_missing, warn_of_notes
from ._cache import ReaderCache

T = TypeVar("T")
_CHUNK = 16  # values of one task of a worker
_MAX_NAMED = 3


class MediaTransformer(TransformerMixin, BaseEstimator):
    """Read files and texts of a table as the modalities of a classifier.

    >>> import pandas as pd
    >>> from mmestim.media import MediaTransformer, TextTokens
    >>> table = pd.DataFrame({"title": ["a film", "a song"], "caption": ["rain", None]})
    >>> media = MediaTransformer({"title": TextTokens("title", n_tokens=4), "text": TextTokens("caption", n_tokens=4)})
    >>> X = media.fit_transform(table)
    >>> X["text"].shape, X["title"].dtype
    ((2, 4), dtype('int32'))

    The result is a dict of arrays, one per reader, which the classifiers take. With a `cache`, its arrays stay on disk,
    and each value is read once, whichever split of a search it is in.

    Parameters
    ----------
    readers : dict of str to Reader
        Reader of each modality, such as ``{"audio": LogMelSpectrogram("clip"), "frames": VideoFrames("clip")}``.
    cache : path, default=None
        Folder for what was read, which is created. Values are found in it by their content and by the parameters of the
        reader, so it serves several tables, searches and processes. `None` keeps arrays in memory, and reads them anew
        each time.
    n_jobs : int, default=None
        Number of processes that read files. `None` means 1, or all workers of a cluster if its backend of joblib is
        active, and -1 means one for each core. Workers open the files by their paths.
    on_error : {'raise', 'absent'}, default='raise'
        `'raise'` stops at a file that cannot be read. `'absent'` makes it an absent modality of its row, warns, and
        lists it in `skipped_`.
    verbose : bool, default=False
        Whether to show a progress bar for each reader.

    Attributes
    ----------
    readers_ : dict of str to Reader
        The readers.
    skipped_ : list of MediaError
        Files that the latest call of `transform` could not read.

    See Also
    --------
    mmestim.UDIClassifier : Classifier that takes the result.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from mmestim import LateFusionClassifier
    >>> from mmestim.media import LogMelSpectrogram, VideoFrames
    >>> media = MediaTransformer({"audio": LogMelSpectrogram("clip"), "frames": VideoFrames("clip")}, cache="cache")
    >>> model = make_pipeline(media, LateFusionClassifier())
    """

    def __init__(
        self,
        readers: Mapping[str, Reader] | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        on_error: Literal["raise", "absent"] = "raise",
        verbose: bool = False,
    ) -> None:
        self.readers = readers
        self.cache = cache
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> MediaTransformer:
        """Check the parameters and the columns; nothing is read.

        Parameters
        ----------
        X : DataFrame, list, array or Series of n_samples values
            The values.
        y : ignored
            Not used.

        Returns
        -------
        self : object
            The transformer itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter has an unsupported value, or a column is missing.
        """
        if not isinstance(self.readers, Mapping) or not self.readers:
            raise TypeError(
                f"readers={self.readers!r} must be a dict of modality to reader, such as "
                "{'audio': LogMelSpectrogram('clip')}."
            )
        for name, reader in self.readers.items():
            if not isinstance(reader, Reader):
                raise TypeError(f"readers[{name!r}]={reader!r} must be a reader, such as LogMelSpectrogram('clip').")
        check_choice("on_error", self.on_error, ("raise", "absent"))
        check_flag("verbose", self.verbose)
        self.readers_ = {name: clone(reader).fit(X) for name, reader in self.readers.items()}
        return self

    def transform(self, X: Any) -> SliceDict:
        """Read the values.

        Parameters
        ----------
        X : DataFrame, list, array or Series of n_samples values
            The values. Missing ones (None, NaN) are absent modalities.

        Returns
        -------
        SliceDict
            For each reader, an array of one row per value. With a `cache` it stays on disk until rows are read. Rows of
            an absent modality are NaN.

        Raises
        ------
        MediaError
            If a value cannot be read and `on_error` is `'raise'`.
        """
        check_is_fitted(self)
        self.skipped_: list[MediaError] = []
        blocks = {name: self._block(name, reader, X) for name, reader in self.readers_.items()}
        if self.skipped_:
            named = "; ".join(map(str, self.skipped_[:_MAX_NAMED]))
            more = f"; and {len(self.skipped_) - _MAX_NAMED} more, see skipped_" * (len(self.skipped_) > _MAX_NAMED)
            warnings.warn(
                f"values that cannot be read count as absent, {len(self.skipped_)} in all: {named}{more}", stacklevel=2
            )
        return SliceDict(**blocks)

    def _block(self, name: str, reader: Reader, X: Any) -> Any:
        """Return the block of one reader."""
        values = column_values(X, reader._column)
        present = [row for row, value in enumerate(values) if not is_missing(value)]
        selected = [values[row] for row in present]
        if self.cache is None:
            return self._in_memory(name, reader, len(values), present, selected)
        cache = ReaderCache(self.cache, reader)
        entries = cache.entries(
            selected,
            read=lambda new: self._read(name, reader, new),
            progress=lambda values: self._bar(values, f"{name}, cache", len(values)),
        )
        rows = np.full(len(values), -1)
        for row, value, entry in zip(present, selected, entries, strict=True):
            rows[row] = entry.row
            if entry.row < 0:
                self._skip(MediaError(str(value), entry.note))
        warn_of_notes(reader, (entry.note for entry in entries if entry.row >= 0), len(values))
        return StoredArray(cache.rows(), rows)

    def _in_memory(
        self, name: str, reader: Reader, n_values: int, present: Sequence[int], selected: Sequence[Any]
    ) -> np.ndarray:
        samples: dict[int, Sample] = {}
        for row, sample in zip(present, self._read(name, reader, selected), strict=True):
            if isinstance(sample, MediaError):
                self._skip(sample)
            else:
                samples[row] = sample
        return block_of(reader, samples, n_values)

    def _skip(self, error: MediaError) -> None:
        if self.on_error == "raise":
            raise error
        self.skipped_.append(error)

    def _read(self, name: str, reader: Reader, values: Sequence[Any]) -> Iterator[Sample | MediaError]:
        """Read values in one or several processes, in their order."""
        results: Iterable[Sample | MediaError] = reader.read_many(values)
        if effective_n_jobs(self.n_jobs) > 1 and len(values) > _CHUNK:
            results = self._read_in_workers(reader, values)
        for sample in self._bar(results, name, len(values)):
            if isinstance(sample, MediaError) and self.on_error == "raise":
                raise sample  # at once, rather than after the other files
            yield sample

    def _read_in_workers(self, reader: Reader, values: Sequence[Any]) -> Iterator[Sample | MediaError]:
        """Read values in several processes, which may have another working directory."""
        places = [_absolute(value) for value in values] if reader.reads_files else values
        tasks = ((places[start : start + _CHUNK],) for start in range(0, len(places), _CHUNK))
        chunks = run_tasks(_read_all, tasks, self.n_jobs, shared=(reader,))
        for value, place, sample in zip(values, places, chain.from_iterable(chunks), strict=True):
            yield _as_given(sample, value, place) if isinstance(sample, MediaError) else sample

    def _bar(self, values: Iterable[T], title: str, n_values: int) -> Iterable[T]:
        """Return values that move a progress bar, if one is wanted."""
        return tqdm(values, title, n_values, unit="file", disable=not (self.verbose and n_values))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def _read_all(reader: Reader, values: Sequence[Any]) -> list[Sample | MediaError]:
    return list(reader.read_many(values))


def _absolute(value: Any) -> Any:
    """Return a path that does not depend on the working directory; other values, such as URLs, as they are."""
    is_path = isinstance(value, str | os.PathLike) and os.fspath(value) and "://" not in os.fspath(value)
    return os.path.abspath(value) if is_path else value


def _as_given(error: MediaError, value: Any, place: Any) -> MediaError:
    """Return an error of a worker as it would be here, about the value as the user gave it."""
    from ..voice._files.paths import explain_missing

    if isinstance(error, MissingMediaError):
        return MediaError(str(value), explain_missing(os.fspath(value), "pass n_jobs=1"))
    return MediaError(error.item.replace(str(place), str(value)), error.reason.replace(str(place), str(value)))
