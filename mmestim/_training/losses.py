"""Cross-entropies of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .._data.batches import Batch
from .._data.folds import fold_mean


def weighted_cross_entropy(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the mean cross-entropy of a batch, each row multiplied by its weight."""
    if batch.weight is None:
        return F.cross_entropy(logits, batch.y)
    return (F.cross_entropy(logits, batch.y, reduction="none") * batch.weight).mean()


def unimodal_cross_entropy(logits: torch.Tensor, batch: Batch, name: str) -> torch.Tensor:
    """Return the mean cross-entropy over the rows that have modality `name`, 0 if none has.

    Parameters
    ----------
    logits : Tensor of shape (batch.size, n_classes)
        Logits of all rows of the batch.
    batch : Batch
        The batch.
    name : str
        The modality.

    Returns
    -------
    Tensor of shape ()
        The mean.
    """
    if not batch.n_present(name):
        return logits.new_zeros(())
    present_batch = batch.with_modality(name)
    return weighted_cross_entropy(logits if present_batch is batch else logits[batch.present[name]], present_batch)


def fold_cross_entropy(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the mean cross-entropy of each fold, each row multiplied by its weight.

    Parameters
    ----------
    logits : Tensor of shape (n_folds, n_rows, n_classes)
        Logits of a batch of folds.
    batch : Batch
        The batch.

    Returns
    -------
    Tensor of shape (n_folds,)
        The means.
    """
    losses = F.cross_entropy(logits.flatten(0, 1), batch.y.flatten(), reduction="none")
    return fold_mean(losses.view(batch.y.shape), batch)
