"""Explanation of a detector's result in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..localization import EditSegment
from ..taxonomy import LABELS, TAXONOMY, UNALTERED

# An edit with a recall below this is reported as more often missed than detected.
_LOW_RECALL = 0.5
# A segment that covers this fraction of the recording is not described by its times.
_WHOLE_RECORDING = 0.98


def explanation(
    duration: float,
    proba: Mapping[str, float],
    detected: Sequence[str],
    segments: Sequence[EditSegment],
    recalls: Mapping[str, float],
) -> str:
    """Return a paragraph about one recording that can be quoted.

    Parameters
    ----------
    duration : float
        Length of the recording in seconds.
    proba : dict of str to float
        Probability of 'unaltered' and of each label.
    detected : sequence of str
        Detected edits, in the order in which they are listed.
    segments : sequence of EditSegment
        Segments of the detected edits.
    recalls : dict of str to float
        Recall of each label on held-out windows; NaN if no window had it, because all clips were too short.

    Returns
    -------
    str
        Detected edits with their segments and probabilities, edits that were not detected, and edits that were not
        tested.
    """
    edits = list(detected)
    if edits:
        descriptions = [
            _describe_edit(label, proba[label], duration, [segment for segment in segments if segment.label == label])
            for label in edits
        ]
        sentences = [f"The recording of {duration:.1f} s shows signs of {_join(descriptions)}."]
    else:
        sentences = [
            f"The recording of {duration:.1f} s shows no sign of the tested edits; the probability that it has none of "
            f"them is {percent(proba[UNALTERED])}."
        ]
    undetected = [label for label in proba if label not in (*edits, UNALTERED) and not math.isnan(recalls[label])]
    often_missed = [label for label in undetected if recalls[label] < _LOW_RECALL]
    seldom_missed = [label for label in undetected if label not in often_missed]
    not_tested = [label for label in LABELS[1:] if label not in (*edits, *undetected)]
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


def _describe_edit(label: str, proba: float, duration: float, segments: Sequence[EditSegment]) -> str:
    places = ""
    points = [f"{segment.start:.2f} s" for segment in segments if segment.is_point]
    intervals = [
        f"{segment.start:.2f} to {segment.end:.2f} s"
        for segment in segments
        if not segment.is_point and segment.duration < _WHOLE_RECORDING * duration
    ]
    if points:
        places += f" at {_join(points)}"
    if intervals:
        places += f" from {_join(intervals)}"
    return f"{_describe_label(label)}{places} (probability {percent(proba)})"


def _describe_label(label: str) -> str:
    return f"{label} ({TAXONOMY[label].imitates})" if label in TAXONOMY else label


def _join_labels(labels: Sequence[str]) -> str:
    return _join([_describe_label(label) for label in labels])


def _join(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
