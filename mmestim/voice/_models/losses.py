"""Losses of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..._data.batches import Batch
from ..._training.loop import Objective
from .._constants import MIN_FRAME_LOGIT
from .._window_labels import LABEL_UNKNOWN
from ..taxonomy import SYNTHETIC_LABELS, TAXONOMY

# Rare labels count more, but no more than this.
_MOST_WEIGHT = 10.0


_CATEGORY_SHARE = 0.3


class LabelLoss(Objective):
    """Binary cross-entropy of every label, of its category, and of human speech against synthetic.

    Parameters
    ----------
    labels : list of str
        Columns of the logits.
    weights : Tensor of shape (n_labels,)
        Of windows that have the label.
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
        loss = _masked_mean(
            F.binary_cross_entropy_with_logits(logits, y, reduction="none", pos_weight=self.weights), is_labelled
        )
        for columns in self.groups:
            # Of independent labels; where one is there, it does not matter that another is not known.
            none = F.logsigmoid(-logits[:, columns]).sum(1)
            some = torch.log(-torch.expm1(none.clamp(max=-1e-6)))
            is_positive = y[:, columns].amax(1)
            is_known = is_labelled[:, columns].all(1) | (is_positive == 1)
            loss = loss + _CATEGORY_SHARE / len(self.groups) * _masked_mean(
                -(is_positive * some + (1 - is_positive) * none), is_known
            )
        if len(self.synthetic) > 1:
            choices = F.pad(logits[:, self.synthetic], (1, 0))
            which = F.pad(y[:, self.synthetic], (1, 0), value=0.5).argmax(1)
            is_known = is_labelled[:, self.synthetic].all(1).float()
            loss = loss + (F.cross_entropy(choices, which, reduction="none") * is_known).mean()
        return loss


class FrameLoss(Objective):
    """Binary cross-entropy of every frame of every map, within the clips and where it is known.

    A frame that has what its map is of counts `weight` times, a map as often as `shares` says.
    """

    def __init__(self, weight: float, shares: Sequence[float]) -> None:
        self.weight, self.shares = weight, shares

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        logits = output[0]
        y = batch.y[:, :, : logits.shape[2]]
        is_labelled = (y != LABEL_UNKNOWN) & (logits > MIN_FRAME_LOGIT)
        losses = F.binary_cross_entropy_with_logits(
            logits, (y == 1).float(), reduction="none", pos_weight=logits.new_tensor(self.weight)
        )
        return _masked_mean(losses, is_labelled * torch.tensor(self.shares, device=logits.device)[:, None])


class ClassLoss(Objective):
    """Cross-entropy of one class for each window."""

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(output[0], batch.y.argmax(1))


def label_weights(targets: np.ndarray, most: float = _MOST_WEIGHT) -> np.ndarray:
    """Windows without a label for each that has it, at most `most`; by column, over all other axes but the second."""
    axes = tuple(axis for axis in range(targets.ndim) if axis != 1)
    is_positive, is_labelled = (targets == 1).sum(axis=axes), (targets != LABEL_UNKNOWN).sum(axis=axes)
    return ((is_labelled - is_positive) / np.maximum(is_positive, 1)).clip(1, most).astype(np.float32)


def _masked_mean(losses, shares):
    return (losses * shares).sum() / shares.sum().clamp(min=1)
