"""Scanning of files of any number and any length with a fitted detector."""

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
from sklearn.utils.validation import check_is_fitted

from .._audio.corpus import Skipped
from .._audio.folders import files_in
from .._audio.reading import AudioError
from .._audio.streaming import AudioStream
from .._constants import RATE
from .._detection.detector import VoiceEditDetector
from .._detection.explanation import percent
from ..segments import EditSegment

_MAX_PLACES = 5  # of a label, in a summary


@dataclass(frozen=True)
class ScannedFile:  # numpydoc ignore=PR02
    """Result of a scan for one file.

    Parameters
    ----------
    path : str
        Path of the file.
    duration : float
        Duration of the recording in seconds.
    proba : dict of str to float
        Probability of each label of the detector, 'unaltered' first.
    found : tuple of str
        Detected edits, whose probability reaches their threshold, the most probable first.
    segments : tuple of EditSegment
        Segments of the detected edits, sorted by time.
    explanation : str
        The result as a paragraph that can be quoted, from `VoiceEditDetector.explain`.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice import ScannedFile
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
        """Whether any edit was detected."""
        return bool(self.found)

    @property
    def verdict(self) -> str:
        """The text ``edits found`` or ``no edit found``."""
        return "edits found" if self.is_edited else "no edit found"

    @property
    def summary(self) -> str:
        """Detected edits with their probabilities and places in one line; empty if there are none."""
        return "; ".join(f"{label} {percent(self.proba[label])} {self._places(label)}" for label in self.found)

    def _places(self, label: str) -> str:
        places = [format_place(segment, self.duration) for segment in self.segments if segment.label == label]
        remainder = f" and {len(places) - _MAX_PLACES} more" if len(places) > _MAX_PLACES else ""
        return ", ".join(places[:_MAX_PLACES]) + remainder


def format_place(segment: EditSegment, duration: float) -> str:
    """Describe in words where a segment is in a recording of this duration."""
    if segment.is_point:
        return f"at {segment.start:.2f} s"
    if segment.start == 0 and segment.end >= duration:
        return "throughout"
    return f"from {segment.start:.2f} to {segment.end:.2f} s"


def audio_files(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """List the files that `scan_files` scans, each once, in the order of the paths.

    Parameters
    ----------
    paths : list of str or path
        Files and folders. The audio files of a folder are listed at all levels, including formats that cannot be
        read, such as .m4a. Names that begin with a dot are hidden.

    Returns
    -------
    list of str
        Paths of files. A folder that contains no audio or cannot be listed stays in the list, so that `scan_files`
        reports it.

    Raises
    ------
    TypeError
        If `paths` is a single path instead of a list.

    Examples
    --------
    >>> from mmestim.voice import audio_files
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
    """Detect edits in files, with only a few seconds of each in memory.

    Parameters
    ----------
    detector : VoiceEditDetector
        Fitted detector, for example from `mmestim.load`.
    paths : list of str or path
        Files and folders, as for `audio_files`.
    n_jobs : int, default=None
        Number of processes, each of which scans one file at a time. `None` means 1, and -1 means one for each core.
        A detector on a GPU uses one process.

    Returns
    -------
    iterator of ScannedFile or Skipped
        One result for each file of `audio_files`, in that order. A result is returned as soon as it and all earlier
        ones are ready. Files that cannot be read are `Skipped` with the reason.

    Raises
    ------
    AttributeError
        If the detector was fitted as an ordinary classifier of clips.
    TypeError
        If `paths` is a single path instead of a list.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    See Also
    --------
    mmestim.voice.write_report : Write the results as an HTML page.
    mmestim.voice.formats.write_segments : Write the segments for other programs.

    Examples
    --------
    >>> import mmestim
    >>> from mmestim.voice import scan_files
    >>> detector = mmestim.load("model.mme")  # doctest: +SKIP
    >>> for file in scan_files(detector, ["recordings"], n_jobs=2):  # doctest: +SKIP
    ...     print(file)
    """
    check_is_fitted(detector)
    if not detector.finds_edits_:
        raise AttributeError(
            "scan_files requires a detector of edits, but this detector was fitted as a classifier of clips."
        )
    files = audio_files(paths)
    n_processes = effective_n_jobs(n_jobs) if detector.device_ == "cpu" else 1
    return _iter_results(detector, files, min(n_processes, len(files)))


def _iter_results(
    detector: VoiceEditDetector, files: Sequence[str], n_processes: int
) -> Iterator[ScannedFile | Skipped]:
    if n_processes <= 1:
        for index, path in enumerate(files):
            yield _scan_file(detector, index, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        detector_file = os.path.join(folder, "detector")
        joblib.dump(detector, detector_file)
        tasks = (delayed(_scan_in_worker)(detector_file, index, path) for index, path in enumerate(files))
        yield from Parallel(n_processes, return_as="generator")(tasks)


def _scan_in_worker(detector_file: str, index: int, path: str) -> ScannedFile | Skipped:
    return _scan_file(_load_detector(detector_file), index, path)


@lru_cache(maxsize=1)
def _load_detector(detector_file: str) -> VoiceEditDetector:
    """Load the detector once per process, because its trees are large."""
    if threading.current_thread() is threading.main_thread():
        # An interrupt ends the parent process, which ends its workers; their tracebacks would only be noise.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return joblib.load(detector_file)


def _scan_file(detector: VoiceEditDetector, index: int, path: str) -> ScannedFile | Skipped:
    try:
        analysis = detector.analyze_stream(_open_stream(path))
    except AudioError as error:
        return Skipped(index, path, error.reason)
    except Exception as error:  # an error of one file must not stop the scan of the others
        return Skipped(index, path, f"could not be scanned. {type(error).__name__}: {error}")
    return ScannedFile(
        path, analysis.duration, analysis.probabilities, analysis.labels, analysis.segments, analysis.explanation
    )


def _open_stream(path: str) -> AudioStream:
    """Open a file; for a folder that `audio_files` could not replace by its files, raise the reason."""
    if os.path.isdir(path):
        try:
            files_in(path, is_thorough=True)
        except ValueError as error:
            raise AudioError(path, str(error)) from error
    return AudioStream(path, RATE)
