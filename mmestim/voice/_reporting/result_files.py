"""Files of all results of a scan, as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from ..._utils.atomic_write import write_atomically
from ..._utils.validation import check_choice
from .._audio.corpus import Skipped
from ..formats.json_csv import VERSION, escape_row
from ..segments import EditSegment
from ..taxonomy import CHANGED_CONTENT, PROCESSING, TAXONOMY, UNALTERED
from .model_facts import file_sha256
from .scan import ScannedFile

_UNREAD = "could not be read"
_CSV_COLUMNS = (
    *("file", "channel", "verdict", "reason", "label", "kind", "category", "start", "end", "score", "duration"),
    *("sample_rate", "n_channels", "container", "notes", "gaps", "prior", "model_sha256"),
)

Results = Sequence[ScannedFile | Skipped]


def write_results(
    results: Iterable[ScannedFile | Skipped],
    file: str | os.PathLike[str],
    format: Literal["json", "csv"] | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
) -> None:
    """Write all results of a scan for other programs.

    Parameters
    ----------
    results : iterable of ScannedFile or Skipped
        Results of `scan_files`.
    file : str or path
        File to write, in UTF-8. An existing file is replaced once the new one is complete.
    format : {'json', 'csv'}, default=None
        `None` chooses by the suffix.
    model : str or path, default=None
        File of the detector, whose SHA-256 the results contain.

    Raises
    ------
    ValueError
        If the format is unknown.
    OSError
        If the file cannot be written or the file of the model cannot be read.

    See Also
    --------
    scan_files : Scan files.
    mmestim.voice.formats.read_segments : Reads the segments from these files.

    Notes
    -----
    'json' has a list ``files`` with the verdict, the detected edits of both kinds, the explanation, all probabilities
    and thresholds, the segments, and the facts about the recording; a list ``unread`` of files that could not be read,
    with reasons; and the ``model``. 'csv' has one row per segment, and one for a file without segments or one that
    could not be read. Columns ``probability_<label>`` and ``threshold_<label>`` and the facts are the same in all rows
    of a file. Texts that a spreadsheet would run as formulas have an apostrophe before them.

    Examples
    --------
    >>> from mmestim.voice import scan_files, write_results
    >>> results = scan_files(detector, ["recordings"])  # doctest: +SKIP
    >>> write_results(results, "results.csv", model="model.mme")  # doctest: +SKIP
    """
    suffix = os.path.splitext(os.fspath(file))[1].lower().lstrip(".")
    text = format_results(list(results), suffix if format is None else format, model)
    write_atomically(file, [text.encode("utf-8", "surrogateescape")])


def format_results(results: Results, format: str, model: str | os.PathLike[str] | None) -> str:
    """Return the text that `write_results` writes."""
    check_choice("format", format, RESULT_FORMATS)
    return RESULT_FORMATS[format](results, None if model is None else os.fspath(model))


def _to_json(results: Results, model: str | None) -> str:
    content = {
        "version": VERSION,
        "model": None if model is None else {"file": model, "sha256": file_sha256(model)},
        "files": [_json_fields(file) for file in results if isinstance(file, ScannedFile)],
        "unread": [{"file": item.item, "reason": item.reason} for item in results if isinstance(item, Skipped)],
    }
    # With ASCII escapes, because file names that are not valid Unicode cannot be encoded as UTF-8.
    return json.dumps(content, indent=1) + "\n"


def _json_fields(file: ScannedFile) -> dict[str, Any]:
    analysis = file.analysis
    return {
        **_shared_fields(file),
        "changed_content": analysis.labels_of_kind(CHANGED_CONTENT),
        "processing": analysis.labels_of_kind(PROCESSING),
        "explanation": analysis.explanation,
        "probabilities": analysis.probabilities,
        "thresholds": analysis.thresholds,
        "segments": [vars(segment) for segment in analysis.segments],
        "notes": file.notes,
        "gaps": file.gaps,
    }


def _shared_fields(file: ScannedFile) -> dict[str, Any]:
    """Return the fields that both formats hold alike."""
    return {
        "file": file.path,
        "channel": file.channel,
        "verdict": file.verdict,
        "reason": file.analysis.cannot_tell,
        "duration": file.analysis.duration,
        "sample_rate": file.sample_rate,
        "n_channels": file.n_channels,
        "container": file.container,
        "prior": file.analysis.prior,
    }


def _to_csv(results: Results, model: str | None) -> str:
    sha256 = "" if model is None else file_sha256(model)
    # Without a verdict, there may be no probabilities either.
    analyses = [file.analysis for file in results if isinstance(file, ScannedFile)]
    labels = max((analysis.probabilities for analysis in analyses), key=len, default={})
    numbers = [f"probability_{label}" for label in labels]
    numbers += [f"threshold_{label}" for label in labels if label != UNALTERED]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_CSV_COLUMNS, *numbers])
    writer.writeheader()
    for result in results:
        if isinstance(result, Skipped):
            rows = [{"file": result.item, "verdict": _UNREAD, "reason": result.reason}]
        else:
            rows = [_csv_fields(result, segment) for segment in result.analysis.segments or [None]]
        writer.writerows(escape_row({**row, "model_sha256": sha256}) for row in rows)
    return text.getvalue()


def _csv_fields(file: ScannedFile, segment: EditSegment | None) -> dict[str, Any]:
    analysis = file.analysis
    return {
        **_shared_fields(file),
        **({} if segment is None else {"kind": TAXONOMY[segment.label].kind, **vars(segment)}),
        "notes": " ".join(file.notes),
        "gaps": " ".join(f"{start:.3f}-{end:.3f}" for start, end in file.gaps),
        **{f"probability_{label}": value for label, value in analysis.probabilities.items()},
        **{f"threshold_{label}": value for label, value in analysis.thresholds.items()},
    }


RESULT_FORMATS: dict[str, Callable[[Results, str | None], str]] = {"json": _to_json, "csv": _to_csv}
