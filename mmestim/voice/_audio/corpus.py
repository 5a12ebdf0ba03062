"""Corpus of clips in arrays, files and folders, each read when it is needed."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Number
from typing import Any, Literal, get_args

import numpy as np
from joblib import Parallel, delayed

from ..._utils.sizes import sizeof_attributes
from ..._utils.validation import check_choice, check_number
from .._files.paths import PlacedFile
from .folders import files_in, parse_mailabs_path
from .reading import AudioError, read_clip, seen_from_here
from .streaming import AudioStream

__all__ = ["AudioCorpus", "Skipped"]

# Reaction to a clip that cannot be used.
Reaction = Literal["raise", "skip"]


@dataclass(frozen=True)
class Skipped:
    """Record of a clip that was left out.

    Attributes
    ----------
    index : int
        Index of the clip in the corpus.
    item : str
        Path of the clip, or its number for a clip that is an array.
    reason : str
        Description of the problem and of the way out.
    """

    index: int
    item: str
    reason: str


class AudioCorpus(Sequence[np.ndarray]):
    """Sequence of clips as mono float32 waveforms at one sample rate, read lazily.

    >>> import numpy as np
    >>> from mmestim.voice import AudioCorpus
    >>> rng = np.random.default_rng(0)
    >>> stereo = rng.integers(-9000, 9000, size=(2, 8000)).astype(np.int16)
    >>> corpus = AudioCorpus([stereo, np.zeros(4000)], source_rate=8000, on_error="skip")
    >>> corpus[0].shape, corpus[0].dtype
    ((16000,), dtype('float32'))
    >>> [index for index, waveform in corpus.read()], corpus.skipped[0].item
    ([0], 'clip 1')

    An integer index reads one clip. Slices, index arrays and masks return smaller corpora without reading, so the tools
    of scikit-learn can split a corpus that is larger than memory.

    Parameters
    ----------
    X : path, array, sequence or DataFrame
        One of:

        - a folder, searched with its subfolders for audio and video files; they are sorted by path, and names that
          begin with a dot are ignored;
        - a list, 1-D object array or Series of paths and waveforms;
        - an array of shape (n_clips, n_samples) or (n_clips, n_channels, n_samples), memory-mapped or not;
        - a DataFrame with a column ``path``, such as :func:`find_audio` returns;
        - another corpus, whose clips and `source_rate` are combined with the settings given here.

        A waveform is an array, a tensor or a list of shape (n_samples,) or (n_channels, n_samples). It contains floats
        with a full scale of 1, or integers of up to 32 bits, which are divided by their full scale (in uint8, 128 is
        zero).
    sample_rate : int, default=16000
        Sample rate of the clips in Hz.
    source_rate : int, default=None
        Sample rate in Hz of clips that are arrays; files contain their own. `None` means `sample_rate`.
    max_duration : float, default=3600.0
        Seconds above which a clip is an error. The duration of most files is in their header, so long files are not
        decoded.
    on_error : {"raise", "skip"}, default="raise"
        Reaction of :meth:`read` and :meth:`check` to a clip that cannot be used: raise an :class:`AudioError`, or
        list the clip in `skipped` and continue.

    Attributes
    ----------
    frame : DataFrame or None
        The rows of the clips if X is a DataFrame.
    speakers : ndarray of shape (n_clips,) or None
        Column ``speaker`` of the DataFrame, or the names of the speakers' folders for a folder in the layout of
        M-AILABS.

    See Also
    --------
    find_audio : List the audio files in a folder in a table.

    Notes
    -----
    Channels are averaged. Clips may have any sample rate; a polyphase filter resamples them to
    ``round(n * sample_rate / rate)`` samples.

    A clip cannot be used in these cases:

    - its file is missing, empty, not audio, truncated or damaged;
    - it has no samples, NaN, infinite samples, or samples of 1e12 or more;
    - it is longer than `max_duration`;
    - it is silent: it stays within -80 dBFS of its mean.

    FFmpeg decodes all files, by their content instead of their suffix, and the sound of videos. A file is damaged if
    part of it cannot be decoded, or if it is shorter than its header says: by one sample in PCM and FLAC, and by more
    than 0.1 s in lossy formats. Formats without a duration or checksums, such as ADTS and AMR, may hide damage.
    """

    def __init__(
        self,
        X: Any,
        *,
        sample_rate: int = 16000,
        source_rate: int | None = None,
        max_duration: float = 3600.0,
        on_error: Reaction = "raise",
    ) -> None:
        check_number("sample_rate", sample_rate, low=1, integer=True)
        check_number("max_duration", max_duration, closed=False)
        check_choice("on_error", on_error, get_args(Reaction))
        if source_rate is None:
            source_rate = X.source_rate if isinstance(X, AudioCorpus) else sample_rate
        check_number("source_rate", source_rate, low=1, integer=True)
        self.sample_rate = sample_rate
        self.source_rate: int = source_rate
        self.max_duration = max_duration
        self.on_error = on_error
        self.frame: Any = None
        self.speakers: np.ndarray | None = None
        self._items: list[Any]
        if isinstance(X, AudioCorpus):
            self._items, self.frame, self.speakers = X._items, X.frame, X.speakers
        elif isinstance(X, str | os.PathLike):
            self._items = files_in(os.fspath(X))
            speakers = [parse_mailabs_path(path).get("speaker") for path in self._items]
            self.speakers = np.array(speakers, dtype=object) if any(speakers) else None
        elif hasattr(X, "iloc") and hasattr(X, "columns"):
            if "path" not in X.columns:
                raise ValueError(
                    f"X has no column 'path' among {list(X.columns)}. Rename the column that contains the paths."
                )
            self._items, self.frame = X["path"].tolist(), X
            self.speakers = X["speaker"].to_numpy() if "speaker" in X.columns else None
        else:
            self._items = _list_clips(X)
        if not self._items:
            raise ValueError("X contains no clip. Pass one or more.")
        # Numbers for error messages. A part of a corpus keeps the numbers of the whole.
        self._numbers = np.arange(len(self._items))
        self._skipped: dict[int, Skipped] = {}
        # Folder that relative paths start from in workers; here they start from the working directory.
        self._folder = ""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def shape(self) -> tuple[int]:
        """Number of clips as a tuple, which makes scikit-learn split by index arrays."""
        return (len(self),)

    @property
    def paths(self) -> list[str]:
        """Paths of the clips that are files."""
        return [os.fspath(item) for item in self._items if isinstance(item, str | os.PathLike)]

    @property
    def holds_arrays(self) -> bool:
        """Whether any clip is an array instead of a file."""
        return len(self.paths) < len(self)

    def for_workers(self) -> AudioCorpus:
        """Return the corpus as workers with another working directory read it, without `frame`.

        Returns
        -------
        corpus : AudioCorpus
            A copy that lists what it skips in `skipped` of this corpus.
        """
        corpus = copy.copy(self)
        corpus._folder, corpus.frame = self._folder or os.getcwd(), None
        return corpus

    __sizeof__ = sizeof_attributes

    @property
    def skipped(self) -> list[Skipped]:
        """Clips left out so far, sorted by index."""
        return [self._skipped[index] for index in sorted(self._skipped)]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]  # scikit-learn indexes X[rows, ...]
        if isinstance(key, Integral) and not isinstance(key, bool | np.bool_):
            return self._read_clip(key)
        indices = np.arange(len(self))[key]
        if indices.ndim == 0:
            return self._read_clip(indices)
        if indices.ndim > 1:
            raise IndexError(f"a corpus has one dimension, but the index has {indices.ndim}. Use a 1-D index.")
        part = copy.copy(self)
        part._items = [self._items[index] for index in indices]
        part._numbers, part._skipped = self._numbers[indices], {}
        part.frame = None if self.frame is None else self.frame.iloc[indices]
        part.speakers = None if self.speakers is None else self.speakers[indices]
        return part

    def _item(self, index: Any) -> Any:
        """Return a clip as an array, or as a path that can be opened here."""
        item = self._items[index]
        is_elsewhere = self._folder and isinstance(item, str | os.PathLike)
        return PlacedFile(os.fspath(item), self._folder) if is_elsewhere else item

    def _read_clip(self, index: Any) -> np.ndarray:
        """Read a clip; raise an AudioError if it cannot be used."""
        return read_clip(
            self._item(index),
            f"clip {self._numbers[index]}",
            sample_rate=self.sample_rate,
            source_rate=self.source_rate,
            max_duration=self.max_duration,
        )

    def blocks(self, index: int) -> Iterable[np.ndarray]:
        """Return a clip in consecutive blocks; a file is read only while they are iterated.

        Parameters
        ----------
        index : int
            Index of the clip.

        Returns
        -------
        iterable of float32 ndarray of shape (n_samples,)
            Blocks that are the clip when they are concatenated. Each iteration reads a file again and raises an
            AudioError if it cannot be used, some errors only at its end.
        """
        item = self._item(index)
        if isinstance(item, str | os.PathLike | PlacedFile):
            return AudioStream(item, self.sample_rate, max_duration=self.max_duration, must_be_intact=True)
        return [self[index]]

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Read one clip after the other.

        Yields
        ------
        index : int
            Index of the clip. With ``on_error="skip"``, clips that cannot be used are left out.
        waveform : float32 ndarray of shape (n_samples,)
            The clip.

        Raises
        ------
        AudioError
            If a clip cannot be used and `on_error` is "raise".
        """
        for index in range(len(self)):
            try:
                waveform = self[index]
            except AudioError as error:
                self.skip(index, error)
            else:
                yield index, waveform

    def skip(self, index: int, error: AudioError) -> None:
        """List a clip in `skipped` if `on_error` is "skip"; otherwise raise its error.

        Parameters
        ----------
        index : int
            Index of the clip, 0 or more.
        error : AudioError
            Error of reading the clip, in this process or in another one.

        Raises
        ------
        AudioError
            If `on_error` is "raise".
        """
        error = seen_from_here(error)
        if self.on_error == "raise":
            raise error
        self._skipped[int(index)] = Skipped(int(index), error.item, error.reason)

    def check(self, n_jobs: int | None = None) -> AudioCorpus:
        """Read every clip once, to detect all clips that cannot be used before any work is done.

        Parameters
        ----------
        n_jobs : int, default=None
            Number of threads.

        Returns
        -------
        usable : AudioCorpus
            Corpus of the clips that can be used; this corpus if all can. The others are listed in `skipped`.

        Raises
        ------
        AudioError
            If some clips cannot be used and `on_error` is "raise", or if no clip can be used.
        """
        results = Parallel(n_jobs=n_jobs, require="sharedmem")(
            delayed(self._reading_error)(index) for index in range(len(self))
        )
        errors = {index: error for index, error in enumerate(results) if error is not None}
        if not errors:
            return self
        if self.on_error == "raise" or len(errors) == len(self):
            lines = "".join(f"\n  {error}" for error in list(errors.values())[:5])
            lines += "\n  ..." if len(errors) > 5 else ""
            way_out = "on_error='skip' leaves them out." if len(errors) < len(self) else "No clip is left."
            raise AudioError(f"{len(errors)} of {len(self)} clips", f"cannot be used. {way_out}{lines}")
        for index, error in errors.items():
            self.skip(index, error)
        return self[[index for index in range(len(self)) if index not in errors]]

    def _reading_error(self, index: int) -> AudioError | None:
        """Return the error of reading a clip, or None if it can be used."""
        try:
            self[index]
        except AudioError as error:
            return AudioError(error.item, error.reason)  # a copy, since the traceback refers to the samples
        return None

    def __repr__(self) -> str:
        return f"AudioCorpus({len(self)} clips, sample_rate={self.sample_rate})"


def _list_clips(X: Any) -> list[Any]:
    """Return the clips in a list, an array, a tensor or a Series."""
    if hasattr(X, "iloc"):
        X = X.to_numpy()
    if isinstance(X, list | tuple):
        is_one_waveform = len(X) > 0 and isinstance(X[0], Number)
    elif hasattr(X, "dtype") and hasattr(X, "ndim"):
        is_one_waveform = X.ndim == 1 and getattr(X.dtype, "kind", "f") not in "OUT"  # not objects or strings
        if X.ndim not in (1, 2, 3):
            raise ValueError(
                f"X has {X.ndim} dimensions. Pass (n_clips, n_samples) or (n_clips, n_channels, n_samples)."
            )
    else:
        raise TypeError(f"X is of type {type(X).__name__}. Pass a folder, or a list or array of paths or waveforms.")
    if is_one_waveform:
        raise ValueError(f"X is one waveform of {len(X)} samples. Wrap it in a list: [X].")
    return list(X)
