"""Adaptive loss of ModalityGapClassifier: its terms and the posteriors that weigh them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..._data.batches import Batch
from ..._networks.multimodal_networks import present_mask, true_class_proba
from ..._training.losses import weighted_cross_entropy
from .._analysis.gap_mixture import GapMixture, absolute_gaps, fit_one, fit_two
from .gap_scorers import GapScorer
from .joint import JointObjective

# Below these values both components coincide, or one is almost empty, and posteriors are not used for training.
_MIN_DISTANCE, _MIN_WEIGHT = 0.05, 0.02

# Record of one adaptive epoch.
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
    """Weights of the terms of the adaptive loss, with the names of the classifier's parameters."""

    gap_weight: float
    shift_weight: float
    balanced_weight: float
    imbalanced_weight: float
    detach_stronger: bool


class GapObjective(JointObjective):
    """Joint loss for `n_warmup` epochs, then the adaptive loss with posteriors updated before each epoch.

    One mixture is fitted to the gaps of all training rows. A row has the same posterior in the losses of
    all networks.

    Parameters
    ----------
    unimodal_weight : float
        Weight of the cross-entropies of the modalities' own heads.
    terms : GapTerms
        Weights of the other terms.
    scorer : GapScorer
        Scorer of the training rows.
    n_warmup : int
        Epochs by the joint loss.
    """

    state_attributes = ("mixture", "records", "balanced")

    def __init__(self, unimodal_weight: float, terms: GapTerms, scorer: GapScorer, n_warmup: int) -> None:
        super().__init__(unimodal_weight)
        self.terms, self.scorer, self.n_warmup = terms, scorer, n_warmup
        self.mixture: GapMixture | None = None
        self.records: list[tuple[Any, ...]] = []

    def begin(self, net: Any) -> None:
        self.balanced = torch.full((len(self.scorer.rows.y),), 0.5, device=net.options.device)

    def begin_epoch(self, net: Any, epoch: list[torch.Tensor]) -> None:
        n_done = len(net.history) - 1
        if n_done <= self.n_warmup:
            net.defer_early_stopping(self.n_warmup - n_done)  # Early stopping compares adaptive epochs only.
        if n_done >= self.n_warmup:
            self._update_posteriors(self.scorer.scores(self.networks(net)), self.scorer.rows.rows)

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
        gaps, has_gap = batch_gaps(logits, batch, terms.detach_stronger)
        if terms.gap_weight:
            penalty = gap_loss(gaps, 1 - balanced, batch.weight, has_gap, terms.imbalanced_weight)
            loss = loss + terms.gap_weight * penalty
        if terms.shift_weight:
            excess = shift_loss(gaps, 1 - balanced, batch.weight, has_gap, float(self.mixture.means[0]))
            loss = loss + terms.shift_weight * excess
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the mixture as a dict."""
        return super().state_dict() | {"mixture": None if self.mixture is None else vars(self.mixture)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state, with the mixture from a dict."""
        super().load_state_dict(state)
        self.mixture = None if state["mixture"] is None else GapMixture(**state["mixture"])

    def _update_posteriors(self, scores: np.ndarray, rows: torch.Tensor) -> None:
        """Fit the mixture to the gaps of the training rows, and use its posteriors if it is valid."""
        gaps = absolute_gaps(scores)
        defined_gaps = gaps[~np.isnan(gaps)]
        fitted = fit_two(defined_gaps, start=self.mixture)
        is_valid = bool(np.ptp(fitted.means) >= _MIN_DISTANCE and fitted.weights.min() >= _MIN_WEIGHT)
        if is_valid:
            self.mixture = fitted
        elif self.mixture is None:
            self.mixture = fit_one(defined_gaps)
        posterior = self.mixture.posterior(gaps)[:, 0].astype(np.float32)
        self.balanced[rows.to(self.balanced.device)] = torch.from_numpy(posterior).to(self.balanced.device)
        mean_gap = defined_gaps.mean()
        self.records.append((fitted.means, fitted.variances, fitted.weights, fitted.separation, mean_gap, is_valid))


def gap_history(records: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    """Return the records as arrays with one row per record."""
    table = np.array(records, dtype=HISTORY)
    return {name: table[name].copy() for name in HISTORY.names or ()}


def batch_gaps(
    logits: Mapping[str, torch.Tensor], batch: Batch, detach_stronger: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the differentiable gap of each row, and a mask of the rows that have one, or None if all do.

    Parameters
    ----------
    logits : mapping of str to Tensor of shape (n_rows, n_classes)
        Logits of each modality alone.
    batch : Batch
        Rows of the logits.
    detach_stronger : bool
        Whether the largest score is a constant, so that only the smallest score gets a gradient.

    Returns
    -------
    gaps : Tensor of shape (n_rows,)
        Largest minus smallest score of the true class; 0 in rows without a gap.
    has_gap : bool Tensor of shape (n_rows,) or None
        Rows with at least two modalities.
    """
    scores = torch.stack([true_class_proba(unimodal_logits, batch.y) for unimodal_logits in logits.values()])
    if not batch.present:
        high, low, has_gap = scores.amax(0), scores.amin(0), None
    else:
        present = torch.stack([present_mask(batch, name) for name in logits])
        # Fill with values outside [0, 1], so that absent modalities are neither the largest nor the smallest.
        high, low = scores.masked_fill(~present, -1).amax(0), scores.masked_fill(~present, 2).amin(0)
        has_gap = present.sum(0) > 1
    gaps = (high.detach() if detach_stronger else high) - low
    return gaps if has_gap is None else gaps.masked_fill(~has_gap, 0), has_gap


def gap_loss(
    gaps: torch.Tensor,
    imbalanced: torch.Tensor,
    weight: torch.Tensor | None,
    has_gap: torch.Tensor | None,
    boost: float,
) -> torch.Tensor:
    """Return the mean gap, each row weighted by 1 + boost * its posterior of being imbalanced."""
    penalty = (1 + boost * imbalanced) * gaps
    penalty = penalty if weight is None else penalty * weight
    return penalty.mean() if has_gap is None else penalty.sum() / has_gap.sum().clamp(min=1)


def shift_loss(
    gaps: torch.Tensor,
    imbalanced: torch.Tensor,
    weight: torch.Tensor | None,
    has_gap: torch.Tensor | None,
    target: float,
) -> torch.Tensor:
    """Return the mean square of the excess over `target`, each row weighted by its posterior of being imbalanced."""
    row_weight = imbalanced if weight is None else imbalanced * weight
    row_weight = row_weight if has_gap is None else row_weight * has_gap
    return (row_weight * (gaps - target).relu() ** 2).sum() / (row_weight.sum() + 1e-6)
