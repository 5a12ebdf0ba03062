"""Scanning of files of any number and any length with a fitted detector."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.validation import check_is_fitted

from ..._utils.parallel import has_local_workers, run_tasks
from ..._utils.validation import check_choice, check_flag
from .._audio.corpus import Skipped
from .._audio.folders import files_in
from .._audio.streaming import AudioStream
from .._audio.windowing import HIGHEST_FREQUENCY, iter_windows
from .._constants import MIN_SECONDS, RATE
from .._detection.clip_analysis import ClipAnalysis, analyze_recording, undecided_analysis
from .._detection.detector import VoiceEditDetector
from .._detection.explanation import percent
from .._detection.parameters import check_hop
from .._files.paths import AudioError, MissingFileError, PlacedFile, explain_missing
from .._models.calibration import check_prior
from .._recordings.channels import Channels, open_recordings
from .._recordings.content import why_not_judged
from ..formats.lines import recording_name
from ..segments import EditSegment
from ..taxonomy import KINDS, TAXONOMY

_MAX_PLACES = 5  # of a label, in a summary


@dataclass(frozen=True)
class ScannedFile:  # numpydoc ignore=PR02
    """Result of a scan for one recording: a file, or one of its channels.

    >>> from mmestim.voice import scan_files
    >>> for file in scan_files(detector, ["interview.wav"]):  # doctest: +SKIP
    ...     print(file.name, file.verdict, file.summary, sep=": ")
    interview.wav: changed content: changed content: cut 93 % at 3.20 s

    Parameters
    ----------
    path : str
        Path of the file.
    analysis : ClipAnalysis
        Result of the detector, which is also what `VoiceEditDetector.analyze` returns for the recording.
    channel : int or None, default=None
        Number of the channel, the first of which is 1; `None` is the average of all channels.
    sample_rate : int or None, default=None
        Sample rate of the file in Hz; `None` if it is unknown.
    n_channels : int or None, default=None
        Number of channels of the file.
    container : str, default=''
        Codec and container of the file by their names in FFmpeg, such as ``aac in mov``.
    notes : tuple of str, default=()
        Sentences about the way the file was read, among them one about the gaps.
    gaps : tuple of (float, float), default=()
        Start and end, in seconds, of the parts that could not be decoded and were left out.
    source : str, default=''
        File that holds the recording, if `path` is only a name for it, as for standard input.
    """

    path: str
    analysis: ClipAnalysis
    channel: int | None = None
    sample_rate: int | None = None
    n_channels: int | None = None
    container: str = ""
    notes: tuple[str, ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()
    source: str = ""

    @property
    def name(self) -> str:
        """Path of the file, with the number of the channel if there is one."""
        return recording_name(self.path, self.channel)

    @property
    def verdict(self) -> str:
        """One of ``changed content``, ``processing only``, ``no edit found`` and ``cannot tell``."""
        return self.analysis.verdict

    @property
    def summary(self) -> str:
        """Detected edits of each kind with probabilities and places in one line, or why there is no verdict."""
        if self.analysis.cannot_tell:
            return self.analysis.cannot_tell
        edits = {kind: self.analysis.labels_of_kind(kind) for kind in KINDS}
        return "; ".join(
            f"{kind}: {'; '.join(self._describe(label) for label in labels)}"
            for kind, labels in edits.items()
            if labels
        )

    @property
    def looked_at(self) -> str:
        """Part of the file that was analyzed, in words: channels, sample rate, format and frequencies."""
        parts = []
        if self.channel is not None:
            parts.append(f"channel {self.channel}" + ("" if self.n_channels is None else f" of {self.n_channels}"))
        elif self.n_channels is not None:
            parts.append("1 channel" if self.n_channels == 1 else f"{self.n_channels} channels averaged")
        rate = RATE if self.sample_rate is None else self.sample_rate
        if self.sample_rate is not None:
            parts.append(f"{rate / 1000:g} kHz")
        parts += [self.container] if self.container else []
        return ", ".join([*parts, f"0 to {min(rate / 2, HIGHEST_FREQUENCY) / 1000:g} kHz"])

    def _describe(self, label: str) -> str:
        analysis = self.analysis
        places = [format_place(segment, analysis.duration) for segment in analysis.segments if segment.label == label]
        remainder = f" and {len(places) - _MAX_PLACES} more" if len(places) > _MAX_PLACES else ""
        text = f"{TAXONOMY[label].plain_name} {percent(analysis.probabilities[label])}"
        return f"{text} {', '.join(places[:_MAX_PLACES])}{remainder}"


def format_place(segment: EditSegment, duration: float) -> str:
    """Describe in words where a segment is in a recording of this duration."""
    if segment.is_point:
        return f"at {segment.start:.2f} s"
    is_whole = segment.start == 0 and segment.end >= duration
    if TAXONOMY[segment.label].acts_on == "points":
        return "somewhere" if is_whole else f"between {segment.start:.2f} and {segment.end:.2f} s"
    return "throughout" if is_whole else f"from {segment.start:.2f} to {segment.end:.2f} s"


def audio_files(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """List the files that `scan_files` scans, each once, in the order of the paths.

    Parameters
    ----------
    paths : list of str or path
        Files and folders. The files of a folder are listed at all levels if their suffix is one of audio or video.
        Names that begin with a dot are hidden.

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
    detector: VoiceEditDetector,
    paths: Sequence[str | os.PathLike[str]],
    *,
    channels: Channels = "mix",
    prior: float | None = None,
    n_jobs: int | None = None,
    send_files: bool = False,
) -> Iterator[ScannedFile | Skipped]:
    """Detect edits in files, with only a few seconds of each in memory.

    Parameters
    ----------
    detector : VoiceEditDetector
        Fitted detector, for example from `mmestim.load`.
    paths : list of str or path
        Files and folders, as for `audio_files`.
    channels : {'mix', 'each'}, default='mix'
        Whether to average the channels of a file or to scan each alone. Channels that cancel each other or carry
        different speech are always scanned alone, and the notes of the results say so.
    prior : float, default=None
        Probability that a recording is unedited before it is analyzed, for the probability of 'unaltered'. `None` is
        the fraction of unedited clips in the calibration of the detector; see `ClipAnalysis.with_prior`.
    n_jobs : int, default=None
        Number of processes, each of which scans one file at a time. `None` means 1, or all workers of a cluster if
        its backend of joblib is active, and -1 means one for each core. A detector on a GPU uses one process.
    send_files : bool, default=False
        Whether the workers of a cluster are sent the content of the files. By default they open the files by their
        paths, as processes of this machine always do.

    Returns
    -------
    iterator of ScannedFile or Skipped
        One result for each file of `audio_files`, in that order, or one for each channel that is scanned alone. A
        result is returned as soon as it and all earlier ones are ready. Files that cannot be read are `Skipped` with
        the reason. Recordings that are silent, contain no speech or are shorter than 0.35 s have the verdict
        ``cannot tell`` and are not analyzed.

    Raises
    ------
    AttributeError
        If the detector was fitted as an ordinary classifier of clips.
    TypeError
        If `paths` is a single path instead of a list, or `send_files` is not a bool.
    ValueError
        If `channels` is not supported, `prior` is not between 0 and 1, or the `hop` of the detector is longer than a
        window.
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    See Also
    --------
    mmestim.voice.write_report : Write the results as an HTML page.
    mmestim.voice.write_results : Write the results as JSON or CSV.
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
    check_choice("channels", channels, get_args(Channels))
    check_hop(detector.hop, min(detector.models_))
    check_flag("send_files", send_files)
    calibrator = detector._unaltered_calibrator
    if prior is not None and calibrator is not None:
        check_prior(prior, calibrator.base_rate)
    files = audio_files(paths)
    n_processes = effective_n_jobs(n_jobs) if detector.device_ == "cpu" else 1
    return _iter_results(detector, files, _Settings(channels, prior), min(n_processes, len(files)), send_files)


class _Settings(NamedTuple):
    """Parameters of `scan_files` that apply to every file."""

    channels: Channels
    prior: float | None


def _iter_results(
    detector: VoiceEditDetector, files: Sequence[str], settings: _Settings, n_processes: int, send_files: bool
) -> Iterator[ScannedFile | Skipped]:
    tasks = ((index, place_file(path, n_processes, send_files), settings) for index, path in enumerate(files))
    results = run_tasks(_scan_file, tasks, n_processes, shared=(detector,))
    for index, (path, found) in enumerate(zip(files, results, strict=True)):
        yield from [Skipped(index, path, _why_not_read(path))] if found is None else found


def place_file(path: str, n_processes: int, send_files: bool) -> PlacedFile:
    """Return a file as a process reads it: by its path, or on another machine from its content."""
    content = None
    if send_files and n_processes > 1 and not has_local_workers() and os.path.isfile(path):
        try:
            content = np.fromfile(path, np.uint8)
        except OSError:  # The worker will name the same reason.
            pass
    return PlacedFile(path, os.getcwd(), content)


def _scan_file(
    detector: VoiceEditDetector, index: int, file: PlacedFile, settings: _Settings
) -> list[ScannedFile | Skipped] | None:
    """Return the result of a file, or those of its channels; None if there is no such file."""
    try:
        if os.path.isdir(file.location):
            return None
        return [
            _scan_recording(detector, stream, settings.prior)
            for stream in open_recordings(file, RATE, settings.channels)
        ]
    except MissingFileError:
        return None
    except AudioError as error:
        return [Skipped(index, file.name, error.reason)]
    except Exception as error:  # an error of one file must not stop the scan of the others
        return [Skipped(index, file.name, f"could not be scanned. {type(error).__name__}: {error}")]


def _scan_recording(detector: VoiceEditDetector, stream: AudioStream, prior: float | None) -> ScannedFile:
    if reason := why_not_judged(stream):
        analysis = undecided_analysis(stream.duration, reason)
    else:
        analysis = analyze_recording(detector, stream, locate=True)
        if stream.gaps:  # They are known once the file was read.
            analysis = _analyze_around_gaps(detector, stream)
        analysis = analysis if prior is None or analysis.cannot_tell else analysis.with_prior(prior)
    facts = stream.facts
    container = facts.codec if facts.codec == facts.container else f"{facts.codec} in {facts.container}"
    return ScannedFile(
        stream.path,
        analysis,
        stream.channel,
        facts.sample_rate,
        facts.n_channels,
        container,
        stream.notes,
        stream.gaps,
    )


def _analyze_around_gaps(detector: VoiceEditDetector, stream: AudioStream) -> ClipAnalysis:
    size = round(MIN_SECONDS * RATE)
    if not any(iter_windows(stream, size, size, RATE, stream.gaps)):
        return undecided_analysis(stream.duration, "Too little of it can be decoded.")
    return analyze_recording(detector, stream, locate=True, gaps=stream.gaps)


def _why_not_read(path: str) -> str:
    """Return why no worker found a file, or why `audio_files` could not replace a folder by its files."""
    if not os.path.isdir(path):
        return explain_missing(path, "pass send_files=True")
    try:
        files_in(path, is_thorough=True)
    except ValueError as error:
        return str(error)
    return "is a folder whose content has changed since it was listed. Scan it again."
