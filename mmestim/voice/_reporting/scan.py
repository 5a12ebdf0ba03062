"""Files through a fitted detector, of any number and any length."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import joblib
from joblib import Parallel, delayed, effective_n_jobs

from .._audio.corpus import Skipped
from .._audio.folders import files_in
from .._audio.reading import AudioError
from .._audio.streaming import AudioStream
from .._constants import RATE
from .._detection.detector import VoiceEditDetector
from .._detection.explanation import percent
from ..localization import EditSegment

_SHOWN_PLACES = 5  # of a label, in one line


@dataclass(frozen=True)
class ScannedFile:  # numpydoc ignore=PR02
    """What was found in one file.

    Parameters
    ----------
    path : str
        The file.
    duration : float
        Seconds of it.
    proba : dict of str to float
        Probability of each label that was looked for, 'unaltered' first.
    found : tuple of str
        Edits whose probability reaches their threshold, the most probable first.
    segments : tuple of EditSegment
        Where they are, in the order of time.
    explanation : str
        The same in words that can be quoted, as `VoiceEditDetector.explain` gives them.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.scan import ScannedFile
    >>> cut = EditSegment.from_label("cut", 3.2, score=0.93)
    >>> print(ScannedFile("a.wav", 8.0, {"unaltered": 0.07, "cut": 0.93}, ("cut",), (cut,), "...").summary)
    cut 93 % at 3.20 s
    """

    path: str
    duration: float
    proba: dict[str, float]
    found: tuple[str, ...]
    segments: tuple[EditSegment, ...]
    explanation: str

    @property
    def is_edited(self) -> bool:
        """Whether any edit was found."""
        return bool(self.found)

    @property
    def verdict(self) -> str:
        """``edits found`` or ``no edit found``."""
        return "edits found" if self.is_edited else "no edit found"

    @property
    def summary(self) -> str:
        """Edits, probabilities and places in one line; empty where there is none."""
        return "; ".join(f"{label} {percent(self.proba[label])} {self._places(label)}" for label in self.found)

    def _places(self, label: str) -> str:
        places = [place_of(segment, self.duration) for segment in self.segments if segment.label == label]
        more = f" and {len(places) - _SHOWN_PLACES} more" if len(places) > _SHOWN_PLACES else ""
        return ", ".join(places[:_SHOWN_PLACES]) + more


def place_of(segment: EditSegment, duration: float) -> str:
    """Where a segment of a recording of so many seconds is, in words."""
    if segment.is_point:
        return f"at {segment.start:.2f} s"
    if segment.start == 0 and segment.end >= duration:
        return "throughout"
    return f"from {segment.start:.2f} to {segment.end:.2f} s"


def audio_files(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The files that `scan_files` looks at, each once, in the order of the paths.

    Parameters
    ----------
    paths : list of str or path
        Files, and folders whose sound is taken from all levels, also in formats that cannot be read, such as .m4a;
        what begins with a dot is hidden.

    Returns
    -------
    list of str
        Paths of files; those of folders that hold no audio or cannot be listed stay, for `scan_files` to say so.

    Raises
    ------
    TypeError
        If `paths` is one path and not a list.

    Examples
    --------
    >>> from mmestim.voice.scan import audio_files
    >>> audio_files(["b.wav", "a.mp3", "b.wav"])
    ['b.wav', 'a.mp3']
    """
    if isinstance(paths, str | os.PathLike):
        raise TypeError(f"paths={os.fspath(paths)!r} is one path. Wrap it in a list: [paths].")
    files: dict[str, None] = {}
    for path in (os.fspath(path) for path in paths):
        try:
            files |= dict.fromkeys(files_in(path, is_thorough=True) if os.path.isdir(path) else [path])
        except ValueError:
            files[path] = None
    return list(files)


def scan_files(
    detector: VoiceEditDetector, paths: Sequence[str | os.PathLike[str]], *, n_jobs: int | None = None
) -> Iterator[ScannedFile | Skipped]:
    """Look for edits in files, in the memory of a few seconds of each.

    Parameters
    ----------
    detector : VoiceEditDetector
        Fitted, or from `mmestim.load`.
    paths : list of str or path
        Files and folders, as `audio_files` takes them.
    n_jobs : int, default=None
        Processes, each with a file at a time; `None` is one, -1 as many as there are cores. A detector on a GPU
        uses one.

    Returns
    -------
    iterator of ScannedFile or Skipped
        One for each of `audio_files`, in that order, as soon as it and those before it are done. Files that cannot
        be read are `Skipped`, which says why.

    Raises
    ------
    AttributeError
        If the detector was fitted as an ordinary classifier of clips.
    TypeError
        If `paths` is one path and not a list.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    See Also
    --------
    mmestim.voice.report.write_report : What was found, as a page.
    mmestim.voice.formats.write_segments : Where, for other programs.

    Examples
    --------
    >>> import mmestim
    >>> from mmestim.voice.scan import scan_files
    >>> detector = mmestim.load("model.mme")  # doctest: +SKIP
    >>> for file in scan_files(detector, ["recordings"], n_jobs=2):  # doctest: +SKIP
    ...     print(file)
    """
    detector._check_finds_edits("scan_files")
    files = audio_files(paths)
    n_processes = effective_n_jobs(n_jobs) if detector.device_ == "cpu" else 1
    return _scanned(detector, files, min(n_processes, len(files)))


def _scanned(detector, files, n_processes):
    if n_processes <= 1:
        for index, path in enumerate(files):
            yield _scan_one(detector, index, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        stored = os.path.join(folder, "detector")
        joblib.dump(detector, stored)
        tasks = (delayed(_scan_stored)(stored, index, path) for index, path in enumerate(files))
        yield from Parallel(n_processes, return_as="generator")(tasks)


def _scan_stored(stored, index, path):
    return _scan_one(_loaded(stored), index, path)


@lru_cache(maxsize=1)
def _loaded(stored):
    """Read once by each process: trees are large."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is interrupted ends its processes, without their tracebacks
    return joblib.load(stored)


def _scan_one(detector, index, path):
    try:
        clip = detector._scan_clip(_stream(path), locates=True)
    except AudioError as error:
        return Skipped(index, path, error.reason)
    except Exception as error:  # whatever is wrong with one file, the others are to be looked at
        return Skipped(index, path, f"could not be looked at. {type(error).__name__}: {error}")
    named, found, words = detector._told(clip)
    return ScannedFile(path, clip.duration, named, tuple(found), tuple(clip.segments), words)


def _stream(path):
    """A file; of a folder that `audio_files` left as it is, why."""
    if os.path.isdir(path):
        try:
            files_in(path, is_thorough=True)
        except ValueError as error:
            raise AudioError(path, str(error)) from error
    return AudioStream(path, RATE)
