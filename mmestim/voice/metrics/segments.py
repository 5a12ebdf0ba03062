"""Metrics of localization: predicted segments against the true ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..._utils.validation import check_number
from ._clip_pairs import ClipPair, Predictions, References, pairs_by_label, segment_counts, taxonomy_order
from .detection import mean_of_defined

# Rounding of times must not decide whether two segments match: a fraction of an overlap, or seconds of an error.
_SLACK = 1e-9
_RECALL_IOUS = np.arange(10, 20) / 20


def segment_f1(references: References, predictions: Predictions, *, iou: float = 0.5) -> float:
    """Compute the F1 score of intervals, which match if they overlap enough and have the same label.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        True segments of each clip. Predictions of labels that a record lists as inaudible are ignored.
    predictions : list of length n_clips of list of EditSegment
        Predicted segments of each clip. Points are ignored on both sides; use `boundary_scores` for them.
    iou : float, default=0.5
        Lowest intersection over union of two intervals that match, above 0 and at most 1.

    Returns
    -------
    float
        Mean over the labels that have an interval in the references or in the predictions; NaN if there are none. A
        label whose intervals are all false has a score of 0.

    See Also
    --------
    localization_report : This and all other metrics for each label.

    Notes
    -----
    All clips of a label are counted together. In each clip, as many pairs as possible are matched one to one. The score
    is twice the number of matches, divided by the number of references plus the number of predictions [1]_.

    References
    ----------
    .. [1] "SF1@tau" in arXiv:2605.02223, for edits of a few words.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import segment_f1
    >>> references = [[EditSegment.from_label("mix", 1, 3)], []]
    >>> predictions = [[EditSegment.from_label("mix", 1.5, 3)], [EditSegment.from_label("mix", 0, 1)]]
    >>> round(segment_f1(references, predictions), 3)
    0.667
    """
    _check_iou(iou)
    return _mean_over_labels(partial(_f1, iou=iou), references, predictions)


def segment_average_precision(references: References, predictions: Predictions, *, iou: float = 0.5) -> float:
    """Compute the average precision of intervals, ranked by their scores.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        True segments of each clip, as for `segment_f1`.
    predictions : list of length n_clips of list of EditSegment
        Predicted segments of each clip. If scores are equal, segments of earlier clips come first.
    iou : float, default=0.5
        Lowest intersection over union of two intervals that match, above 0 and at most 1.

    Returns
    -------
    float
        Mean over the labels that have an interval in the references; NaN if there are none.

    Notes
    -----
    The metric follows the evaluation of ActivityNet [1]_. In the order of their scores, each prediction is matched to
    the reference of its label and clip that it overlaps most and that is not matched yet. A prediction is false if this
    overlap is too small. The precision at a recall is the highest precision at that recall or a higher one. The metric
    is the exact area under this curve.

    References
    ----------
    .. [1] F. Caba Heilbron et al., "ActivityNet: A Large-Scale Video Benchmark for Human Activity
       Understanding", CVPR 2015.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import segment_average_precision
    >>> references = [[EditSegment.from_label("mix", 1, 3), EditSegment.from_label("mix", 5, 6)]]
    >>> predictions = [[EditSegment.from_label("mix", 1, 3, 0.5), EditSegment.from_label("mix", 8, 9, 0.9)]]
    >>> segment_average_precision(references, predictions)
    0.25
    """
    _check_iou(iou)
    return _mean_over_labels(partial(_average_precision, iou=iou), references, predictions)


def segment_average_recall(references: References, predictions: Predictions, *, n_proposals: int = 20) -> float:
    """Compute the recall of intervals by the best predictions, averaged over required overlaps.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        True segments of each clip, as for `segment_f1`.
    predictions : list of length n_clips of list of EditSegment
        Predicted segments of each clip.
    n_proposals : int, default=20
        Number of predictions with the highest scores that count for each clip and label.

    Returns
    -------
    float
        Mean over the labels that have an interval in the references; NaN if there are none.

    Notes
    -----
    The metric follows the evaluation of LAV-DF [1]_. An interval is recalled if any of the predictions overlaps it
    enough, even one that recalls another interval. The required intersection over union is .5, .55, ..., .95.

    References
    ----------
    .. [1] Z. Cai et al., "Do You Really Mean That? Content Driven Audio-Visual Deepfake Dataset and
       Multimodal Method for Temporal Forgery Localization", DICTA 2022, arXiv:2204.06228.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import segment_average_recall
    >>> segment_average_recall([[EditSegment.from_label("mix", 0, 4)]], [[EditSegment.from_label("mix", 0, 3)]])
    0.6
    """
    check_number("n_proposals", n_proposals, low=1, integer=True)
    return _mean_over_labels(partial(_average_recall, n_proposals=n_proposals), references, predictions)


def boundary_scores(references: References, predictions: Predictions, *, tolerance: float = 0.05) -> dict[str, float]:
    """Compute how many points are detected and how accurate their times are.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        True segments of each clip, as for `segment_f1`. Points count, and intervals are ignored.
    predictions : list of length n_clips of list of EditSegment
        Predicted segments of each clip.
    tolerance : float, default=0.05
        Largest distance in seconds between two points that match.

    Returns
    -------
    dict of str to float
        ``hit_rate``: fraction of the references that are matched; ``precision``: fraction of the predictions that are
        matched; ``f1``: F1 score of both; ``mean_error`` and ``median_error``: distance in seconds between matched
        points. A value is NaN if its denominator is 0.

    Notes
    -----
    All clips and labels are counted together. Points of one clip and label are matched one to one: as many as possible,
    and among these matchings the one with the smallest sum of errors. Errors are those of matched points only, so they
    do not exceed the tolerance. Interpret them together with the hit rate.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import boundary_scores
    >>> scores = boundary_scores([[EditSegment.from_label("cut", 1.0), EditSegment.from_label("cut", 2.0)]],
    ...                          [[EditSegment.from_label("cut", 1.03), EditSegment.from_label("cut", 1.04)]])
    >>> scores["hit_rate"], scores["precision"], round(scores["mean_error"], 3)
    (0.5, 0.5, 0.03)
    """
    check_number("tolerance", tolerance)
    point_pairs = pairs_by_label(references, predictions, points=True)
    return _boundary_scores([pair for pairs in point_pairs.values() for pair in pairs], tolerance)


def localization_report(
    references: References,
    predictions: Predictions,
    labels: Sequence[str] | None = None,
    *,
    f1_ious: Sequence[float] = (0.3, 0.5, 0.7),
    ap_ious: Sequence[float] = (0.5, 0.75, 0.95),
    n_proposals: int = 20,
    tolerance: float = 0.05,
) -> dict[str, Any]:
    """Report how well each label is located.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        True segments of each clip. Predictions of labels that a record lists as inaudible are ignored.
    predictions : list of length n_clips of list of EditSegment
        Predicted segments of each clip.
    labels : list of str, default=None
        Labels to report. `None` means all labels in the references or the predictions.
    f1_ious, ap_ious : sequence of float
        Values of `iou` for `segment_f1` and for `segment_average_precision`.
    n_proposals : int, default=20
        Parameter of `segment_average_recall`.
    tolerance : float, default=0.05
        Parameter of `boundary_scores`, in seconds.

    Returns
    -------
    dict
        Dictionary with these keys:

        - ``intervals``: for each label with an interval, a dict of ``n_references``, ``n_predictions``,
          ``segment_f1@0.5`` and so on for each of `f1_ious`, ``average_precision@0.5`` and so on for each of
          `ap_ious`, and ``average_recall@20``;
        - ``points``: for each label with a point, ``n_references``, ``n_predictions`` and `boundary_scores`;
        - ``macro``: means over the labels of ``intervals``;
        - ``undefined``: labels that are not in the references. Their metrics are NaN and do not enter the means, except
          for an F1 of 0 if they are predicted.

    See Also
    --------
    bootstrap_interval : Confidence intervals of metrics.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import localization_report
    >>> references = [[EditSegment.from_label("mix", 1, 3), EditSegment.from_label("cut", 2.5)]]
    >>> predictions = [[EditSegment.from_label("mix", 1, 2.5, 0.8), EditSegment.from_label("cut", 2.52, score=0.7)]]
    >>> report = localization_report(references, predictions)
    >>> report["intervals"]["mix"]["segment_f1@0.7"], report["intervals"]["mix"]["average_precision@0.95"]
    (1.0, 0.0)
    >>> report["points"]["cut"]["hit_rate"]
    1.0
    """
    for iou in (*f1_ious, *ap_ious):
        _check_iou(iou)
    check_number("n_proposals", n_proposals, low=1, integer=True)
    check_number("tolerance", tolerance)
    metrics: dict[str, Callable[[list[ClipPair]], float]] = {
        **{f"segment_f1@{iou:g}": partial(_f1, iou=iou) for iou in f1_ious},
        **{f"average_precision@{iou:g}": partial(_average_precision, iou=iou) for iou in ap_ious},
        f"average_recall@{n_proposals}": partial(_average_recall, n_proposals=n_proposals),
    }
    interval_pairs, point_pairs = (pairs_by_label(references, predictions, points=points) for points in (False, True))
    if labels is not None:
        interval_pairs, point_pairs = (
            {label: label_pairs[label] for label in labels if label in label_pairs}
            for label_pairs in (interval_pairs, point_pairs)
        )
    intervals = {
        label: {**segment_counts(pairs), **{name: metric(pairs) for name, metric in metrics.items()}}
        for label, pairs in interval_pairs.items()
    }
    reported = labels if labels is not None else taxonomy_order([*interval_pairs, *point_pairs])
    in_references = {
        label
        for label_pairs in (interval_pairs, point_pairs)
        for label, pairs in label_pairs.items()
        if segment_counts(pairs)["n_references"]
    }
    return {
        "intervals": intervals,
        "points": {
            label: {**segment_counts(pairs), **_boundary_scores(pairs, tolerance)}
            for label, pairs in point_pairs.items()
        },
        "macro": {name: mean_of_defined([row[name] for row in intervals.values()]) for name in metrics},
        "undefined": [label for label in reported if label not in in_references],
    }


# Metrics of one label -------------------------------------------------------------------------------


def _mean_over_labels(
    metric: Callable[[list[ClipPair]], float], references: References, predictions: Predictions
) -> float:
    return mean_of_defined([metric(pairs) for pairs in pairs_by_label(references, predictions, points=False).values()])


def _ratio(part: float, total: float) -> float:
    return float(part / total) if total else float("nan")


def _f1(pairs: Sequence[ClipPair], iou: float) -> float:
    n_matched = 0
    for pair in pairs:
        matches = pair.iou >= iou * (1 - _SLACK)
        n_matched += matches[linear_sum_assignment(matches, maximize=True)].sum()
    return _ratio(2 * n_matched, sum(segment_counts(pairs).values()))


def _average_precision(pairs: Sequence[ClipPair], iou: float) -> float:
    n_references = segment_counts(pairs)["n_references"]
    if n_references == 0:
        return float("nan")
    ious, is_free = [pair.iou for pair in pairs], [np.ones(len(pair.references), dtype=bool) for pair in pairs]
    ranking = sorted((-score, i, j) for i, pair in enumerate(pairs) for j, score in enumerate(pair.scores))
    is_correct = np.zeros(len(ranking))
    for rank, (_, i, j) in enumerate(ranking):
        overlaps = np.where(is_free[i], ious[i][:, j], 0)
        if len(overlaps) and overlaps.max() >= iou * (1 - _SLACK):
            is_free[i][overlaps.argmax()] = False
            is_correct[rank] = 1
    precision = is_correct.cumsum() / np.arange(1, len(is_correct) + 1)
    best_later_precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_later_precision * is_correct).sum() / n_references)


def _average_recall(pairs: Sequence[ClipPair], n_proposals: int) -> float:
    best_ious = []
    for pair in pairs:
        proposals = np.argsort(-pair.scores, kind="stable")[:n_proposals]
        best_ious.append(pair.iou[:, proposals].max(axis=1, initial=0))
    overlaps = np.concatenate(best_ious)
    return _ratio((overlaps >= _RECALL_IOUS[:, None] * (1 - _SLACK)).mean(axis=0).sum(), len(overlaps))


def _boundary_scores(pairs: Sequence[ClipPair], tolerance: float) -> dict[str, float]:
    errors: list[float] = []
    for pair in pairs:
        distances = np.abs(pair.references[:, :1] - pair.predictions[:, 0])
        can_match = distances <= tolerance + _SLACK
        # The cost of a pair that cannot match exceeds the sum of all errors, so the number of matches comes first.
        costs = np.where(can_match, distances, (min(can_match.shape) + 1) * (tolerance + 1))
        assigned = linear_sum_assignment(costs)
        errors += distances[assigned][can_match[assigned]].tolist()
    counts = segment_counts(pairs)
    return {
        "hit_rate": _ratio(len(errors), counts["n_references"]),
        "precision": _ratio(len(errors), counts["n_predictions"]),
        "f1": _ratio(2 * len(errors), sum(counts.values())),
        "mean_error": float(np.mean(errors)) if errors else float("nan"),
        "median_error": float(np.median(errors)) if errors else float("nan"),
    }


def _check_iou(iou: float) -> None:
    check_number("iou", iou, high=1, closed=False)
