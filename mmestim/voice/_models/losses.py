"""Losses of the networks of windows and of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..._data.batches import Batch
from ..._training.loop import Objective
from .._constants import MIN_FRAME_LOGIT
from .._training_data.training_set import TrainingSet
from .._window_labels import LABEL_UNKNOWN
from ..taxonomy import SYNTHETIC_LABELS, TAXONOMY

# Highest weight of the positive windows of a rare label.
_MAX_WEIGHT = 10.0
# Weight of all categories together; the labels together have a weight of 1.
_CATEGORY_WEIGHT = 0.3


class LabelLoss(Objective):
    """Binary cross-entropy of every label and of every category, and cross-entropy of human and synthetic speech.

    Parameters
    ----------
    labels : list of str
        Columns of the logits.
    weights : Tensor of shape (n_labels,)
        Weights of the windows that have each label.
    """

    def __init__(self, labels: list[str], weights: torch.Tensor) -> None:
        self.weights = weights
        members: dict[str, list[int]] = {}
        for column, label in enumerate(labels):
            members.setdefault(TAXONOMY[label].category if label in TAXONOMY else label, []).append(column)
        self.groups = [columns for columns in members.values() if len(columns) > 1]
        self.synthetic = [column for column, label in enumerate(labels) if label in SYNTHETIC_LABELS]

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        logits, is_labelled, y = output[0], batch.y != LABEL_UNKNOWN, (batch.y == 1).float()
        loss = _weighted_mean(
            F.binary_cross_entropy_with_logits(logits, y, reduction="none", pos_weight=self.weights), is_labelled
        )
        for columns in self.groups:
            # Probability that no label of the category is present, taking the labels as independent.
            log_none = F.logsigmoid(-logits[:, columns]).sum(1)
            log_any = torch.log(-torch.expm1(log_none.clamp(max=-1e-6)))
            is_positive = y[:, columns].amax(1)
            # One present label makes the category known, even if others are unknown.
            is_known = is_labelled[:, columns].all(1) | (is_positive == 1)
            loss = loss + _CATEGORY_WEIGHT / len(self.groups) * _weighted_mean(
                -(is_positive * log_any + (1 - is_positive) * log_none), is_known
            )
        if len(self.synthetic) > 1:
            choice_logits = F.pad(logits[:, self.synthetic], (1, 0))
            choice = F.pad(y[:, self.synthetic], (1, 0), value=0.5).argmax(1)
            is_known = is_labelled[:, self.synthetic].all(1).float()
            loss = loss + (F.cross_entropy(choice_logits, choice, reduction="none") * is_known).mean()
        return loss


class FrameLoss(Objective):
    """Binary cross-entropy of every labelled frame inside the clips, for every map.

    Parameters
    ----------
    positive_weight : float
        Weight of the positive frames of each map.
    map_weights : sequence of float
        Weight of each map.
    """

    def __init__(self, positive_weight: float, map_weights: Sequence[float]) -> None:
        self.positive_weight, self.map_weights = positive_weight, map_weights

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        logits = output[0]
        y = batch.y[:, :, : logits.shape[2]]
        is_labelled = (y != LABEL_UNKNOWN) & (logits > MIN_FRAME_LOGIT)
        losses = F.binary_cross_entropy_with_logits(
            logits, (y == 1).float(), reduction="none", pos_weight=logits.new_tensor(self.positive_weight)
        )
        return _weighted_mean(losses, is_labelled * torch.tensor(self.map_weights, device=logits.device)[:, None])


class ClassLoss(Objective):
    """Cross-entropy of one class for each window."""

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(output[0], batch.y.argmax(1))


def build_label_loss(
    training_set: TrainingSet, rows: np.ndarray, max_weight: float = _MAX_WEIGHT
) -> LabelLoss | ClassLoss:
    """Return the loss of the labels, weighted by their frequency in the windows that the mask `rows` selects."""
    if training_set.is_exclusive:
        return ClassLoss()
    weights = label_weights(training_set.windows.targets[rows], max_weight)
    return LabelLoss(training_set.labels, torch.from_numpy(weights).to(training_set.options.device))


def label_weights(targets: np.ndarray, max_weight: float = _MAX_WEIGHT) -> np.ndarray:
    """Return the ratio of negative to positive values of each label, between 1 and `max_weight`.

    Parameters
    ----------
    targets : uint8 ndarray of shape (n_windows, n_labels) or (n_windows, n_labels, n_frames)
        1, 0 or `LABEL_UNKNOWN`.
    max_weight : float, default=10
        Highest weight.

    Returns
    -------
    float32 ndarray of shape (n_labels,)
        The weights.
    """
    axes = tuple(axis for axis in range(targets.ndim) if axis != 1)
    n_positive, n_labelled = (targets == 1).sum(axis=axes), (targets != LABEL_UNKNOWN).sum(axis=axes)
    return ((n_labelled - n_positive) / np.maximum(n_positive, 1)).clip(1, max_weight).astype(np.float32)


def _weighted_mean(losses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (losses * weights).sum() / weights.sum().clamp(min=1)
