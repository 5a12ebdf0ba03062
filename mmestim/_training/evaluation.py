"""Evaluation of a network on rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import RowSource
from .options import TrainingOptions


@torch.no_grad()
def evaluate(
    module: nn.Module, rows: RowSource, options: TrainingOptions, on_batch: Callable[..., None] | None = None
) -> tuple[float, float, float]:
    """Cross-entropy, accuracy and entropy of the predictions, weighted means of a module in eval mode."""
    module.eval()
    totals = torch.zeros(4, device=options.device)
    for part in rows.epoch(rows.eval_batch_size(options.batch_size)):
        batch = rows.batch(part)
        with options.autocast():
            logits = module(batch)[0]
        log_shares = F.log_softmax(logits, dim=1)
        scores = [
            F.nll_loss(log_shares, batch.y, reduction="none"),
            (logits.argmax(1) == batch.y).float(),
            -(log_shares.exp() * log_shares).sum(1),
            torch.ones_like(log_shares[:, 0]),
        ]
        weight = 1.0 if batch.weight is None else batch.weight
        totals += torch.stack([(score * weight).sum() for score in scores])
        if on_batch is not None:
            on_batch(batch, logits)
    loss, hits, entropy, weight = totals.tolist()
    return loss / weight, hits / weight, entropy / weight


def selection_score(loss: float, accuracy: float) -> float:
    """What the best state of a module has most of: accuracy, and of equal ones the lowest loss."""
    return accuracy - 1e-6 * loss
