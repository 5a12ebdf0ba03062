"""Cross-entropies of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .._data.batches import Batch


def weighted_cross_entropy(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of a batch, each row counted by its weight."""
    if batch.weight is None:
        return F.cross_entropy(logits, batch.y)
    return (F.cross_entropy(logits, batch.y, reduction="none") * batch.weight).mean()


def unimodal_cross_entropy(logits: torch.Tensor, batch: Batch, name: str) -> torch.Tensor:
    """The same of logits for all rows, on those that have modality `name`; 0 where none has."""
    if not len(batch.x[name]):
        return logits.new_zeros(())
    having = batch.with_modality(name)
    return weighted_cross_entropy(logits if having is batch else logits[batch.present[name]], having)
