"""Outputs of trained branches on the rows of a fit, judged where the networks have not seen the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..._data.batches import Rows, read_ahead
from ..._networks.multimodal_networks import Branch
from ..fit_context import FitContext


@dataclass
class BranchOutputs:
    """Outputs of the branches of one modality for all rows of X.

    A held-out row has the prediction of the network that was not trained on it. Any other row has the
    mean of the log-probabilities of all networks.

    Attributes
    ----------
    log_proba : Tensor of shape (n_rows_of_X, n_classes)
        Log-probabilities; zeros in rows that lack the modality.
    features : Tensor of shape (n_rows_of_X, n_folds, embedding_dim) or None
        Features of each network.
    is_present : bool Tensor of shape (n_rows_of_X,)
        Rows of the fit that have the modality.
    is_held_out : bool Tensor of shape (n_rows_of_X,)
        Rows whose prediction comes from a network that was trained on their class but not on them.
    """

    log_proba: torch.Tensor
    features: torch.Tensor | None
    is_present: torch.Tensor
    is_held_out: torch.Tensor

    @property
    def has_held_out(self) -> bool:
        """True if any row that has the modality is held out."""
        return bool(self.is_held_out.any())

    @property
    def is_judged(self) -> torch.Tensor:
        """Rows that judge the branch: the held-out ones or, if there are none, those that it was trained on."""
        return self.is_held_out if self.has_held_out else self.is_present

    def score(self, rows: Rows) -> tuple[float, float]:
        """Return the weighted accuracy of the branch, and the mean entropy of its predictions in nats."""
        judged = self.is_judged
        log_proba, y = self.log_proba[judged], rows.y[judged]
        weight = torch.ones(len(y), device=y.device) if rows.weight is None else rows.weight[judged]
        is_correct = (log_proba.argmax(1) == y).float()
        entropy = -(log_proba.exp() * log_proba).sum(1)
        accuracy, mean_entropy = ((values * weight).sum() / weight.sum() for values in (is_correct, entropy))
        return float(accuracy), float(mean_entropy)


@torch.no_grad()
def evaluate_branches(context: FitContext, branches: Sequence[Branch], with_features: bool) -> BranchOutputs:
    """Return the outputs of the branches of one modality.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    branches : sequence of Branch
        Branch of each fold.
    with_features : bool
        Whether to keep the features.

    Returns
    -------
    BranchOutputs
        Outputs for all rows of X.
    """
    options, name = context.options, branches[0].name
    rows = context.rows.with_modality(name)
    n_rows, n_classes, n_folds = len(rows.y), branches[0].n_classes, len(branches)
    logits = torch.zeros(n_folds, n_rows, n_classes, device=options.device)
    features = torch.zeros(n_rows, n_folds, branches[0].embedding_dim, device=options.device) if with_features else None
    for fold, branch in enumerate(branches):
        branch.eval()
        for batch in read_ahead(rows, rows.epoch(rows.eval_batch_size(options.batch_size))):
            with options.autocast():
                logits[fold, batch.rows], batch_features = branch(batch)
            if features is not None:
                features[batch.rows, fold] = batch_features
    log_proba = torch.log_softmax(logits.mean(0), dim=1)
    is_present = torch.zeros(n_rows, dtype=torch.bool, device=options.device)
    is_present[rows.rows.to(options.device)] = True
    is_held_out = torch.zeros_like(is_present)
    for fold, held_out in enumerate(_held_out_rows(context, name)):
        log_proba[held_out] = torch.log_softmax(logits[fold, held_out], dim=1)
        is_held_out[held_out] = True
    log_proba[~is_present] = 0.0
    return BranchOutputs(log_proba, features, is_present, is_held_out)


def _held_out_rows(context: FitContext, name: str) -> list[torch.Tensor]:
    """Return the rows that each network has not seen, without those of classes on which it was not trained."""
    codes = context.rows.y.cpu().numpy()
    held_out_rows = []
    for train, valid in context.folds_for(name):
        training_rows, rows = train.rows.numpy(), valid.rows.numpy()
        is_unseen = ~np.isin(rows, training_rows) & np.isin(codes[rows], codes[training_rows])
        held_out_rows.append(torch.from_numpy(rows[is_unseen]).to(context.options.device))
    return held_out_rows
