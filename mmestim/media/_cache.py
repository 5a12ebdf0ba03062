"""Cache of what readers have read: rows in one file, found by the content of the values."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock

from .._training.fingerprint import Fingerprint
from ._base import MediaError, Reader, Sample, Shape, check_array_of, check_path

# Raise it whenever a reader gives other arrays, so that no old ones are taken.
_FORMAT = 1
_ABSENT = -1
_BLOCK = 2**20  # bytes
Reading = Iterable[Sample | MediaError]


class MappedRows:
    """Rows in a file, which is mapped into memory when they are read.

    Parameters
    ----------
    path : str
        The file.
    dtype : dtype
        Type of the values.
    shape : tuple of int
        Number of rows and shape of one row.
    """

    def __init__(self, path: str, dtype: np.dtype[Any], shape: Shape) -> None:
        self.path, self.dtype, self.shape = path, dtype, shape
        self._rows: np.ndarray | None = None

    def __getitem__(self, rows: Any) -> np.ndarray:
        if self._rows is None:
            self._rows = np.memmap(self.path, self.dtype, "r", shape=self.shape)
        return np.asarray(self._rows[rows])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}


class Entry(NamedTuple):
    """Facts about a value that was read.

    Attributes
    ----------
    row : int
        Number of its row; -1 if it cannot be read.
    note : str
        Note of the sample, or the reason why the value cannot be read.
    """

    row: int
    note: str


class ReaderCache:
    """Rows that one reader has read, in a folder that several processes share.

    Parameters
    ----------
    folder : path
        Folder of the cache, which holds a folder for each reader and its parameters.
    reader : Reader
        The reader.

    Notes
    -----
    ``rows.bin`` holds the rows, and ``index.jsonl`` a line for each: the digest of its value, its number and its note.
    Other lines give the digest of a file by path, size and time, so that known files are not read again. A row is
    written before its line. A process that was killed leaves at most a row without a line, which the next one
    overwrites.
    """

    def __init__(self, folder: str | os.PathLike[str], reader: Reader) -> None:
        self._reader = reader
        digest = Fingerprint()
        digest.add([_FORMAT, type(reader), reader.get_params(deep=False) | {"column": None}])
        self._folder = Path(os.path.abspath(folder), f"{type(reader).__name__}-{digest.hexdigest()[:16]}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}. The parameter cache={os.fspath(folder)!r} must be a writable folder",
                folder,
            ) from error
        self._entries: dict[str, Entry] = {}
        self._digests: dict[str, str] = {}
        self._position = self._n_rows = 0

    def entries(
        self,
        values: Sequence[Any],
        read: Callable[[Sequence[Any]], Reading],
        progress: Callable[[Sequence[Any]], Iterable[Any]],
    ) -> list[Entry]:
        """Return the entries of values, after reading those that are new.

        Parameters
        ----------
        values : sequence
            Values of the column, not missing.
        read : callable
            Function of the new values that yields a sample or an error for each.
        progress : callable
            Function that returns an iterable of the values which shows how many of them were found.

        Returns
        -------
        list of Entry
            The entries.
        """
        with FileLock(self._folder / "lock"):
            self._load()
            with open(self._index_path, "r+b") as index, open(self._rows_path, "r+b") as rows:
                index.seek(self._position)
                index.truncate()  # A line that a killed process left unfinished.
                found = [self._find(value, index) for value in progress(values)]
                new = {
                    digest: value
                    for digest, value in zip(found, values, strict=True)
                    if isinstance(digest, str) and digest not in self._entries
                }
                for digest, sample in zip(new, read(list(new.values())), strict=True):
                    self._add(digest, sample, rows, index)
                self._position = index.tell()
        return [self._entries[digest] if isinstance(digest, str) else digest for digest in found]

    def rows(self) -> MappedRows:
        """Return all rows that were read."""
        return MappedRows(str(self._rows_path), self._reader.sample_dtype, (self._n_rows, *self._reader.sample_shape))

    @property
    def _rows_path(self) -> Path:
        return self._folder / "rows.bin"

    @property
    def _index_path(self) -> Path:
        return self._folder / "index.jsonl"

    def _load(self) -> None:
        """Read the lines that were added since the last time."""
        self._rows_path.touch()
        self._index_path.touch()
        with open(self._index_path, "rb") as index:
            index.seek(self._position)
            for line in index:
                if not line.endswith(b"\n"):
                    break
                fact = json.loads(line)
                if "row" in fact:
                    self._set(fact["digest"], Entry(fact["row"], fact["note"]))
                else:
                    self._digests[fact["file"]] = fact["digest"]
                self._position += len(line)

    def _find(self, value: Any, index: BinaryIO) -> str | Entry:
        """Return the digest of a value, or the entry of a file that cannot be opened."""
        if not self._reader.reads_files:
            if isinstance(value, str):
                return _digest([value.encode("utf-8", "surrogatepass")])
            digest = Fingerprint()
            digest.add(value)
            return digest.hexdigest()
        try:
            path = check_path(value)
            status = os.stat(path)
            file = f"{os.path.abspath(path)}|{status.st_size}|{status.st_mtime_ns}"
            if file not in self._digests:
                with open(path, "rb") as content:
                    self._digests[file] = _digest(iter(lambda: content.read(_BLOCK), b""))
                _write_line(index, {"file": file, "digest": self._digests[file]})
        except MediaError as error:
            return Entry(_ABSENT, error.reason)
        except OSError as error:
            return Entry(_ABSENT, f"cannot be opened: {error.strerror}.")
        return self._digests[file]

    def _add(self, digest: str, sample: Sample | MediaError, rows: BinaryIO, index: BinaryIO) -> None:
        """Write what was read, first the row and then the line that counts it."""
        if isinstance(sample, MediaError):
            entry = Entry(_ABSENT, sample.reason)
        else:
            entry = Entry(self._n_rows, sample.note)
            array = np.ascontiguousarray(check_array_of(self._reader, sample), self._reader.sample_dtype)
            rows.seek(entry.row * array.nbytes)
            rows.write(array.tobytes())
            rows.flush()
        self._set(digest, entry)
        _write_line(index, {"digest": digest, "row": entry.row, "note": entry.note})

    def _set(self, digest: str, entry: Entry) -> None:
        self._entries[digest] = entry
        self._n_rows = max(self._n_rows, entry.row + 1)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()  # Processors have instructions for it.
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _write_line(index: BinaryIO, fact: dict[str, Any]) -> None:
    index.write(json.dumps(fact).encode() + b"\n")
