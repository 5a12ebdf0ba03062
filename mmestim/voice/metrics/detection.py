"""Which edits a clip went through: scores of each label against what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from ..._utils.validation import check_number
from ..localization.base import per_label
from ..taxonomy import CATEGORIES, TAXONOMY, UNALTERED


def equal_error_rate(y_true: Any, y_score: Any) -> float:
    """Share of errors at the threshold that misses as large a share as it falsely finds.

    Parameters
    ----------
    y_true : array-like of shape (n_clips,)
        Whether the edit is there: 0 or 1.
    y_score : array-like of shape (n_clips,)
        Scores, higher where it is more likely.

    Returns
    -------
    float
        Between 0 and 1; NaN if all clips are of one class.

    Notes
    -----
    It is read off the ROC curve of `sklearn.metrics.roc_curve`, at the line on which misses are as frequent as
    false alarms. Between two thresholds the curve is taken to be straight, as is usual, so that clips with the
    same score count as drawn by lot. The scripts of ASVspoof take the mean of both rates at the threshold
    where they are closest instead, which differs by less than what one clip makes.

    Examples
    --------
    >>> from mmestim.voice.metrics import equal_error_rate
    >>> equal_error_rate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8])
    0.5
    """
    y_true, y_score = _checked_column(y_true, y_score)
    if y_true.min() == y_true.max():
        return float("nan")
    false_alarms, hits, _ = roc_curve(y_true, y_score)
    misses = 1 - hits
    i = int(np.argmax(misses <= false_alarms))  # never the first, which misses all
    before, after = misses[i - 1] - false_alarms[i - 1], misses[i] - false_alarms[i]
    return float(misses[i - 1] + before / (before - after) * (misses[i] - misses[i - 1]))


def expected_calibration_error(y_true: Any, y_prob: Any, *, n_bins: int = 10) -> float:
    """How far probabilities are from the shares that they promise.

    Parameters
    ----------
    y_true : array-like of shape (n_clips,)
        Whether the edit is there: 0 or 1.
    y_prob : array-like of shape (n_clips,)
        Probabilities that it is, between 0 and 1.
    n_bins : int, default=10
        Bins of equal width from 0 to 1.

    Returns
    -------
    float
        Mean over the clips of the difference, in their bin, of the mean probability and the share of clips
        with the edit; between 0 and 1.

    Raises
    ------
    ValueError
        If a probability is not between 0 and 1.

    Notes
    -----
    The bins are those of `sklearn.calibration.calibration_curve`: a probability at an edge is in the lower
    one. It is the probability of the edit that is binned, not that of the likelier answer as for classifiers
    of several classes. With few clips in a bin the value is too high: compare only over the same clips.

    Examples
    --------
    >>> from mmestim.voice.metrics import expected_calibration_error
    >>> round(expected_calibration_error([0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75]), 3)
    0.25
    """
    check_number("n_bins", n_bins, low=1, integer=True)
    y_true, y_prob = _checked_column(y_true, y_prob)
    _check_probabilities(y_prob)
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], y_prob)
    promised, seen = (np.bincount(bins, weights=values, minlength=n_bins) for values in (y_prob, y_true))
    return float(np.abs(promised - seen).sum() / len(y_true))


def per_label_scores(metric: Callable[[Any, Any], float], y_true: Any, y_score: Any) -> np.ndarray:
    """A metric of one label, for each label.

    Parameters
    ----------
    metric : callable
        From y_true and y_score of one label, both of shape (n_known_clips,), to a number: one of
        scikit-learn's or of this module.
    y_true : array-like of shape (n_clips, n_labels)
        Which edits are there: 0 or 1, or NaN where that is not known, as for the labels that
        `EditRecord.inaudible` lists. Such a clip is left out of the metric of that label.
    y_score : array-like of shape (n_clips, n_labels)
        Scores, or predictions, as the metric takes them.

    Returns
    -------
    ndarray of shape (n_labels,)
        NaN for labels that are there in none or all of the clips: most metrics mean nothing for them.

    Raises
    ------
    ValueError
        If shapes differ, or values are not as said.

    Examples
    --------
    >>> from sklearn.metrics import roc_auc_score
    >>> from mmestim.voice.metrics import per_label_scores
    >>> per_label_scores(roc_auc_score, [[0, 0], [1, 0]], [[0.2, 0.1], [0.7, 0.4]])
    array([ 1., nan])
    """
    y_true, y_score = _checked(y_true, y_score)
    scores = np.full(y_true.shape[1], np.nan)
    for k, truth in enumerate(y_true.T):
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) == 2:
            scores[k] = metric(truth[known].astype(int), y_score[known, k])
    return scores


def detection_report(
    y_true: Any, y_prob: Any, labels: Sequence[str], thresholds: Any = 0.5, *, n_bins: int = 10
) -> dict[str, Any]:
    """How well each label is detected, its category too, and how often edits are seen where there are none.

    Parameters
    ----------
    y_true : array-like of shape (n_clips, n_labels)
        Which edits are there: 0 or 1, or NaN where that is not known.
    y_prob : array-like of shape (n_clips, n_labels)
        Probabilities, between 0 and 1.
    labels : list of str of length n_labels
        Names of the columns.
    thresholds : float, array-like of shape (n_labels,) or dict of str to float, default=0.5
        Lowest probability with which a label is predicted. Set on other clips, or the F1 scores are too good.
    n_bins : int, default=10
        Bins of the calibration error.

    Returns
    -------
    dict
        ``labels``: for each label a dict of ``n_positive``, ``n_negative``, ``threshold``,
        ``average_precision``, ``roc_auc``, ``eer`` (`equal_error_rate`), ``f1``, ``ece``
        (`expected_calibration_error`) and ``false_alarm_rate``, the share of the unedited clips for which the
        label is predicted. ``categories``: F1 of each category. ``macro``: means over the edits, which
        ``unaltered`` is none of, of the first five and of the categories' ``category_f1``.
        ``false_alarm_rate``: share of the unedited clips for which any edit is predicted, and ``n_unedited``
        of them. ``undefined``: labels that are there in none or all of the clips.

    Raises
    ------
    ValueError
        If shapes differ, values are not as said or a label has no threshold.

    See Also
    --------
    bootstrap_interval : How sure these figures are.

    Notes
    -----
    What is not defined is NaN and left out of the means: all but the false alarms of labels in
    ``undefined``. A category is there, or is predicted, where any of its labels is. Unedited clips are those
    labelled ``unaltered``, or where that is no column, those without any label.

    Examples
    --------
    >>> from mmestim.voice.metrics import detection_report
    >>> y_true = [[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    >>> y_prob = [[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.2, 0.4, 0.7], [0.3, 0.6, 0.1]]
    >>> report = detection_report(y_true, y_prob, ["unaltered", "cut", "mix"])
    >>> report["labels"]["cut"]["roc_auc"], report["labels"]["mix"]["f1"]
    (0.75, 1.0)
    >>> report["categories"], report["false_alarm_rate"]
    ({'temporal': 0.8}, 0.5)
    """
    y_true, y_prob = _checked(y_true, y_prob)
    _check_probabilities(y_prob)
    if len(labels) != y_true.shape[1]:
        raise ValueError(f"labels has {len(labels)} names, and y_true {y_true.shape[1]} columns.")
    limits = per_label("thresholds", thresholds, labels)
    predicted = y_prob >= limits
    edits = np.array([label != UNALTERED for label in labels])
    unedited = (y_true == 0).all(axis=1) if edits.all() else (y_true[:, ~edits] == 1).any(axis=1)
    columns = {
        "average_precision": per_label_scores(average_precision_score, y_true, y_prob),
        "roc_auc": per_label_scores(roc_auc_score, y_true, y_prob),
        "eer": per_label_scores(equal_error_rate, y_true, y_prob),
        "f1": per_label_scores(f1_score, y_true, predicted),
        "ece": per_label_scores(partial(expected_calibration_error, n_bins=n_bins), y_true, y_prob),
    }
    macro = {name: mean_of_defined(values[edits]) for name, values in columns.items()}
    columns["false_alarm_rate"] = np.where(edits, _share(predicted[unedited]), np.nan)
    counts = {"n_positive": (y_true == 1).sum(axis=0), "n_negative": (y_true == 0).sum(axis=0)}
    table = {**counts, "threshold": limits, **columns}
    categories = _category_f1(y_true, predicted, labels)
    return {
        "labels": {label: {name: table[name][k].item() for name in table} for k, label in enumerate(labels)},
        "categories": categories,
        "macro": {**macro, "category_f1": mean_of_defined(list(categories.values()))},
        "n_unedited": int(unedited.sum()),
        "false_alarm_rate": float(_share(predicted[unedited][:, edits].any(axis=1))),
        "undefined": [label for label, value in zip(labels, columns["roc_auc"], strict=True) if np.isnan(value)],
    }


def mean_of_defined(values: Any) -> float:
    """Mean of those that are not NaN; NaN if all are."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if len(defined) else float("nan")


def _share(rows):
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1:], np.nan)


def _category_f1(y_true, predicted, labels):
    of_label = [TAXONOMY[name].category if name in TAXONOMY and name != UNALTERED else None for name in labels]
    present = [category for category in CATEGORIES if category in of_label]
    members = [[k for k, own in enumerate(of_label) if own == category] for category in present]
    # A label that is there settles it; otherwise one that is not known leaves it open.
    there = [np.where((y_true[:, k] == 1).any(axis=1), 1.0, y_true[:, k].sum(axis=1)) for k in members]
    seen = [predicted[:, k].any(axis=1) for k in members]
    if not members:
        return {}
    scores = per_label_scores(f1_score, np.column_stack(there), np.column_stack(seen))
    return dict(zip(present, scores.tolist(), strict=True))


def _checked(y_true, y_score):
    y_true, y_score = np.asarray(y_true, dtype=np.float64), np.asarray(y_score)
    if y_true.ndim != 2 or y_true.shape != y_score.shape or y_true.size == 0:
        raise ValueError(
            f"y_true and the scores have shapes {y_true.shape} and {y_score.shape}: both must be (n_clips, n_labels), "
            "at least one of each."
        )
    if not np.isin(y_true[~np.isnan(y_true)], [0, 1]).all():
        raise ValueError("y_true must be 0, 1, or NaN where it is not known.")
    if not np.isfinite(y_score).all():
        raise ValueError("scores must be finite: leave out labels that have none.")
    return y_true, y_score


def _checked_column(y_true, y_score):
    y_true, y_score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if y_true.ndim != 1:
        raise ValueError(
            f"y_true has shape {y_true.shape}: it must be (n_clips,). per_label_scores takes several labels."
        )
    y_true, y_score = _checked(y_true[:, None], y_score.reshape(len(y_score), -1))
    if np.isnan(y_true).any():
        raise ValueError("y_true has NaN: leave out what is not known, or use per_label_scores.")
    return y_true[:, 0], y_score[:, 0]


def _check_probabilities(y_prob):
    if y_prob.min() < 0 or y_prob.max() > 1:
        raise ValueError(
            f"probabilities are from {y_prob.min():g} to {y_prob.max():g}, and must be between 0 and 1. Give those of "
            "predict_proba, not of decision_function."
        )
