"""Explanation of a detector's result in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..taxonomy import CHANGED_CONTENT, PROCESSING, TAXONOMY, UNALTERED

if TYPE_CHECKING:
    from .clip_analysis import ClipAnalysis

# An edit with a recall below this is reported as more often missed than detected.
_LOW_RECALL = 0.5
# A segment that covers this fraction of the recording is not described by its times.
_WHOLE_RECORDING = 0.98


def describe_finding(analysis: ClipAnalysis) -> str:
    """Return the sentences about what was detected in a recording: changed content, processing, or neither.

    Parameters
    ----------
    analysis : ClipAnalysis
        Analysis of the recording by a detector of edits.

    Returns
    -------
    str
        Detected edits with their places and probabilities, or the probability that there are none.
    """
    recording = f"recording of {analysis.duration:.1f} s"
    if analysis.cannot_tell:
        return f"There is no result for the {recording}. {analysis.cannot_tell}"
    changes, processing = (
        [_describe_edit(label, analysis) for label in analysis.labels_of_kind(kind)]
        for kind in (CHANGED_CONTENT, PROCESSING)
    )
    if not (changes or processing):
        return f"The {recording} shows no sign of the tested edits. {describe_unaltered(analysis)}"
    signs = f"signs of processing, which shows how it was recorded or sent: {_join(processing)}." if processing else ""
    if not changes:
        return f"The {recording} shows no sign of the tested changes of its content. It shows {signs}"
    sentence = f"The {recording} shows signs of changed content: {_join(changes)}."
    return f"{sentence} It also shows {signs}" if signs else sentence


def describe_unaltered(analysis: ClipAnalysis) -> str:
    """Return a sentence with the probability that nothing was edited, and the prior that it assumes."""
    sentence = f"The probability that nothing was edited is {percent(analysis.probabilities[UNALTERED])}"
    if analysis.prior is None:
        return f"{sentence}."
    return f"{sentence}, if {percent(analysis.prior)} of such recordings are unedited."


def describe_limits(analysis: ClipAnalysis) -> str:
    """Return the sentences about the edits that were not detected or not tested, and about the probabilities."""
    undetected = [label for label in analysis.tested if label not in analysis.labels]
    often_missed = [label for label in undetected if analysis.recalls[label] < _LOW_RECALL]
    seldom_missed = [label for label in undetected if label not in often_missed]
    not_tested = [label for label in analysis.not_tested if label not in analysis.labels]
    sentences = []
    if seldom_missed:
        sentences.append(f"Tested and not detected: {_join_labels(seldom_missed)}.")
    if often_missed:
        sentences.append(
            f"Also not detected, but missed more often than detected in tests: {_join_labels(often_missed)}."
        )
    if not_tested:
        sentences.append(f"Not tested: {_join_labels(not_tested)}.")
    sentences.append("The probabilities are valid for speech similar to the training data, and are no proof.")
    return " ".join(sentences)


def percent(proba: float) -> str:
    """Return a probability as text, without more precision than its calibration supports."""
    if math.isnan(proba):
        return "unknown"
    return f"{100 * proba:.0f} %" if 0.01 <= proba <= 0.99 else "below 1 %" if proba < 0.5 else "above 99 %"


def _describe_edit(label: str, analysis: ClipAnalysis) -> str:
    segments = [segment for segment in analysis.segments if segment.label == label]
    places = ""
    points = [f"{segment.start:.2f} s" for segment in segments if segment.is_point]
    # The model locates the point only within an interval.
    preposition, conjunction = ("between", "and") if TAXONOMY[label].acts_on == "points" else ("from", "to")
    intervals = [
        f"{segment.start:.2f} {conjunction} {segment.end:.2f} s"
        for segment in segments
        if not segment.is_point and segment.duration < _WHOLE_RECORDING * analysis.duration
    ]
    if points:
        places += f" at {_join(points)}"
    if intervals:
        places += f" {preposition} {_join(intervals)}"
    return f"{_describe_label(label)}{places} (probability {percent(analysis.probabilities[label])})"


def _describe_label(label: str) -> str:
    info = TAXONOMY[label]
    return f"{info.plain_name} ({info.imitates})"


def _join_labels(labels: Sequence[str]) -> str:
    return _join([_describe_label(label) for label in labels])


def _join(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
