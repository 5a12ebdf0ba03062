"""A page on scanned files that anyone can read: what was found, where, how sure it is, and what was not tested."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from ..._utils.atomic_write import write_whole
from .._audio.corpus import Skipped
from .._detection.detector import VoiceEditDetector
from .._detection.explanation import percent
from ..localization import EditSegment
from ..taxonomy import LABELS, TAXONOMY
from .html_page import facts, name, page, table, text
from .media import Media, media_of, planned
from .scan import ScannedFile, place_of

_MOST_PLACES = 100  # of a file, in the picture and the table
_LIBRARIES = ("mmestim", "torch", "numpy")


def write_report(
    results: Iterable[ScannedFile | Skipped],
    file: str | os.PathLike[str],
    detector: VoiceEditDetector,
    *,
    model: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
) -> None:
    """Write what was found in files as one HTML page, which needs no other file and no network.

    For each file it has the verdict, a paragraph that can be quoted, a spectrogram with the edits marked in it, the
    recording to listen to, and the probability of every edit.

    Parameters
    ----------
    results : iterable of ScannedFile or Skipped
        From `scan_files`. The files are read again, for their pictures and their sound.
    file : str or path
        The page; what is there is replaced once all is written.
    detector : VoiceEditDetector
        The one that `scan_files` was given: the page tells what it was trained on, and what it does not look for.
    model : str or path, default=None
        Its file, of which the page tells the name, the date and the SHA-256.
    n_jobs : int, default=None
        Processes that draw and encode; `None` is one, -1 as many as there are cores.

    Raises
    ------
    OSError
        If the page cannot be written, or the model's file not be read.

    See Also
    --------
    scan_files : The results.

    Notes
    -----
    Recordings of more than two minutes are played in parts, three seconds before to three after their edits, the
    surest first, up to two minutes of each. The page takes some 40 MB of pictures and sound, of files with edits first,
    and says which files have none. What is played is MP3 of 16 kHz: for listening, not for measuring.

    Examples
    --------
    >>> from mmestim.voice.report import write_report
    >>> from mmestim.voice.scan import scan_files
    >>> results = scan_files(detector, ["recordings"])  # doctest: +SKIP
    >>> write_report(results, "report.html", detector, model="model.mme")  # doctest: +SKIP
    """
    results = list(results)
    files = [result for result in results if isinstance(result, ScannedFile)]
    bad = [result for result in results if isinstance(result, Skipped)]
    about_model = _about_model(detector, model)
    n_processes = 1 if len(files) < 2 else n_jobs
    media = Parallel(n_processes, return_as="generator")(
        delayed(media_of)(file, spans) for file, spans in zip(files, planned(files), strict=True)
    )
    title = f"Edits in {len(results)} {'recording' if len(results) == 1 else 'recordings'}"
    write_whole(file, page(title, _body(title, files, bad, media, detector, about_model)))


def _body(
    title: str,
    files: Sequence[ScannedFile],
    bad: Sequence[Skipped],
    media: Iterable[Media],
    detector: VoiceEditDetector,
    about_model: Sequence[tuple[str, str]],
) -> Iterator[str]:
    n_edited = sum(file.is_edited for file in files)
    read = f" {len(bad)} could not be read." if bad else ""
    now = datetime.now(UTC).astimezone()
    yield f"<h1>{text(title)}</h1>"
    yield f"<p>Edits were found in {n_edited} of {len(files)} recordings that could be read.{read}</p>"
    yield f'<p class="quiet">Made on {now:%Y-%m-%d at %H:%M %Z} by mmestim {text(version("mmestim"))}.</p>'
    yield table(
        "The recordings, in the order in which they were given",
        ["Recording", "#Length", "Verdict", "What was found"],
        [
            [f'<a href="#file-{i}">{name(file.path)}</a>', _clock(file.duration), _verdict(file), text(file.summary)]
            for i, file in enumerate(files, 1)
        ],
    )
    if bad:
        rows = [[name(item.item), text(item.reason)] for item in bad]
        yield f"<section><h2>Not read</h2>{table('Nothing is said of these', ['File', 'Why'], rows)}</section>"
    for number, (file, own) in enumerate(zip(files, media, strict=True), 1):
        yield _section(number, file, own, detector)
    yield _tested(detector)
    yield f"<section><h2>The model</h2>{facts(about_model)}</section>"


# One file -------------------------------------------------------------------------------------------


def _section(number, file, media, detector):
    parts = [
        f'<section id="file-{number}" aria-labelledby="name-{number}"><h2 id="name-{number}">{name(file.path)}</h2>',
        f"<p>{_verdict(file)}</p><p>{text(file.explanation)}</p>",
    ]
    segments = list(file.segments[:_MOST_PLACES])
    if media.picture:
        parts.append(_figure(file, media.picture, segments))
    parts += [_player(file, excerpt) for excerpt in media.excerpts]
    if media.excerpts:
        whole = (
            ""
            if len(media.excerpts) == 1 and media.excerpts[0].end - media.excerpts[0].start >= file.duration
            else "Only parts around edits are played. "
        )
        parts.append(f'<p class="quiet">{whole}The sound was compressed again for this page.</p>')
    if media.note:
        parts.append(f'<p class="quiet">{text(media.note)}</p>')
    if segments:
        more = len(file.segments) - len(segments)
        caption = "Where" + (f"; {more} more are not shown" if more else "")
        rows = [[f"{i}", text(s.label), _place(s, file.duration), percent(s.score)] for i, s in enumerate(segments, 1)]
        parts.append(table(caption, ["#Number", "Edit", "Place", "#Probability"], rows))
    limits, recalls = (
        dict(zip(detector.labels_.tolist(), of_labels.tolist(), strict=True))
        for of_labels in (detector.thresholds_, detector.recalls_)
    )
    rows = [
        [
            text(label),
            text(_imitates(label)),
            _bar(p),
            percent(limits[label]),
            percent(recalls[label]),
            '<span class="found">found</span>' if label in file.found else "not found",
        ]
        for label, p in sorted(file.proba.items(), key=lambda item: -item[1])
        if label != "unaltered"
    ]
    parts.append(f"<p>Probability that nothing was edited: {percent(file.proba['unaltered'])}.</p>")
    parts.append(
        table(
            "Every edit that was looked for, the most probable first",
            ["Edit", "What people do", "Probability", "#Found from", "#Of such found in tests", "Verdict"],
            rows,
        )
    )
    return "\n".join([*parts, "</section>"])


def _verdict(file):
    return '<span class="found">&#9650; Edits found</span>' if file.is_edited else "&#9675; No edit found"


def _figure(file, picture, segments):
    lanes = list(dict.fromkeys(segment.label for segment in segments))
    height = 100 / max(1, len(lanes))
    marks = "".join(
        _mark(number, segment, file.duration, lanes.index(segment.label) * height, height)
        for number, segment in enumerate(segments, 1)
    )
    times = "".join(f"<span>{_clock(file.duration * part / 4)}</span>" for part in range(5))
    says = f"Spectrogram of {_clock(file.duration)}, 0 to 8 kHz. {file.summary or 'No edit found.'}"
    tall = f"height:{max(9, 1.6 * len(lanes)):.1f}rem"
    return (
        f'<figure><div class="picture" data-duration="{file.duration}" style="{tall}">'
        f'<img src="{picture}" alt="{text(says)}">{marks}</div><div class="times" aria-hidden="true">{times}</div>'
        '<figcaption class="quiet">Time from left to right, 0 to 8 kHz from below; the darker, the louder. Frames mark '
        "edits, by the numbers of the table.</figcaption></figure>"
    )


def _mark(number, segment, duration, top, height):
    left, width = (100 * seconds / duration for seconds in (segment.start, segment.duration))
    left = min(left, 99.5)  # seen also at the end
    late = " late" if left > 80 else ""
    place = f"left:{left:.3f}%;width:{min(width, 100 - left):.3f}%;top:{top:.2f}%;height:{height:.2f}%"
    title = text(f"{segment.label} {place_of(segment, duration)}, {percent(segment.score)}")
    return (
        f'<div class="mark{late}" style="{place}" title="{title}" aria-hidden="true">'
        f"<span>{number} {text(segment.label)}</span></div>"
    )


def _player(file, excerpt):
    span = f"{_clock(excerpt.start)} to {_clock(excerpt.end)}"
    return (
        f'<p class="quiet">{span}</p><audio controls preload="metadata" data-start="{excerpt.start}" '
        f'data-end="{excerpt.end}" aria-label="{text(file.path)}, {span}" src="{excerpt.uri}"></audio>'
    )


def _place(segment: EditSegment, duration: float) -> str:
    return f'<span data-time="{segment.start}">{text(place_of(segment, duration))}</span>'


def _bar(proba):
    return f'<span class="bar" aria-hidden="true"><i style="width:{100 * proba:.1f}%"></i></span>{percent(proba)}'


def _clock(seconds):
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _imitates(label):
    return TAXONOMY[label].imitates if label in TAXONOMY else ""


# What was tested, and by what -------------------------------------------------------------------------


def tested_labels(detector: VoiceEditDetector) -> list[str]:
    """Edits that a detector was tried on, on speakers that its models do not know."""
    is_known = ~np.isnan(detector.recalls_)
    return [label for label in detector.labels_[is_known].tolist() if label != "unaltered"]


def _tested(detector):
    tested = tested_labels(detector)
    untested = [label for label in LABELS[1:] if label not in tested]
    rows = [
        [text(label), text(_imitates(label)), "tested" if label in tested else "<strong>not tested</strong>"]
        for label in [*tested, *untested]
    ]
    return (
        "<section><h2>What was and what was not tested</h2><p>A probability is that of the edit in speech like that "
        "which the model was trained on; it is no proof. That no edit was found does not say that a recording is "
        "genuine: an edit may be of a kind that was not tested, too slight, or hidden by later compression. In a long "
        "recording a passage has to be the surer, so short edits are missed more often.</p>"
        + table("Edits that this package knows of", ["Edit", "What people do", "Tested"], rows)
        + "</section>"
    )


def _about_model(detector: VoiceEditDetector, model: Any) -> list[tuple[str, str]]:
    about = []
    if model is not None:
        with open(model, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        changed = datetime.fromtimestamp(os.path.getmtime(model), UTC)
        about += [
            ("File", os.fspath(model)),
            ("Last changed", f"{changed:%Y-%m-%d %H:%M} UTC"),
            ("SHA-256", digest),
        ]
    windows = ", ".join(f"{seconds:g}" for seconds in detector.models_)
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _LIBRARIES)]
    about += [
        ("Kind", f"VoiceEditDetector, model={detector.model!r}, windows of {windows} s"),
        ("Versions in use", ", ".join(versions)),
    ]
    report = getattr(detector, "training_report_", None)
    if not report:
        return [*about, ("Training", "The file does not tell how the model was trained.")]
    most = f"{detector.max_false_alarm_rate:.1%}"
    about += [
        (
            "Trained on",
            f"{report['n_clips']} clips of {report['n_speakers']} speakers, "
            + ("edited by simulation" if report.get("is_simulated", True) else "of which the edits were known"),
        ),
        (
            "Thresholds",
            "those from 25 % on with the best F1 for each edit, raised until at most "
            f"{most} of the unedited windows of speakers kept from the models show any",
        ),
    ]
    for key, own in report.items():
        if isinstance(own, dict):
            about.append((f"On the speakers kept from the models, {key} s", training_figures(own)))
    return about


def training_figures(report: dict[str, Any]) -> str:
    """How well the windows of one length were told, in words.

    Parameters
    ----------
    report : dict
        An entry of a detector's `training_report_`.

    Returns
    -------
    str
        Its false alarms and means over the edits.
    """
    macro = report["macro"]
    limits = {own["threshold"] for own in report["labels"].values()}
    limit = f"at a threshold of {limits.pop():.2f}" if len(limits) == 1 else "at its thresholds"
    alarms = "no unedited windows"
    if n := report["n_unedited"]:
        alarms = f"any edit seen in {percent(report['false_alarm_rate'])} of {n} unedited windows {limit}"
    return (
        f"{alarms}; mean over the edits: average precision {macro['average_precision']:.2f}, ROC-AUC "
        f"{macro['roc_auc']:.2f}"
    )
