"""Audio in: arrays, files and folders, read clip by clip."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Number
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from ..._utils.validation import check_choice, check_number
from .folders import files_in, place
from .reading import AudioError, read_clip

__all__ = ["AudioCorpus", "Skipped"]


@dataclass(frozen=True)
class Skipped:
    """A clip that was left out.

    Attributes
    ----------
    index : int
        Its place in the corpus.
    item : str
        Its path, or its number.
    reason : str
        What is wrong with it, and the way out.
    """

    index: int
    item: str
    reason: str


class AudioCorpus(Sequence[np.ndarray]):
    """Clips as mono float32 waveforms of one sample rate, each read when it is asked for.

    An integer index reads a clip; slices, index arrays and masks give smaller corpora and read nothing, so
    scikit-learn's tools split a corpus that is larger than memory.

    Parameters
    ----------
    X : path, array, sequence or DataFrame
        One of:

        - a folder, whose audio files (.wav .flac .ogg .oga .opus .mp3) are taken from all levels, sorted by
          path; what begins with a dot is hidden;
        - a list, 1-D object array or Series of paths and waveforms;
        - an array of shape (n_clips, n_samples) or (n_clips, n_channels, n_samples), memory-mapped or not;
        - a DataFrame with a column ``path``, such as :func:`find_audio` gives;
        - another corpus: its clips and `source_rate`, with the settings given here.

        A waveform has shape (n_samples,) or (n_channels, n_samples), as an array, a tensor or a list:
        floats, full scale 1, or integers of up to 32 bits, divided by full scale (uint8: 128 is zero).
    sample_rate : int, default=16000
        Rate of the clips in Hz.
    source_rate : int, default=None
        Rate in Hz of waveforms that are given; files know theirs. `None` takes `sample_rate`.
    max_duration : float, default=3600.0
        Seconds above which a clip is an error; headers tell, so a long file is not decoded.
    on_error : {"raise", "skip"}, default="raise"
        What :meth:`read` and :meth:`check` do with a clip that cannot be used: raise an
        :class:`AudioError`, or list it in `skipped` and go on.

    Attributes
    ----------
    frame : DataFrame or None
        The rows of the clips, where X is a DataFrame.
    speakers : ndarray of shape (n_clips,) or None
        Column ``speaker`` of the DataFrame; for a folder in the layout of M-AILABS, the speakers' folders.

    See Also
    --------
    find_audio : Table of the files in a folder.

    Notes
    -----
    Channels are averaged. Files may have any rate, and are resampled by a polyphase filter to
    ``round(n * sample_rate / rate)`` samples.

    A clip cannot be used if its file is missing, empty, not audio, or cut short; if it has no samples, NaN, samples
    above 1e12, or lasts
    longer than `max_duration`; or if it is silent, within -80 dBFS of its mean. That a file is cut short
    shows in a WAV by the size in its header, unless it was written to a pipe; in FLAC and Ogg by the last block;
    in an MP3 if the encoder counted the frames, as most do, and more than 0.1 s is missing; in other formats it may
    not show.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim.voice import AudioCorpus
    >>> rng = np.random.default_rng(0)
    >>> stereo = rng.integers(-9000, 9000, size=(2, 8000)).astype(np.int16)
    >>> corpus = AudioCorpus([stereo, np.zeros(4000)], source_rate=8000, on_error="skip")
    >>> corpus[0].shape, corpus[0].dtype
    ((16000,), dtype('float32'))
    >>> [index for index, waveform in corpus.read()], corpus.skipped[0].item
    ([0], 'clip 1')
    """

    def __init__(
        self,
        X: Any,
        *,
        sample_rate: int = 16000,
        source_rate: int | None = None,
        max_duration: float = 3600.0,
        on_error: str = "raise",
    ) -> None:
        check_number("sample_rate", sample_rate, low=1, integer=True)
        check_number("max_duration", max_duration, closed=False)
        check_choice("on_error", on_error, ["raise", "skip"])
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
            speakers = [place(path).get("speaker") for path in self._items]
            self.speakers = np.array(speakers, dtype=object) if any(speakers) else None
        elif hasattr(X, "iloc") and hasattr(X, "columns"):
            if "path" not in X.columns:
                raise ValueError(
                    f"X has no column 'path' among {list(X.columns)}. Rename the one that holds the paths."
                )
            self._items, self.frame = X["path"].tolist(), X
            self.speakers = X["speaker"].to_numpy() if "speaker" in X.columns else None
        else:
            self._items = _clips(X)
        if not self._items:
            raise ValueError("X holds no clip. Give one or more.")
        # What errors call them; clips of a part keep those of the whole.
        self._numbers = np.arange(len(self._items))
        self._skipped: dict[int, Skipped] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def shape(self) -> tuple[int]:
        """Number of clips, in a tuple: scikit-learn then splits by index array."""
        return (len(self),)

    @property
    def paths(self) -> list[str]:
        """Files of the clips, without the clips that are arrays."""
        return [os.fspath(item) for item in self._items if isinstance(item, str | os.PathLike)]

    @property
    def holds_arrays(self) -> bool:
        """Whether any clip is an array, not a file."""
        return len(self.paths) < len(self)

    @property
    def skipped(self) -> list[Skipped]:
        """The clips left out so far, by index."""
        return [self._skipped[index] for index in sorted(self._skipped)]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]  # scikit-learn asks for X[rows, ...]
        if isinstance(key, Integral) and not isinstance(key, bool | np.bool_):
            return self._read(key)
        chosen = np.arange(len(self))[key]
        if chosen.ndim == 0:
            return self._read(chosen)
        if chosen.ndim > 1:
            raise IndexError(f"a corpus has one dimension, and the index has {chosen.ndim}. Use one of one dimension.")
        part = copy.copy(self)
        part._items = [self._items[index] for index in chosen]
        part._numbers, part._skipped = self._numbers[chosen], {}
        part.frame = None if self.frame is None else self.frame.iloc[chosen]
        part.speakers = None if self.speakers is None else self.speakers[chosen]
        return part

    def _read(self, index):
        return read_clip(
            self._items[index],
            f"clip {self._numbers[index]}",
            sample_rate=self.sample_rate,
            source_rate=self.source_rate,
            max_duration=self.max_duration,
        )

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Read one clip after the other.

        Yields
        ------
        index : int
            Of the clip; some are left out where `on_error` is "skip".
        waveform : ndarray of shape (n_samples,)
            The clip, float32.
        """
        for index in range(len(self)):
            try:
                waveform = self[index]
            except AudioError as error:
                self.skip(index, error)
            else:
                yield index, waveform

    def skip(self, index: int, error: AudioError) -> None:
        """Raise the error, or list its clip in `skipped` where `on_error` is "skip".

        Parameters
        ----------
        index : int
            Of the clip, 0 or more.
        error : AudioError
            What reading it raised, here or in another process.
        """
        if self.on_error == "raise":
            raise error
        self._skipped[int(index)] = Skipped(int(index), error.item, error.reason)

    def check(self, n_jobs: int | None = None) -> AudioCorpus:
        """Read every clip once, to find all that cannot be used before any work is done on the others.

        Parameters
        ----------
        n_jobs : int, default=None
            Number of threads.

        Returns
        -------
        usable : AudioCorpus
            The clips that can be used: this corpus if all can. The others are in `skipped`.

        Raises
        ------
        AudioError
            If some cannot be used and `on_error` is "raise", or if none can be.
        """
        errors = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(self._error)(index) for index in range(len(self)))
        bad = {index: error for index, error in enumerate(errors) if error is not None}
        if not bad:
            return self
        if self.on_error == "raise" or len(bad) == len(self):
            shown = "".join(f"\n  {error}" for error in list(bad.values())[:5]) + ("\n  ..." if len(bad) > 5 else "")
            way_out = "on_error='skip' leaves them out." if len(bad) < len(self) else "No clip is left."
            raise AudioError(f"{len(bad)} of {len(self)} clips", f"cannot be used. {way_out}{shown}")
        for index, error in bad.items():
            self.skip(index, error)
        return self[[index for index in range(len(self)) if index not in bad]]

    def _error(self, index):
        try:
            self[index]
        except AudioError as error:
            return AudioError(error.item, error.reason)  # the old one's traceback keeps the samples
        return None

    def __repr__(self) -> str:
        return f"AudioCorpus({len(self)} clips, sample_rate={self.sample_rate})"


def _clips(X):
    """The clips of a list, an array, a tensor or a Series."""
    if hasattr(X, "iloc"):
        X = X.to_numpy()
    if isinstance(X, list | tuple):
        is_one = len(X) > 0 and isinstance(X[0], Number)
    elif hasattr(X, "dtype") and hasattr(X, "ndim"):
        is_one = X.ndim == 1 and getattr(X.dtype, "kind", "f") not in "OUT"  # objects and text
        if X.ndim not in (1, 2, 3):
            raise ValueError(f"X has {X.ndim} dimensions. Give clips by samples, or clips by channels by samples.")
    else:
        raise TypeError(f"X is of type {type(X).__name__}. Give a folder, or a list or array of paths or waveforms.")
    if is_one:
        raise ValueError(f"X is one waveform, of {len(X)} samples. Wrap it in a list: [X].")
    return list(X)
