"""Report of a scan for readers without technical knowledge: detected edits, their places, probabilities and limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

from joblib import Parallel, delayed

from ..._utils.atomic_write import write_atomically
from .._audio.corpus import Skipped
from .._detection.detector import VoiceEditDetector
from .._detection.explanation import percent
from ..segments import EditSegment
from ..taxonomy import LABELS, TAXONOMY, UNALTERED
from .html_page import render_page
from .media import Media, build_media, plan_excerpts
from .model_facts import describe_model, tested_labels
from .scan import ScannedFile, format_place

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


class _TestedEdit(NamedTuple):
    """A row of the table of all edits that one recording was tested for."""

    label: str
    description: str
    probability: float
    threshold: float
    recall: float
    is_found: bool


class _TaxonomyEdit(NamedTuple):
    """A row of the table of all edits in the taxonomy."""

    label: str
    description: str
    is_tested: bool


class _RecordingView(NamedTuple):
    """The variables of ``recording.html.j2``."""

    file: ScannedFile
    media: Media
    marks: Sequence[_Mark]
    tested_edits: Sequence[_TestedEdit]

    @property
    def unaltered_probability(self) -> float:
        """Probability that the recording is unedited."""
        return self.file.proba[UNALTERED]

    @property
    def n_hidden(self) -> int:
        """Number of segments that are not shown."""
        return len(self.file.segments) - len(self.marks)

    @property
    def picture_height(self) -> float:
        """Height of the picture in rem, such that the captions of the labels do not overlap."""
        return max(9, 1.6 * len({mark.segment.label for mark in self.marks}))

    @property
    def is_played_whole(self) -> bool:
        """Whether one excerpt plays all of the recording."""
        excerpts = self.media.excerpts
        return len(excerpts) == 1 and excerpts[0].end - excerpts[0].start >= self.file.duration


def write_report(
    results: Iterable[ScannedFile | Skipped],
    file: str | os.PathLike[str],
    detector: VoiceEditDetector,
    *,
    model: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
) -> None:
    """Write the results of a scan as one HTML page, which needs no other file and no network.

    For each file, the page has the verdict, a paragraph that can be quoted, a spectrogram with the edits marked, the
    recording to listen to, and the probability of every edit.

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
    n_jobs : int, default=None
        Number of processes that draw and encode. `None` means 1, and -1 means one for each core.

    Raises
    ------
    OSError
        If the page cannot be written or the file of the model cannot be read.

    See Also
    --------
    scan_files : Scan files.

    Notes
    -----
    Recordings longer than two minutes are shown in excerpts: each edit with three seconds before and after
    it, the most probable edits first, up to two minutes in total. The page holds at most about 40 MB of pictures and
    sound. Files with edits come first, and files without pictures and sound are marked as such. The sound is MP3 at
    16 kHz: for listening, not for measurements.

    Examples
    --------
    >>> from mmestim.voice import scan_files, write_report
    >>> results = scan_files(detector, ["recordings"])  # doctest: +SKIP
    >>> write_report(results, "report.html", detector, model="model.mme")  # doctest: +SKIP
    """
    results = list(results)
    files = [result for result in results if isinstance(result, ScannedFile)]
    model_facts = describe_model(detector, model)
    n_processes = 1 if len(files) < 2 else n_jobs
    media = Parallel(n_processes, return_as="generator")(
        delayed(build_media)(file, spans) for file, spans in zip(files, plan_excerpts(files), strict=True)
    )
    context = {
        "title": f"Edits in {len(results)} {'recording' if len(results) == 1 else 'recordings'}",
        "n_edited": sum(file.is_edited for file in files),
        "files": files,
        "skipped": [result for result in results if isinstance(result, Skipped)],
        "created_at": f"{datetime.now(UTC).astimezone():%Y-%m-%d at %H:%M %Z}",
        "version": version("mmestim"),
        "recordings": _recording_views(files, media, detector),
        "taxonomy_edits": _taxonomy_edits(detector),
        "model_facts": model_facts,
    }
    filters: dict[str, Callable[..., str]] = {"percent": percent, "clock": _format_clock, "place": format_place}
    write_atomically(file, render_page(context, filters))


def _recording_views(
    files: Iterable[ScannedFile], media: Iterable[Media], detector: VoiceEditDetector
) -> Iterator[_RecordingView]:
    thresholds, recalls = (
        dict(zip(detector.labels_.tolist(), values.tolist(), strict=True))
        for values in (detector.thresholds_, detector.recalls_)
    )
    for file, file_media in zip(files, media, strict=True):
        tested_edits = [
            _TestedEdit(label, _description(label), probability, thresholds[label], recalls[label], label in file.found)
            for label, probability in sorted(file.proba.items(), key=lambda item: -item[1])
            if label != UNALTERED
        ]
        yield _RecordingView(file, file_media, _marks(file.segments[:_MAX_SEGMENTS], file.duration), tested_edits)


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


def _taxonomy_edits(detector: VoiceEditDetector) -> list[_TaxonomyEdit]:
    """List all edits of the taxonomy, those that the detector was tested on first."""
    tested = tested_labels(detector)
    untested = [label for label in LABELS[1:] if label not in tested]
    return [_TaxonomyEdit(label, _description(label), label in tested) for label in [*tested, *untested]]


def _description(label: str) -> str:
    return TAXONOMY[label].imitates if label in TAXONOMY else ""


def _format_clock(seconds: float) -> str:
    """Format a time as minutes and seconds, preceded by hours if it has any."""
    n_minutes, remaining_seconds = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(n_minutes), 60)
    return f"{hours}:{minutes:02d}:{remaining_seconds:04.1f}" if hours else f"{minutes}:{remaining_seconds:04.1f}"
