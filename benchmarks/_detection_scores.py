"""From what a detector says of clips to figures: lines of part, label, metric, value and its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from _detection_data import ALL
from mmestim.voice import CATEGORIES, TAXONOMY, EditRecord
from mmestim.voice.localization import EditSegment, record_segments
from mmestim.voice.metrics import bootstrap_interval, detection_report, localization_report, per_label_scores
from mmestim.voice.metrics.detection import mean_of_defined

# What the prototype reached, area under the ROC curve and average precision: methods known before this package.
PROTOTYPE = {
    "cut": (0.757, 0.300),
    "paste": (0.796, 0.481),
    "mix": (0.892, 0.705),
    "pitch_shift": (0.971, 0.818),
    "time_stretch": (0.977, 0.862),
    "speed_change": (0.959, 0.772),
    "distortion": (0.993, 0.970),
    "mp3": (0.998, 0.974),
    "opus": (0.985, 0.931),
    "vorbis_aac": (0.996, 0.964),
    "telephone": (1.000, 0.999),
    "low_pass": (0.991, 0.957),
    "high_pass": (0.998, 0.992),
    "equalizer": (0.878, 0.554),
    "reverb": (1.000, 0.999),
    "echo": (0.999, 0.995),
    "background_noise": (0.999, 0.994),
}
# A property of the ROC curve, at no threshold of the detector's.
RECALL = "recall at 5 % false alarms"
OF_17, OF_ALL, OF_CHANGED = "mean of prototype's", "mean of all", "mean of changed"
# Edits that can be of all of a clip or of a part of it; what is told of both is told of each as well.
EITHER = {label for label, edit in TAXONOMY.items() if {"clip", "interval"} <= set(edit.scopes)}
THROUGHOUT, IN_PART = ", throughout", ", in part"


class Line(NamedTuple):
    """One figure; of most there is no interval."""

    label: str
    metric: str
    value: float
    low: float = np.nan
    high: float = np.nan


def detection_lines(
    truth: np.ndarray,
    fills: np.ndarray,
    proba: np.ndarray,
    labels: Sequence[str],
    thresholds: np.ndarray,
    speakers: np.ndarray,
    changed: Sequence[str],
    n_resamples: int,
) -> list[Line]:
    """How well labels are told.

    Parameters
    ----------
    truth : ndarray of shape (n_windows, n_labels)
        0, 1, or NaN where it cannot be said, 'unaltered' first.
    fills : bool ndarray of shape (n_windows, n_labels)
        Whether the label is there all the time.
    proba : ndarray of shape (n_windows, n_labels)
        Probabilities.
    labels : list of str
        Columns.
    thresholds : ndarray of shape (n_labels,)
        As the detector tuned them on speakers of its own.
    speakers : ndarray of shape (n_windows,)
        Drawn for the intervals.
    changed : sequence of str
        Labels to take a mean of besides those of all and of the prototype's.
    n_resamples : int
        Draws of speakers.
    """
    categories = [c for c in CATEGORIES if any(TAXONOMY[label].category == c for label in labels[1:])]
    everything, scores = _with_categories(truth, proba, labels, categories)
    means = {OF_17: PROTOTYPE, OF_ALL: labels[1:], OF_CHANGED: changed}
    names = [*labels, *(f"category {name}" for name in categories)]
    lines = _ranked(everything, scores, names, means, speakers, n_resamples)
    # The first of all labels of the prototype, whose edits were so: then its mean and ours are of the same.
    for extent, other, some in ((THROUGHOUT, ~fills, EITHER | PROTOTYPE.keys()), (IN_PART, fills, EITHER)):
        left_out = (truth == 1) & other & [label in EITHER for label in labels]
        left_out[:, 0] = left_out.any(axis=1)
        columns = [column for column, label in enumerate(labels) if label in {"unaltered"} | some]
        own, names = np.where(left_out, np.nan, truth)[:, columns], [labels[column] for column in columns]
        lines += [Line(name, f"n_positive{extent}", n) for name, n in zip(names, (own == 1.0).sum(axis=0), strict=True)]
        lines += _ranked(own, proba[:, columns], names, {OF_17: PROTOTYPE}, speakers, n_resamples, extent)
    return lines + _other_lines(truth, proba, labels, thresholds)


def _ranked(truth, scores, names, means, speakers, n_resamples, suffix=""):
    """Areas under curves of columns, and means of them, with intervals."""

    def figures(truth, scores):
        rows = []
        for metric in (roc_auc_score, average_precision_score):
            own = per_label_scores(metric, truth, scores)
            rows.append([*own, *(mean_of_defined(own[[n in chosen for n in names]]) for chosen in means.values())])
        return np.array(rows)

    values = figures(truth, scores)
    low, high = bootstrap_interval(figures, speakers, truth, scores, n_resamples=n_resamples, random_state=0)
    return [
        Line(name, metric + suffix, values[row, column], low[row, column], high[row, column])
        for row, metric in enumerate(("roc_auc", "average_precision"))
        for column, name in enumerate([*names, *means])
    ]


def _other_lines(truth, proba, labels, thresholds):
    """What has no interval: at thresholds, and of calibration."""
    report, found = detection_report(truth, proba, labels, thresholds), proba >= thresholds
    # As `predict` decides.
    found[:, 0] = ~found[:, 1:].any(axis=1)
    lines = []
    for column, label in enumerate(labels):
        known, own = ~np.isnan(truth[:, column]), report["labels"][label]
        there = truth[known, column] == 1
        own["recall"] = found[known, column][there].mean() if there.any() else np.nan
        if label == "unaltered" and 0 < there.sum() < len(there):
            own["f1"] = f1_score(there, found[known, column])
        # Above 0 where it is too sure that the label is there.
        own["bias"] = proba[known, column].mean() - there.mean() if known.any() else np.nan
        own[RECALL] = np.nan
        if 0 < there.sum() < len(there):
            least = np.quantile(proba[known, column][~there], 0.95, method="higher")
            own[RECALL] = (proba[known, column][there] > least).mean()
        for metric in ("n_positive", "n_negative", "threshold", "eer", "f1", "recall", RECALL, "ece", "bias"):
            lines.append(Line(label, metric, float(own[metric])))
    biases = [line.value for line in lines if line.metric == "bias" and line.label != "unaltered"]
    lines.append(Line(OF_ALL, "bias", mean_of_defined(biases)))
    lines += [Line(OF_ALL, metric, report["macro"][metric]) for metric in ("eer", "f1", "ece", "category_f1")]
    return lines + [Line(f"category {name}", "f1", value) for name, value in report["categories"].items()]


def _with_categories(truth, proba, labels, categories):
    """Columns of the categories behind those of the labels: any of theirs, as if these were independent."""
    truths, probas = [truth], [proba]
    for category in categories:
        own = [label != "unaltered" and TAXONOMY[label].category == category for label in labels]
        there = np.where((truth[:, own] == 1).any(axis=1), 1.0, truth[:, own].sum(axis=1))
        truths.append(there[:, None])
        probas.append(1 - np.prod(1 - proba[:, own], axis=1, keepdims=True, dtype=np.float64))
    return np.hstack(truths), np.hstack(probas)


def false_alarm_lines(
    proba: np.ndarray, labels: Sequence[str], thresholds: np.ndarray, speakers: np.ndarray, n_resamples: int
) -> list[Line]:
    """In what share of clips that are not edited an edit is found, each and any."""

    def shares(found):
        return np.r_[found.mean(axis=0), found.any(axis=1).mean()]

    found = proba[:, 1:] >= thresholds[1:]
    low, high = bootstrap_interval(shares, speakers, found, n_resamples=n_resamples, random_state=0)
    names = [*labels[1:], "any"]
    return [
        Line(name, "false_alarm_rate", *map(float, values))
        for name, *values in zip(names, shares(found), low, high, strict=True)
    ]


def localization_lines(records: Sequence[EditRecord], found: Sequence[Sequence[EditSegment]]) -> list[Line]:
    """How well edits of a part of a clip are located; those of all of a clip are left out."""
    there, kept = zip(*map(_parts_only, records, found), strict=True)
    report, lines = localization_report(there, kept), []
    for kind in ("intervals", "points"):
        for label, own in report[kind].items():
            lines += [Line(label, f"{kind}: {metric}", float(value)) for metric, value in own.items()]
    return lines + [Line(OF_ALL, f"intervals: {metric}", value) for metric, value in report["macro"].items()]


def _parts_only(record, found):
    segments = record_segments(record)
    length = dict.fromkeys(record.labels, 0.0)
    for segment in segments:
        length[segment.label] += segment.duration
    left_out = {label for label, seconds in length.items() if seconds >= ALL * record.duration} | {*record.inaudible}
    clips_only = {label for label in TAXONOMY if TAXONOMY[label].always_covers_clip}
    return tuple([s for s in side if s.label not in left_out | clips_only] for side in (segments, found))
