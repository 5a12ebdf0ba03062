"""Evaluation of a network on rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import Batch, RowSource, read_ahead
from .options import TrainingOptions


@torch.no_grad()
def evaluate(
    module: nn.Module,
    rows: RowSource,
    options: TrainingOptions,
    on_batch: Callable[[Batch, torch.Tensor], None] | None = None,
) -> tuple[float, float, float]:
    """Return weighted means of cross-entropy, accuracy and entropy of the predictions.

    Parameters
    ----------
    module : nn.Module
        The network, which is put in eval mode. Its first output is the logits. An axis of folds in front counts as
        more rows.
    rows : RowSource
        Rows to evaluate on.
    options : TrainingOptions
        Device, precision and batch size.
    on_batch : callable, default=None
        Called with each batch and its logits.

    Returns
    -------
    loss, accuracy, entropy : float
        Cross-entropy and entropy are in nats.
    """
    module.eval()
    totals = torch.zeros(4, device=options.device)
    for batch in read_ahead(rows, rows.epoch(rows.eval_batch_size(options.batch_size))):
        with options.autocast():
            logits = module(batch)[0].flatten(0, -2)
        y = batch.y.flatten()
        log_proba = F.log_softmax(logits, dim=1)
        scores = [
            F.nll_loss(log_proba, y, reduction="none"),
            (logits.argmax(1) == y).float(),
            -(log_proba.exp() * log_proba).sum(1),
            torch.ones_like(log_proba[:, 0]),
        ]
        weight = 1.0 if batch.weight is None else batch.weight.flatten()
        totals += torch.stack([(score * weight).sum() for score in scores])
        if on_batch is not None:
            on_batch(batch, logits)
    loss, n_correct, entropy, total_weight = totals.tolist()
    return loss / total_weight, n_correct / total_weight, entropy / total_weight


def selection_loss(monitor: str, loss: float, accuracy: float) -> float:
    """Return the value by which weights are selected, the lower the better.

    Parameters
    ----------
    monitor : {'valid_loss', 'valid_accuracy'}
        Score that decides. The lower loss breaks ties of the accuracy.
    loss, accuracy : float
        Scores on validation rows.

    Returns
    -------
    float
        The value.
    """
    return loss if monitor == "valid_loss" else 1e-6 * loss - accuracy
