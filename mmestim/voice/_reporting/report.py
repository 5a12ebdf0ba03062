"""Report of a scan for readers without technical knowledge: detected edits, their places, probabilities and limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

from joblib import effective_n_jobs

from ..._utils.atomic_write import write_atomically
from ..._utils.parallel import run_tasks
from ..._utils.validation import check_flag
from .._audio.corpus import Skipped
from .._detection.clip_analysis import VERDICTS
from .._detection.detector import VoiceEditDetector
from .._detection.explanation import describe_finding, describe_unaltered, percent
from .._files.paths import explain_missing
from ..segments import EditSegment
from ..taxonomy import EDIT_LABELS, TAXONOMY, UNALTERED
from .html_page import render_page
from .media import Media, build_media, plan_excerpts, unreadable_media
from .model_facts import describe_model, tested_labels
from .scan import ScannedFile, format_place, place_file

_MAX_SEGMENTS = 100  # shown for one file, in the picture and the table


class _Mark(NamedTuple):
    """A segment and its frame in the picture, in percent of the picture's width and height."""

    segment: EditSegment
    left: float
    width: float
    top: float
    height: float

    @property
    def is_late(self) -> bool:
        """Whether the frame is so far to the right that its caption must extend to the left."""
        return self.left > 80


class _EditFacts(NamedTuple):
    """A row of the table of the edits that the detector was tested on, in words."""

    label: str
    threshold: str
    recall: str


class _RecordingView(NamedTuple):
    """The variables of ``recording.html.j2``."""

    file: ScannedFile
    media: Media
    marks: Sequence[_Mark]
    finding: str
    unaltered: str  # empty if the finding contains the probability

    @property
    def edits(self) -> list[tuple[str, float]]:
        """Edits that the model detects with their probabilities, the most probable first."""
        probabilities = self.file.analysis.probabilities.items()
        return sorted((item for item in probabilities if item[0] != UNALTERED), key=lambda item: -item[1])

    @property
    def n_hidden(self) -> int:
        """Number of segments that are not shown."""
        return len(self.file.analysis.segments) - len(self.marks)

    @property
    def picture_height(self) -> float:
        """Height of the picture in rem, such that the captions of the labels do not overlap."""
        return max(9, 1.6 * len({mark.segment.label for mark in self.marks}))

    @property
    def is_played_whole(self) -> bool:
        """Whether one excerpt plays all of the recording."""
        excerpts = self.media.excerpts
        return len(excerpts) == 1 and excerpts[0].end - excerpts[0].start >= self.file.analysis.duration


def write_report(
    results: Iterable[ScannedFile | Skipped],
    file: str | os.PathLike[str],
    detector: VoiceEditDetector,
    *,
    model: str | os.PathLike[str] | None = None,
    prior: float | None = None,
    n_jobs: int | None = None,
    send_files: bool = False,
) -> None:
    """Write the results of a scan as one HTML page, which needs no other file and no network.

    For each recording, the page has the verdict, a paragraph that can be quoted, a spectrogram with the edits marked,
    the sound, and the probability of every edit. Recordings with changed content come first, then those with traces of
    processing only.

    Parameters
    ----------
    results : iterable of ScannedFile or Skipped
        Results of `scan_files`. The files are read again for their pictures and sound.
    file : str or path
        Path of the page. An existing file is replaced once the page is complete.
    detector : VoiceEditDetector
        Detector that `scan_files` used. The page describes its training and lists the edits it was not tested on.
    model : str or path, default=None
        File of the detector. The page contains its name, date and SHA-256.
    prior : float, default=None
        Probability that a recording is unedited before it is analyzed, for the probability that nothing was edited.
        `None` is the one that the results have.
    n_jobs : int, default=None
        Number of processes that draw and encode. `None` means 1, or all workers of a cluster if its backend of joblib
        is active, and -1 means one for each core.
    send_files : bool, default=False
        Whether the workers of a cluster are sent the content of the files, as in `scan_files`.

    Raises
    ------
    TypeError
        If `send_files` is not a bool.
    ValueError
        If `prior` is not between 0 and 1.
    OSError
        If the page cannot be written or the file of the model cannot be read.

    See Also
    --------
    scan_files : Scan files.
    write_results : Write the results for other programs.

    Notes
    -----
    Recordings longer than two minutes are shown in excerpts: each edit with three seconds before and after
    it, the most probable edits first, up to two minutes in total. The page holds at most about 40 MB of pictures and
    sound; recordings for which there is no room are marked as such. The sound is MP3 at 16 kHz: for listening, not for
    measurements.

    Examples
    --------
    >>> from mmestim.voice import scan_files, write_report
    >>> results = scan_files(detector, ["recordings"])  # doctest: +SKIP
    >>> write_report(results, "report.html", detector, model="model.mme")  # doctest: +SKIP
    """
    check_flag("send_files", send_files)
    results = list(results)
    files = [result for result in results if isinstance(result, ScannedFile)]
    if prior is not None:
        files = [
            file if file.analysis.cannot_tell else replace(file, analysis=file.analysis.with_prior(prior))
            for file in files
        ]
    files.sort(key=lambda file: VERDICTS.index(file.verdict))
    model_facts = describe_model(detector, model)
    n_processes = min(effective_n_jobs(n_jobs), max(1, len(files)))
    tasks = (
        (file, place_file(file.source or file.path, n_processes, send_files and spans is not None), spans)
        for file, spans in zip(files, plan_excerpts(files), strict=True)
    )
    media = run_tasks(build_media, tasks, n_processes)
    tested = tested_labels(detector)
    context = {
        "title": f"Edits in {len(results)} {'recording' if len(results) == 1 else 'recordings'}",
        "counts": {verdict: sum(file.verdict == verdict for file in files) for verdict in VERDICTS},
        "files": files,
        "skipped": [result for result in results if isinstance(result, Skipped)],
        "created_at": f"{datetime.now(UTC).astimezone():%Y-%m-%d at %H:%M %Z}",
        "version": version("mmestim"),
        "recordings": (_recording_view(*item) for item in zip(files, media, strict=True)),
        "prior": next((file.analysis.prior for file in files if not file.analysis.cannot_tell), None),
        "tested": _edit_facts(detector, tested),
        "not_tested": [label for label in EDIT_LABELS if label not in tested],
        "taxonomy": TAXONOMY,
        "model_facts": model_facts,
    }
    filters: dict[str, Callable[..., str]] = {"percent": percent, "clock": _format_clock, "place": format_place}
    write_atomically(file, render_page(context, filters))


def _recording_view(file: ScannedFile, media: Media | None) -> _RecordingView:
    if media is None:
        media = unreadable_media(explain_missing(file.source or file.path, "pass send_files=True"))
    analysis = file.analysis
    marks = _marks(analysis.segments[:_MAX_SEGMENTS], analysis.duration)
    unaltered = describe_unaltered(analysis) if analysis.labels else ""
    return _RecordingView(file, media, marks, describe_finding(analysis), unaltered)


def _marks(segments: Sequence[EditSegment], duration: float) -> list[_Mark]:
    """Place each segment in the picture, in one lane per label."""
    lanes = list(dict.fromkeys(segment.label for segment in segments))
    height = 100 / max(1, len(lanes))
    marks = []
    for segment in segments:
        left = min(100 * segment.start / duration, 99.5)  # so that a mark at the end is visible, too
        width = min(100 * segment.duration / duration, 100 - left)
        marks.append(_Mark(segment, left, width, lanes.index(segment.label) * height, height))
    return marks


def _edit_facts(detector: VoiceEditDetector, labels: Sequence[str]) -> list[_EditFacts]:
    """Describe from which probability each edit is reported, and how often it was found in tests."""
    rows = zip(detector.labels_.tolist(), detector.thresholds_.tolist(), detector.recalls_.tolist(), strict=True)
    return [
        _EditFacts(label, f"from {percent(threshold)} on", _recall_in_words(recall))
        for label, threshold, recall in rows
        if label in labels
    ]


def _recall_in_words(recall: float) -> str:
    n_found = round(10 * recall)
    count = "none" if recall == 0 else "all" if recall == 1 else f"{n_found} of 10"
    if 0 < recall < 1 and n_found in (0, 10):
        count = "less than 1 of 20" if n_found == 0 else "more than 19 of 20"
    return f"in {count} test clips that had it"


def _format_clock(seconds: float) -> str:
    """Format a time as minutes and seconds, preceded by hours if it has any."""
    n_minutes, remaining_seconds = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(n_minutes), 60)
    return f"{hours}:{minutes:02d}:{remaining_seconds:04.1f}" if hours else f"{minutes}:{remaining_seconds:04.1f}"
