"""Metrics of detection: scores of each label in clips against the true labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from ..._utils.validation import check_number
from ..localization.base import PerLabel, per_label
from ..taxonomy import CATEGORIES, TAXONOMY, UNALTERED


def equal_error_rate(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Compute the error rate at the threshold where the rates of misses and of false alarms are equal.

    Parameters
    ----------
    y_true : array-like of shape (n_clips,)
        Whether each clip has the edit: 0 or 1.
    y_score : array-like of shape (n_clips,)
        Scores, which are higher for more likely edits.

    Returns
    -------
    float
        The equal error rate, between 0 and 1; NaN if all clips are of one class.

    Notes
    -----
    The rate is the intersection of the ROC curve from `sklearn.metrics.roc_curve` with the line of equal rates. As is
    usual, the curve is interpolated linearly between thresholds, which breaks ties between equal scores at random.
    The scripts of ASVspoof instead average both rates at the threshold where they are closest; the difference is
    smaller than the effect of one clip.

    Examples
    --------
    >>> from mmestim.voice.metrics import equal_error_rate
    >>> equal_error_rate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8])
    0.5
    """
    y_true, y_score = _check_column(y_true, y_score)
    if y_true.min() == y_true.max():
        return float("nan")
    false_alarm_rates, hit_rates, _ = roc_curve(y_true, y_score)
    miss_rates = 1 - hit_rates
    i = int(np.argmax(miss_rates <= false_alarm_rates))  # never 0, where all positives are missed
    before, after = miss_rates[i - 1] - false_alarm_rates[i - 1], miss_rates[i] - false_alarm_rates[i]
    return float(miss_rates[i - 1] + before / (before - after) * (miss_rates[i] - miss_rates[i - 1]))


def expected_calibration_error(y_true: ArrayLike, y_prob: ArrayLike, *, n_bins: int = 10) -> float:
    """Compute the mean difference between probabilities and observed frequencies.

    Parameters
    ----------
    y_true : array-like of shape (n_clips,)
        Whether each clip has the edit: 0 or 1.
    y_prob : array-like of shape (n_clips,)
        Probabilities of the edit, between 0 and 1.
    n_bins : int, default=10
        Number of bins of equal width from 0 to 1.

    Returns
    -------
    float
        Mean, over the clips, of the absolute difference in their bin between the mean probability and the fraction of
        clips with the edit; between 0 and 1.

    Raises
    ------
    ValueError
        If a probability is not between 0 and 1.

    Notes
    -----
    The bins are those of `sklearn.calibration.calibration_curve`: a probability at an edge is in the lower bin. The
    probability of the edit is binned, whereas the usual definition for several classes bins the probability of the most
    likely class. The error is overestimated if bins have few clips, so compare only values for the same clips.

    Examples
    --------
    >>> from mmestim.voice.metrics import expected_calibration_error
    >>> round(expected_calibration_error([0, 1, 1, 1], [0.25, 0.25, 0.75, 0.75]), 3)
    0.25
    """
    check_number("n_bins", n_bins, low=1, integer=True)
    y_true, y_prob = _check_column(y_true, y_prob)
    _check_probabilities(y_prob)
    bins = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], y_prob)
    expected, observed = (np.bincount(bins, weights=values, minlength=n_bins) for values in (y_prob, y_true))
    return float(np.abs(expected - observed).sum() / len(y_true))


def per_label_scores(metric: Callable[[Any, Any], float], y_true: ArrayLike, y_score: ArrayLike) -> NDArray[np.float64]:
    """Compute a metric separately for each label.

    Parameters
    ----------
    metric : callable
        Function of y_true and y_score of one label, both of shape (n_labelled_clips,), that returns a number, such as
        the metrics of scikit-learn and of this module.
    y_true : array-like of shape (n_clips, n_labels)
        True labels: 0 or 1, or NaN if unknown, for example for the labels in `EditRecord.inaudible`. The metric of a
        label ignores clips for which the label is unknown.
    y_score : array-like of shape (n_clips, n_labels)
        Scores or predictions, whichever the metric expects.

    Returns
    -------
    ndarray of shape (n_labels,)
        The metric of each label; NaN for labels that none or all of the clips have, for which most metrics are
        undefined.

    Raises
    ------
    ValueError
        If shapes differ or values are invalid.

    Examples
    --------
    >>> from sklearn.metrics import roc_auc_score
    >>> from mmestim.voice.metrics import per_label_scores
    >>> per_label_scores(roc_auc_score, [[0, 0], [1, 0]], [[0.2, 0.1], [0.7, 0.4]])
    array([ 1., nan])
    """
    y_true, y_score = _check_table(y_true, y_score)
    scores = np.full(y_true.shape[1], np.nan)
    for k, column in enumerate(y_true.T):
        is_labelled = ~np.isnan(column)
        if len(np.unique(column[is_labelled])) == 2:
            scores[k] = metric(column[is_labelled].astype(int), y_score[is_labelled, k])
    return scores


def detection_report(
    y_true: ArrayLike, y_prob: ArrayLike, labels: Sequence[str], thresholds: PerLabel = 0.5, *, n_bins: int = 10
) -> dict[str, Any]:
    """Report how well each label and category is detected, and the rates of false alarms.

    Parameters
    ----------
    y_true : array-like of shape (n_clips, n_labels)
        True labels: 0 or 1, or NaN if unknown.
    y_prob : array-like of shape (n_clips, n_labels)
        Predicted probabilities, between 0 and 1.
    labels : list of str of length n_labels
        Names of the columns.
    thresholds : float, array-like of shape (n_labels,) or dict of str to float, default=0.5
        Lowest probability at which a label is predicted. Choose thresholds on other clips; otherwise the F1 scores are
        too optimistic.
    n_bins : int, default=10
        Number of bins of the calibration error.

    Returns
    -------
    dict
        Dictionary with these keys:

        - ``labels``: for each label, a dict of ``n_positive``, ``n_negative``, ``threshold``, ``average_precision``,
          ``roc_auc``, ``eer`` (`equal_error_rate`), ``f1``, ``ece`` (`expected_calibration_error`) and
          ``false_alarm_rate``, the fraction of unedited clips for which the label is predicted;
        - ``categories``: F1 of each category;
        - ``macro``: means of the metrics from ``average_precision`` to ``ece`` over the edits, without ``unaltered``,
          and the mean F1 of the categories, ``category_f1``;
        - ``n_unedited``: number of unedited clips;
        - ``false_alarm_rate``: fraction of unedited clips for which any edit is predicted;
        - ``undefined``: labels that none or all of the clips have.

    Raises
    ------
    ValueError
        If shapes differ, values are invalid or a label has no threshold.

    See Also
    --------
    bootstrap_interval : Confidence intervals of metrics.

    Notes
    -----
    Undefined metrics are NaN and do not enter the means. For labels in ``undefined``, all metrics except
    ``false_alarm_rate`` are undefined. A clip has a category, or the category is predicted for it, if this holds for
    any label of the category. Unedited clips are those labelled ``unaltered``, or those without any label if
    ``unaltered`` is not a column.

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
    y_true, y_prob = _check_table(y_true, y_prob)
    _check_probabilities(y_prob)
    if len(labels) != y_true.shape[1]:
        raise ValueError(f"labels has {len(labels)} names, but y_true has {y_true.shape[1]} columns.")
    label_thresholds = per_label("thresholds", thresholds, labels)
    predicted = y_prob >= label_thresholds
    is_edit = np.array([label != UNALTERED for label in labels])
    is_unedited = (y_true == 0).all(axis=1) if is_edit.all() else (y_true[:, ~is_edit] == 1).any(axis=1)
    columns = {
        "average_precision": per_label_scores(average_precision_score, y_true, y_prob),
        "roc_auc": per_label_scores(roc_auc_score, y_true, y_prob),
        "eer": per_label_scores(equal_error_rate, y_true, y_prob),
        "f1": per_label_scores(f1_score, y_true, predicted),
        "ece": per_label_scores(partial(expected_calibration_error, n_bins=n_bins), y_true, y_prob),
    }
    macro = {name: mean_of_defined(values[is_edit]) for name, values in columns.items()}
    columns["false_alarm_rate"] = np.where(is_edit, _fraction(predicted[is_unedited]), np.nan)
    counts = {"n_positive": (y_true == 1).sum(axis=0), "n_negative": (y_true == 0).sum(axis=0)}
    table = {**counts, "threshold": label_thresholds, **columns}
    categories = _category_f1(y_true, predicted, labels)
    return {
        "labels": {label: {name: table[name][k].item() for name in table} for k, label in enumerate(labels)},
        "categories": categories,
        "macro": {**macro, "category_f1": mean_of_defined(list(categories.values()))},
        "n_unedited": int(is_unedited.sum()),
        "false_alarm_rate": float(_fraction(predicted[is_unedited][:, is_edit].any(axis=1))),
        "undefined": [label for label, value in zip(labels, columns["roc_auc"], strict=True) if np.isnan(value)],
    }


def mean_of_defined(values: Any) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if len(defined) else float("nan")


def _fraction(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1:], np.nan)


def _category_f1(y_true: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    label_categories = [
        TAXONOMY[label].category if label in TAXONOMY and label != UNALTERED else None for label in labels
    ]
    present = [category for category in CATEGORIES if category in label_categories]
    if not present:
        return {}
    columns = [[k for k, other in enumerate(label_categories) if other == category] for category in present]
    # A category is unknown (NaN) if one of its labels is unknown and no other is positive.
    category_true = [np.where((y_true[:, k] == 1).any(axis=1), 1.0, y_true[:, k].sum(axis=1)) for k in columns]
    category_predicted = [predicted[:, k].any(axis=1) for k in columns]
    scores = per_label_scores(f1_score, np.column_stack(category_true), np.column_stack(category_predicted))
    return dict(zip(present, scores.tolist(), strict=True))


def _check_table(y_true: ArrayLike, y_score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y_true, y_score = np.asarray(y_true, dtype=np.float64), np.asarray(y_score)
    if y_true.ndim != 2 or y_true.shape != y_score.shape or y_true.size == 0:
        raise ValueError(
            f"y_true and the scores have shapes {y_true.shape} and {y_score.shape}: both must be (n_clips, n_labels), "
            "with at least one clip and one label."
        )
    if not np.isin(y_true[~np.isnan(y_true)], [0, 1]).all():
        raise ValueError("y_true must be 0, 1, or NaN for unknown labels.")
    if not np.isfinite(y_score).all():
        raise ValueError("scores must be finite. Leave out labels without scores.")
    return y_true, y_score


def _check_column(y_true: ArrayLike, y_score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y_true, y_score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if y_true.ndim != 1:
        raise ValueError(
            f"y_true has shape {y_true.shape}: it must be (n_clips,). Use per_label_scores for several labels."
        )
    y_true, y_score = _check_table(y_true[:, None], y_score.reshape(len(y_score), -1))
    if np.isnan(y_true).any():
        raise ValueError("y_true has NaN. Leave out clips whose label is unknown, or use per_label_scores.")
    return y_true[:, 0], y_score[:, 0]


def _check_probabilities(y_prob: np.ndarray) -> None:
    if y_prob.min() < 0 or y_prob.max() > 1:
        raise ValueError(
            f"probabilities range from {y_prob.min():g} to {y_prob.max():g}, but must be between 0 and 1. Pass the "
            "output of predict_proba, not of decision_function."
        )
