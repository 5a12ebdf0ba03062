"""Facts about a detector for a report: its file, its training and the edits it was tested on."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from .._detection.detector import VoiceEditDetector
from .._detection.explanation import percent
from ..taxonomy import UNALTERED

_LIBRARIES = ("mmestim", "torch", "numpy")


def tested_labels(detector: VoiceEditDetector) -> list[str]:
    """List the edits that a detector was tested on, with speakers that its models were not trained on."""
    is_tested = ~np.isnan(detector.recalls_)
    return [label for label in detector.labels_[is_tested].tolist() if label != UNALTERED]


def describe_model(detector: VoiceEditDetector, model: str | os.PathLike[str] | None) -> list[tuple[str, str]]:
    """List terms and descriptions: the file of the model, its kind, versions in use, and its training."""
    return [*_file_facts(model), *_version_facts(detector), *_training_facts(detector)]


def _file_facts(model: str | os.PathLike[str] | None) -> list[tuple[str, str]]:
    if model is None:
        return []
    changed = datetime.fromtimestamp(os.path.getmtime(model), UTC)
    facts = [("File", os.fspath(model)), ("Last changed", f"{changed:%Y-%m-%d %H:%M} UTC")]
    return [*facts, ("SHA-256", file_sha256(model))]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _version_facts(detector: VoiceEditDetector) -> list[tuple[str, str]]:
    windows = ", ".join(f"{seconds:g}" for seconds in detector.models_)
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _LIBRARIES)]
    return [
        ("Kind", f"VoiceEditDetector, model={detector.model!r}, windows of {windows} s"),
        ("Software versions", ", ".join(versions)),
    ]


def _training_facts(detector: VoiceEditDetector) -> list[tuple[str, str]]:
    report = getattr(detector, "training_report_", None)
    if not report:
        return [("Training", "The file of the model has no training report.")]
    source = "with simulated edits" if report.get("is_simulated", True) else "with known edits"
    return [
        ("Trained on", f"{report['n_clips']} clips of {report['n_speakers']} speakers, {source}"),
        (
            "Thresholds",
            "for each edit, the threshold of at least 25 % with the best F1, raised until at most "
            f"{detector.max_false_alarm_rate:.1%} of the windows of held-out speakers, unedited or only encoded, have "
            "other processing detected, and as small a fraction of those without changed content has changed content "
            "detected",
        ),
        *(
            (f"On held-out speakers, {window} s", training_figures(figures))
            for window, figures in report.items()
            if isinstance(figures, dict)
        ),
    ]


def training_figures(report: dict[str, Any]) -> str:
    """Describe in words how well the edits in windows of one length were detected.

    Parameters
    ----------
    report : dict
        Entry of a detector's `training_report_`.

    Returns
    -------
    str
        The rate of false alarms and the means of the metrics over the edits.
    """
    macro = report["macro"]
    thresholds = {figures["threshold"] for figures in report["labels"].values()}
    limit = f"at a threshold of {thresholds.pop():.2f}" if len(thresholds) == 1 else "at its thresholds"
    alarms = "no unedited windows"
    if n_unedited := report["n_unedited"]:
        alarms = f"any edit detected in {percent(report['false_alarm_rate'])} of {n_unedited} unedited windows {limit}"
    return (
        f"{alarms}; means over the edits: average precision {macro['average_precision']:.2f}, ROC-AUC "
        f"{macro['roc_auc']:.2f}"
    )
