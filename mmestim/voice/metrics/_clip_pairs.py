"""Pairs of the true and the predicted segments of one label in one clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..records import EditRecord
from ..segments import EditSegment, record_segments
from ..taxonomy import LABELS

References = Sequence[EditRecord | Sequence[EditSegment]]
Predictions = Sequence[Sequence[EditSegment]]


class ClipPair(NamedTuple):
    """Segments of one label in one clip, as rows (start, end)."""

    references: np.ndarray  # (n_references, 2)
    predictions: np.ndarray  # (n_predictions, 2)
    scores: np.ndarray  # (n_predictions,)

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union, of shape (n_references, n_predictions)."""
        (a_start, a_end), (b_start, b_end) = self.references.T[..., None], self.predictions.T
        intersection = np.maximum(np.minimum(a_end, b_end) - np.maximum(a_start, b_start), 0)
        return intersection / ((a_end - a_start) + (b_end - b_start) - intersection)


def pairs_by_label(references: References, predictions: Predictions, *, points: bool) -> dict[str, list[ClipPair]]:
    """Group the intervals, or the points, by label.

    Parameters
    ----------
    references : list of length n_clips of (EditRecord or list of EditSegment)
        True segments of each clip. Predictions of labels that a record lists as inaudible are ignored.
    predictions : list of length n_clips of list of EditSegment
        Predicted segments of each clip.
    points : bool
        Whether to group the points instead of the intervals.

    Returns
    -------
    dict of str to list of ClipPair
        For each label, a pair for each clip that has the label in its references or predictions.
    """
    if len(references) != len(predictions):
        raise ValueError(
            f"references has {len(references)} clips, but predictions has {len(predictions)}. Give both for each clip."
        )
    pairs: dict[str, list[ClipPair]] = {}
    for reference, predicted in zip(references, predictions, strict=True):
        if isinstance(reference, EditRecord):
            actual, ignored = record_segments(reference), set(reference.inaudible)
        else:
            actual, ignored = list(reference), set()
        segments_by_label: dict[str, tuple[list[EditSegment], list[EditSegment]]] = {}
        for side, segments in enumerate((actual, predicted)):
            for segment in segments:
                if segment.is_point == points and segment.label not in ignored:
                    segments_by_label.setdefault(segment.label, ([], []))[side].append(segment)
        for label, (label_references, label_predictions) in segments_by_label.items():
            pairs.setdefault(label, []).append(_clip_pair(label_references, label_predictions))
    return {label: pairs[label] for label in taxonomy_order(pairs)}


def _clip_pair(references: Sequence[EditSegment], predictions: Sequence[EditSegment]) -> ClipPair:
    return ClipPair(
        _spans(references),
        _spans(predictions),
        np.array([segment.score for segment in predictions], dtype=np.float64),
    )


def _spans(segments: Sequence[EditSegment]) -> np.ndarray:
    return np.array([(segment.start, segment.end) for segment in segments], dtype=np.float64).reshape(-1, 2)


def taxonomy_order(labels: Iterable[str]) -> list[str]:
    """Sort labels in the order of the taxonomy, followed by other labels."""
    unique = set(labels)
    return [label for label in LABELS if label in unique] + sorted(unique - set(LABELS))


def segment_counts(pairs: Sequence[ClipPair]) -> dict[str, int]:
    """Count the references and the predictions of all pairs."""
    return {
        "n_references": sum(len(pair.references) for pair in pairs),
        "n_predictions": sum(len(pair.predictions) for pair in pairs),
    }
