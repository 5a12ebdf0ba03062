"""Where the edits are: segments that are found against those that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..._utils.validation import check_number
from ..localization import EditSegment, record_segments
from ..records import EditRecord
from ..taxonomy import LABELS
from .detection import mean_of_defined

# Rounding in a time must not decide whether two segments match: a share of an overlap, seconds of an error.
_SLACK = 1e-9
_RECALL_IOUS = np.arange(10, 20) / 20

References = Sequence[EditRecord | Sequence[EditSegment]]
Predictions = Sequence[Sequence[EditSegment]]


def segment_f1(references: References, predictions: Predictions, *, iou: float = 0.5) -> float:
    """F1 score of intervals, an interval being found where one of its label overlaps it enough.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        What is there. Predictions of labels that a record lists as inaudible count neither way.
    predictions : list of length n_clips of list of EditSegment
        What was found. Points are left out here, on both sides: `boundary_scores` is for them.
    iou : float, default=0.5
        Least intersection over union of two intervals that match, above 0 and at most 1.

    Returns
    -------
    float
        Mean over the labels with an interval on either side; NaN if there is none. A label of which all
        intervals are false has 0.

    See Also
    --------
    localization_report : This for each label, with all other metrics.

    Notes
    -----
    Of one label, all clips are counted together. In each of them as many pairs as possible are matched, one
    to one; the score is twice their number over that of the intervals on both sides [1]_.

    References
    ----------
    .. [1] "SF1@tau" in arXiv:2605.02223, for edits of a few words.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import segment_f1
    >>> there = [[EditSegment.from_label("mix", 1, 3)], []]
    >>> found = [[EditSegment.from_label("mix", 1.5, 3)], [EditSegment.from_label("mix", 0, 1)]]
    >>> round(segment_f1(there, found), 3)
    0.667
    """
    _check_iou(iou)
    return _mean_over_labels(partial(_f1, iou=iou), references, predictions)


def segment_average_precision(references: References, predictions: Predictions, *, iou: float = 0.5) -> float:
    """Average precision of intervals that are ranked by their scores.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        What is there, as for `segment_f1`.
    predictions : list of length n_clips of list of EditSegment
        What was found. Of those with equal scores, earlier clips come first.
    iou : float, default=0.5
        Least intersection over union of two intervals that match, above 0 and at most 1.

    Returns
    -------
    float
        Mean over the labels with an interval in the references; NaN if there is none.

    Notes
    -----
    As in the evaluation of ActivityNet [1]_: from the highest score on, a prediction takes of the intervals of
    its label and clip that are not taken yet the one that it overlaps most, and is false if that is not
    enough. The precision at a recall is the highest at that recall or a higher one, and the average is the
    area under this curve, without sampling it.

    References
    ----------
    .. [1] F. Caba Heilbron et al., "ActivityNet: A Large-Scale Video Benchmark for Human Activity
       Understanding", CVPR 2015.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import segment_average_precision
    >>> there = [[EditSegment.from_label("mix", 1, 3), EditSegment.from_label("mix", 5, 6)]]
    >>> found = [[EditSegment.from_label("mix", 1, 3, 0.5), EditSegment.from_label("mix", 8, 9, 0.9)]]
    >>> segment_average_precision(there, found)
    0.25
    """
    _check_iou(iou)
    return _mean_over_labels(partial(_average_precision, iou=iou), references, predictions)


def segment_average_recall(references: References, predictions: Predictions, *, n_proposals: int = 20) -> float:
    """Recall of intervals by the best few predictions, averaged over how well they must overlap.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        What is there, as for `segment_f1`.
    predictions : list of length n_clips of list of EditSegment
        What was found.
    n_proposals : int, default=20
        Of each clip and label, predictions that count, by their scores.

    Returns
    -------
    float
        Mean over the labels with an interval in the references; NaN if there is none.

    Notes
    -----
    As in the evaluation of LAV-DF [1]_: an interval is recalled where any of the predictions overlaps it
    enough, also one that recalls another; the intersection over union needed is .5, .55, ..., .95.

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
    """How many points are found, and how exactly.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        What is there, as for `segment_f1`, of which the points are taken and the intervals left out.
    predictions : list of length n_clips of list of EditSegment
        What was found.
    tolerance : float, default=0.05
        Most seconds between two points that match.

    Returns
    -------
    dict of str to float
        ``hit_rate``: share of the references that are matched; ``precision``: share of the predictions that
        are; ``f1`` of both; ``mean_error`` and ``median_error``: seconds between matched points. NaN where
        there is nothing to divide by.

    Notes
    -----
    All clips and labels are counted together. Points of one clip and label are matched one to one, as many as
    possible and then with the least sum of errors. Errors are of matches alone, so they are at most the
    tolerance: read them together with the hit rate.

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
    by_label = _by_label(references, predictions, points=True)
    return _boundaries([clip for clips in by_label.values() for clip in clips], tolerance)


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
    """How well each label is located.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        What is there. Predictions of labels that a record lists as inaudible count neither way.
    predictions : list of length n_clips of list of EditSegment
        What was found.
    labels : list of str, default=None
        To report; those that are there or found if None.
    f1_ious, ap_ious : sequence of float
        What `segment_f1` and `segment_average_precision` need to match.
    n_proposals : int, default=20
        Of `segment_average_recall`.
    tolerance : float, default=0.05
        Of `boundary_scores`, in seconds.

    Returns
    -------
    dict
        ``intervals``: for each label a dict of ``n_references``, ``n_predictions``, ``segment_f1@0.5`` for
        each of `f1_ious`, ``average_precision@0.5`` for each of `ap_ious`, and ``average_recall@20``.
        ``points``: for each label the two numbers and `boundary_scores`. Labels without any interval, or any
        point, are not in that dict. ``macro``: means over the labels of ``intervals``. ``undefined``: of
        the labels, those that are nowhere in the references, the metrics of which are NaN and left out of
        the means, but for an F1 of 0 where they are found.

    See Also
    --------
    bootstrap_interval : How sure these figures are.

    Examples
    --------
    >>> from mmestim.voice.localization import EditSegment
    >>> from mmestim.voice.metrics import localization_report
    >>> there = [[EditSegment.from_label("mix", 1, 3), EditSegment.from_label("cut", 2.5)]]
    >>> found = [[EditSegment.from_label("mix", 1, 2.5, 0.8), EditSegment.from_label("cut", 2.52, score=0.7)]]
    >>> report = localization_report(there, found)
    >>> report["intervals"]["mix"]["segment_f1@0.7"], report["intervals"]["mix"]["average_precision@0.95"]
    (1.0, 0.0)
    >>> report["points"]["cut"]["hit_rate"]
    1.0
    """
    for iou in (*f1_ious, *ap_ious):
        _check_iou(iou)
    check_number("n_proposals", n_proposals, low=1, integer=True)
    check_number("tolerance", tolerance)
    metrics: dict[str, Callable[[list[_Clip]], float]] = {
        **{f"segment_f1@{iou:g}": partial(_f1, iou=iou) for iou in f1_ious},
        **{f"average_precision@{iou:g}": partial(_average_precision, iou=iou) for iou in ap_ious},
        f"average_recall@{n_proposals}": partial(_average_recall, n_proposals=n_proposals),
    }
    spans, points = (_by_label(references, predictions, points=kind) for kind in (False, True))
    if labels is not None:
        spans, points = ({label: kind[label] for label in labels if label in kind} for kind in (spans, points))
    intervals = {
        label: {**_counts(clips), **{name: metric(clips) for name, metric in metrics.items()}}
        for label, clips in spans.items()
    }
    named = labels if labels is not None else _ordered({*spans, *points})
    there = {label for kind in (spans, points) for label, clips in kind.items() if _counts(clips)["n_references"]}
    return {
        "intervals": intervals,
        "points": {label: {**_counts(clips), **_boundaries(clips, tolerance)} for label, clips in points.items()},
        "macro": {name: mean_of_defined([row[name] for row in intervals.values()]) for name in metrics},
        "undefined": [label for label in named if label not in there],
    }


# Inside --------------------------------------------------------------------------------------------


class _Clip(NamedTuple):
    """What one clip has of one label: starts and ends, of shape (n, 2)."""

    references: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union, of shape (n_references, n_predictions)."""
        (a_start, a_end), (b_start, b_end) = self.references.T[..., None], self.predictions.T
        shared = np.maximum(np.minimum(a_end, b_end) - np.maximum(a_start, b_start), 0)
        return shared / ((a_end - a_start) + (b_end - b_start) - shared)


def _by_label(references: References, predictions: Predictions, points: bool) -> dict[str, list[_Clip]]:
    """For each label the clips that have any of it on either side, with its intervals or its points."""
    if len(references) != len(predictions):
        raise ValueError(
            f"references are of {len(references)} clips, predictions of {len(predictions)}: give both of all."
        )
    clips: dict[str, list[_Clip]] = {}
    for reference, found in zip(references, predictions, strict=True):
        left_out = set(reference.inaudible) if isinstance(reference, EditRecord) else set()
        there = record_segments(reference) if isinstance(reference, EditRecord) else reference
        sides: dict[str, tuple[list[EditSegment], list[EditSegment]]] = {}
        for side, segments in enumerate((there, found)):
            for segment in segments:
                if segment.is_point == points and segment.label not in left_out:
                    sides.setdefault(segment.label, ([], []))[side].append(segment)
        for label, both in sides.items():
            clips.setdefault(label, []).append(_clip(*both))
    return {label: clips[label] for label in _ordered(clips)}


def _clip(there, found):
    spans = [np.array([(s.start, s.end) for s in side], dtype=np.float64).reshape(-1, 2) for side in (there, found)]
    return _Clip(*spans, np.array([segment.score for segment in found], dtype=np.float64))


def _ordered(labels):
    """In the order of the taxonomy, others after it."""
    return [label for label in LABELS if label in labels] + sorted(set(labels) - set(LABELS))


def _mean_over_labels(metric, references, predictions):
    return mean_of_defined([metric(clips) for clips in _by_label(references, predictions, points=False).values()])


def _counts(clips):
    return {
        "n_references": sum(len(clip.references) for clip in clips),
        "n_predictions": sum(len(clip.predictions) for clip in clips),
    }


def _ratio(part, whole):
    return float(part / whole) if whole else float("nan")


def _f1(clips, iou):
    matched = 0
    for clip in clips:
        fits = clip.iou >= iou * (1 - _SLACK)
        matched += fits[linear_sum_assignment(fits, maximize=True)].sum()
    return _ratio(2 * matched, sum(_counts(clips).values()))


def _average_precision(clips, iou):
    n_references = _counts(clips)["n_references"]
    if n_references == 0:
        return float("nan")
    ious, free = [clip.iou for clip in clips], [np.ones(len(clip.references), dtype=bool) for clip in clips]
    ranked = [(-score, i, j) for i, clip in enumerate(clips) for j, score in enumerate(clip.scores)]
    is_true = np.zeros(len(ranked))
    for rank, (_, i, j) in enumerate(sorted(ranked)):
        overlaps = np.where(free[i], ious[i][:, j], 0)
        if len(overlaps) and overlaps.max() >= iou * (1 - _SLACK):
            free[i][overlaps.argmax()] = False
            is_true[rank] = 1
    precision = is_true.cumsum() / np.arange(1, len(is_true) + 1)
    best_from = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_from * is_true).sum() / n_references)


def _average_recall(clips, n_proposals):
    best = []
    for clip in clips:
        chosen = np.argsort(-clip.scores, kind="stable")[:n_proposals]
        best.append(clip.iou[:, chosen].max(axis=1, initial=0))
    overlaps = np.concatenate(best)
    return _ratio((overlaps >= _RECALL_IOUS[:, None] * (1 - _SLACK)).mean(axis=0).sum(), len(overlaps))


def _boundaries(clips, tolerance):
    errors = []
    for clip in clips:
        distances = np.abs(clip.references[:, :1] - clip.predictions[:, 0])
        fits = distances <= tolerance + _SLACK
        # One match more is worth any errors.
        costs = np.where(fits, distances, (min(fits.shape) + 1) * (tolerance + 1))
        pairs = linear_sum_assignment(costs)
        errors += distances[pairs][fits[pairs]].tolist()
    counts = _counts(clips)
    return {
        "hit_rate": _ratio(len(errors), counts["n_references"]),
        "precision": _ratio(len(errors), counts["n_predictions"]),
        "f1": _ratio(2 * len(errors), sum(counts.values())),
        "mean_error": float(np.mean(errors)) if errors else float("nan"),
        "median_error": float(np.median(errors)) if errors else float("nan"),
    }


def _check_iou(iou):
    check_number("iou", iou, high=1, closed=False)
