"""The adaptive loss of ModalityGapClassifier: its terms, and the posteriors that weigh them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..._data.batches import Batch
from ..._networks.multimodal_networks import present_mask, true_class_share
from ..._training.losses import weighted_cross_entropy
from .._analysis.gap_mixture import GapMixture, absolute_gaps, fit_one, fit_two
from .gap_scorers import TrainingScores
from .joint import JointObjective

# With less, the components are one or one of them is next to empty: no posteriors to train by.
_LEAST_DISTANCE, _LEAST_WEIGHT = 0.05, 0.02


# What is remembered of each adaptive epoch.
HISTORY = np.dtype(
    [
        ("means", float, 2),
        ("variances", float, 2),
        ("weights", float, 2),
        ("separation", float),
        ("mean_gap", float),
        ("kept", bool),
    ]
)


@dataclass(frozen=True)
class GapTerms:
    """Weights of the terms of the adaptive loss, by the names of the classifier's parameters."""

    gap_weight: float
    shift_weight: float
    balanced_weight: float
    imbalanced_weight: float
    detach_stronger: bool

    @property
    def are_on(self) -> bool:
        """Whether the loss differs from the joint one."""
        return max(self.gap_weight, self.shift_weight, self.balanced_weight) > 0


class GapObjective(JointObjective):
    """The joint loss for `n_warmup` epochs, then the adaptive one, its posteriors renewed before each epoch.

    Without `n_warmup` the loss stays the joint one, and only `source` keeps in step.
    """

    state_attributes = ("mixture", "records", "balanced", "source")

    def __init__(self, unimodal_weight: float, terms: GapTerms, source: TrainingScores, n_warmup: int | None) -> None:
        super().__init__(unimodal_weight)
        self.terms, self.source, self.n_warmup = terms, source, n_warmup
        self.mixture: GapMixture | None = None
        self.records: list[tuple[Any, ...]] = []

    def begin(self, net: Any) -> None:
        self.source.begin(net)
        self.balanced = torch.full((len(net.train_rows.y),), 0.5, device=net.options.device)

    def begin_epoch(self, net: Any, epoch: list[torch.Tensor]) -> None:
        n_done = len(net.history) - 1
        if self.n_warmup is not None:
            if n_done <= self.n_warmup:
                net.restart_stopping(self.n_warmup - n_done)  # Of adaptive epochs alone the best is kept.
            if n_done >= self.n_warmup:
                self._renew(self.source.scores(net.module_), net.train_rows.rows)
        self.source.train_epoch(net)

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        if self.mixture is None:
            return super().loss(net, output, batch)
        terms, balanced = self.terms, self.balanced[batch.rows]
        loss = weighted_cross_entropy(output[0], batch.reweighted(1 + terms.balanced_weight * balanced))
        if not (self.unimodal_weight or terms.gap_weight or terms.shift_weight):
            return loss
        logits = self.unimodal_logits(net, output, batch)
        if self.unimodal_weight:
            loss = self.add_unimodal(loss, logits, batch)
        if not (terms.gap_weight or terms.shift_weight):
            return loss
        gaps, known = batch_gaps(logits, batch, terms.detach_stronger)
        if terms.gap_weight:
            penalty = gap_loss(gaps, 1 - balanced, batch.weight, known, terms.imbalanced_weight)
            loss = loss + terms.gap_weight * penalty
        if terms.shift_weight:
            excess = shift_loss(gaps, 1 - balanced, batch.weight, known, float(self.mixture.means[0]))
            loss = loss + terms.shift_weight * excess
        return loss

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"mixture": None if self.mixture is None else vars(self.mixture)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.mixture = None if state["mixture"] is None else GapMixture(**state["mixture"])

    def _renew(self, scores: np.ndarray, rows: torch.Tensor) -> None:
        """Refit the mixture to the gaps of the training rows, and take its posteriors if it holds."""
        gaps = absolute_gaps(scores)
        known = gaps[~np.isnan(gaps)]
        fitted = fit_two(known, start=self.mixture)
        kept = bool(np.ptp(fitted.means) >= _LEAST_DISTANCE and fitted.weights.min() >= _LEAST_WEIGHT)
        if kept:
            self.mixture = fitted
        elif self.mixture is None:
            self.mixture = fit_one(known)
        posterior = self.mixture.posterior(gaps)[:, 0].astype(np.float32)
        self.balanced[rows.to(self.balanced.device)] = torch.from_numpy(posterior).to(self.balanced.device)
        self.records.append((fitted.means, fitted.variances, fitted.weights, fitted.separation, known.mean(), kept))


def gap_history(records: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    """The records as arrays with one row each."""
    table = np.array(records, dtype=HISTORY)
    return {name: table[name].copy() for name in HISTORY.names or ()}


def batch_gaps(
    logits: Mapping[str, torch.Tensor], batch: Batch, detach_stronger: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gap of each row with its gradient, and which rows have one, or None where all do.

    With `detach_stronger` the largest score is a constant, so that only the smallest is pulled.
    """
    scores = torch.stack([true_class_share(z, batch.y) for z in logits.values()])
    if not batch.present:
        high, low, known = scores.amax(0), scores.amin(0), None
    else:
        have = torch.stack([present_mask(batch, name) for name in logits])
        # Beyond what a probability can be, so that absent ones are neither.
        high, low = scores.masked_fill(~have, -1).amax(0), scores.masked_fill(~have, 2).amin(0)
        known = have.sum(0) > 1
    gaps = (high.detach() if detach_stronger else high) - low
    return gaps if known is None else gaps.masked_fill(~known, 0), known


def gap_loss(
    gaps: torch.Tensor, imbalanced: torch.Tensor, weight: torch.Tensor | None, known: torch.Tensor | None, boost: float
) -> torch.Tensor:
    """Mean gap of the rows that have one, each counted 1 + boost * its posterior of being imbalanced."""
    penalty = (1 + boost * imbalanced) * gaps
    penalty = penalty if weight is None else penalty * weight
    return penalty.mean() if known is None else penalty.sum() / known.sum().clamp(min=1)


def shift_loss(
    gaps: torch.Tensor, imbalanced: torch.Tensor, weight: torch.Tensor | None, known: torch.Tensor | None, goal: float
) -> torch.Tensor:
    """Mean square of what gaps exceed `goal` by, each row counted by its posterior of being imbalanced."""
    share = imbalanced if weight is None else imbalanced * weight
    share = share if known is None else share * known
    return (share * (gaps - goal).relu() ** 2).sum() / (share.sum() + 1e-6)
