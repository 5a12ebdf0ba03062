"""Scores of a detector as lines with a label, a metric, a value and its 95 % interval."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from _detection_data import FULL_COVERAGE
from mmestim.voice import CATEGORIES, TAXONOMY, EditRecord
from mmestim.voice.localization import EditSegment, record_segments
from mmestim.voice.metrics import bootstrap_interval, detection_report, localization_report, per_label_scores
from mmestim.voice.metrics.detection import mean_of_defined

# ROC-AUC and average precision of the prototype, which predates this package.
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
# A point of the ROC curve, independent of the detector's thresholds.
RECALL = "recall at 5 % false alarms"
OF_17, OF_ALL, OF_CHANGED = "mean of prototype's", "mean of all", "mean of changed"
# Labels whose edits may cover a whole clip or a part of it. They are also scored for each extent.
BOTH_EXTENTS = {label for label, edit in TAXONOMY.items() if {"clip", "interval"} <= set(edit.scopes)}
THROUGHOUT, IN_PART = ", throughout", ", in part"


class Line(NamedTuple):
    """Figure of a label and a metric; most have no interval."""

    label: str
    metric: str
    value: float
    low: float = np.nan
    high: float = np.nan


def detection_lines(
    truth: np.ndarray,
    covers_window: np.ndarray,
    proba: np.ndarray,
    labels: Sequence[str],
    thresholds: np.ndarray,
    speakers: np.ndarray,
    changed: Sequence[str],
    n_resamples: int,
) -> list[Line]:
    """Return the detection scores of windows.

    Parameters
    ----------
    truth : ndarray of shape (n_windows, n_labels)
        0, 1, or NaN if undecided; 'unaltered' first.
    covers_window : bool ndarray of shape (n_windows, n_labels)
        Whether the edit covers the whole window.
    proba : ndarray of shape (n_windows, n_labels)
        Probabilities.
    labels : list of str
        Labels of the columns.
    thresholds : ndarray of shape (n_labels,)
        Thresholds that the detector tuned on training speakers.
    speakers : ndarray of shape (n_windows,)
        Groups that are resampled for the intervals.
    changed : sequence of str
        Labels of a further mean, besides the means over all labels and over the prototype's.
    n_resamples : int
        Bootstrap resamples.

    Returns
    -------
    list of Line
        Scores of labels, categories and means.
    """
    categories = [name for name in CATEGORIES if any(TAXONOMY[label].category == name for label in labels[1:])]
    all_truth, all_proba = _with_categories(truth, proba, labels, categories)
    means = {OF_17: PROTOTYPE, OF_ALL: labels[1:], OF_CHANGED: changed}
    names = [*labels, *(f"category {name}" for name in categories)]
    lines = _ranking_lines(all_truth, all_proba, names, means, speakers, n_resamples)
    # All edits of the prototype covered the whole clip. Full coverage therefore includes all of its labels, so that
    # both means are over the same labels.
    for extent, has_other_extent, extent_labels in (
        (THROUGHOUT, ~covers_window, BOTH_EXTENTS | PROTOTYPE.keys()),
        (IN_PART, covers_window, BOTH_EXTENTS),
    ):
        is_left_out = (truth == 1) & has_other_extent & [label in BOTH_EXTENTS for label in labels]
        is_left_out[:, 0] = is_left_out.any(axis=1)
        columns = [column for column, label in enumerate(labels) if label in {"unaltered"} | extent_labels]
        names = [labels[column] for column in columns]
        extent_truth = np.where(is_left_out, np.nan, truth)[:, columns]
        n_positive = (extent_truth == 1.0).sum(axis=0)
        lines += [Line(name, f"n_positive{extent}", n) for name, n in zip(names, n_positive, strict=True)]
        lines += _ranking_lines(
            extent_truth, proba[:, columns], names, {OF_17: PROTOTYPE}, speakers, n_resamples, extent
        )
    return lines + _threshold_and_calibration_lines(truth, proba, labels, thresholds)


def _ranking_lines(
    truth: np.ndarray,
    proba: np.ndarray,
    names: Sequence[str],
    means: Mapping[str, Collection[str]],
    speakers: np.ndarray,
    n_resamples: int,
    suffix: str = "",
) -> list[Line]:
    """Return ROC-AUC and average precision of columns, and means over groups of columns, with intervals."""

    def figures(truth: np.ndarray, proba: np.ndarray) -> np.ndarray:
        rows = []
        for metric in (roc_auc_score, average_precision_score):
            scores = per_label_scores(metric, truth, proba)
            in_group = ([name in group for name in names] for group in means.values())
            rows.append([*scores, *(mean_of_defined(scores[columns]) for columns in in_group)])
        return np.array(rows)

    values = figures(truth, proba)
    low, high = bootstrap_interval(figures, speakers, truth, proba, n_resamples=n_resamples, random_state=0)
    return [
        Line(name, metric + suffix, values[row, column], low[row, column], high[row, column])
        for row, metric in enumerate(("roc_auc", "average_precision"))
        for column, name in enumerate([*names, *means])
    ]


def _threshold_and_calibration_lines(
    truth: np.ndarray, proba: np.ndarray, labels: Sequence[str], thresholds: np.ndarray
) -> list[Line]:
    """Return the scores without interval: those at thresholds and those of calibration."""
    report, predicted = detection_report(truth, proba, labels, thresholds), proba >= thresholds
    # `predict` returns 'unaltered' if it detects no edit.
    predicted[:, 0] = ~predicted[:, 1:].any(axis=1)
    lines = []
    for column, label in enumerate(labels):
        is_decided, scores = ~np.isnan(truth[:, column]), report["labels"][label]
        is_positive = truth[is_decided, column] == 1
        label_proba, label_predicted = proba[is_decided, column], predicted[is_decided, column]
        has_both_classes = 0 < is_positive.sum() < len(is_positive)
        scores["recall"] = label_predicted[is_positive].mean() if is_positive.any() else np.nan
        if label == "unaltered" and has_both_classes:
            scores["f1"] = f1_score(is_positive, label_predicted)
        # Positive if the probabilities are too high.
        scores["bias"] = label_proba.mean() - is_positive.mean() if is_decided.any() else np.nan
        scores[RECALL] = np.nan
        if has_both_classes:
            threshold = np.quantile(label_proba[~is_positive], 0.95, method="higher")
            scores[RECALL] = (label_proba[is_positive] > threshold).mean()
        for metric in ("n_positive", "n_negative", "threshold", "eer", "f1", "recall", RECALL, "ece", "bias"):
            lines.append(Line(label, metric, float(scores[metric])))
    biases = [line.value for line in lines if line.metric == "bias" and line.label != "unaltered"]
    lines.append(Line(OF_ALL, "bias", mean_of_defined(biases)))
    lines += [Line(OF_ALL, metric, report["macro"][metric]) for metric in ("eer", "f1", "ece", "category_f1")]
    return lines + [Line(f"category {name}", "f1", value) for name, value in report["categories"].items()]


def _with_categories(
    truth: np.ndarray, proba: np.ndarray, labels: Sequence[str], categories: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Append a column per category: any of its labels, which are treated as independent."""
    truths, probas = [truth], [proba]
    for category in categories:
        in_category = [label != "unaltered" and TAXONOMY[label].category == category for label in labels]
        category_truth = truth[:, in_category]
        is_any = np.where((category_truth == 1).any(axis=1), 1.0, category_truth.sum(axis=1))
        truths.append(is_any[:, None])
        probas.append(1 - np.prod(1 - proba[:, in_category], axis=1, keepdims=True, dtype=np.float64))
    return np.hstack(truths), np.hstack(probas)


def false_alarm_lines(
    proba: np.ndarray, labels: Sequence[str], thresholds: np.ndarray, speakers: np.ndarray, n_resamples: int
) -> list[Line]:
    """Return the fraction of unedited clips in which each label, and any label, is detected."""

    def rates(detected: np.ndarray) -> np.ndarray:
        return np.r_[detected.mean(axis=0), detected.any(axis=1).mean()]

    detected = proba[:, 1:] >= thresholds[1:]
    low, high = bootstrap_interval(rates, speakers, detected, n_resamples=n_resamples, random_state=0)
    names = [*labels[1:], "any"]
    return [
        Line(name, "false_alarm_rate", *map(float, values))
        for name, *values in zip(names, rates(detected), low, high, strict=True)
    ]


def localization_lines(
    records: Sequence[EditRecord], predicted_segments: Sequence[Sequence[EditSegment]]
) -> list[Line]:
    """Return the localization scores of partial edits; edits of a whole clip are left out."""
    references, predictions = zip(*map(_partial_segments, records, predicted_segments), strict=True)
    report, lines = localization_report(references, predictions), []
    for kind in ("intervals", "points"):
        for label, scores in report[kind].items():
            lines += [Line(label, f"{kind}: {metric}", float(value)) for metric, value in scores.items()]
    return lines + [Line(OF_ALL, f"intervals: {metric}", value) for metric, value in report["macro"].items()]


def _partial_segments(
    record: EditRecord, predicted: Sequence[EditSegment]
) -> tuple[list[EditSegment], list[EditSegment]]:
    """Return the reference and the predicted segments of a clip, for labels that do not cover the whole clip."""
    references = record_segments(record)
    seconds_by_label = dict.fromkeys(record.labels, 0.0)
    for segment in references:
        seconds_by_label[segment.label] += segment.duration
    min_seconds = FULL_COVERAGE * record.duration
    left_out = {label for label, seconds in seconds_by_label.items() if seconds >= min_seconds}
    left_out |= {*record.inaudible} | {label for label in TAXONOMY if TAXONOMY[label].always_covers_clip}
    references, predicted = (
        [segment for segment in segments if segment.label not in left_out] for segments in (references, predicted)
    )
    return references, predicted
