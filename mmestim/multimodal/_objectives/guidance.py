"""Guidance of a follower by frozen modalities: two unsupervised losses and their adaptive weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..._data.batches import Batch, Rows
from ..._networks.multimodal_networks import Branch, fuse
from ..._training.devices import seeded
from ..._training.loop import Objective
from ..._training.losses import weighted_cross_entropy
from ..._training.options import TrainingOptions
from .mutual_information import CLUB, masked_mean

# Number of mini-batches that set the weights of an epoch, and whether alignments are cosines or inner products.
GUIDANCE_RULES = {"dynamic": (1, False), "aligned": (8, True)}

_EPS = 1e-8

Gradient = Sequence[torch.Tensor | None]


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return the Jensen-Shannon divergence of each row, in nats, between 0 and ln 2 (UDI, eq. 4)."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean)).sum(1)


def guidance_weights(alignment: torch.Tensor) -> torch.Tensor:
    """Return the weights of both losses: their fractions of the positive alignments (UDI, eq. 15-16)."""
    positive = alignment.relu()
    return positive / (positive.sum() + _EPS)


class FrozenBranches:
    """Outputs of the frozen branches on the training rows, computed once for all epochs."""

    def __init__(self, rows: Rows, fusion: str) -> None:
        self.rows, self.fusion = rows, fusion
        self.logits: list[torch.Tensor] = []
        self.features: list[torch.Tensor] = []
        self.masks: list[torch.Tensor] = []

    @torch.no_grad()
    def add(self, branch: Branch, options: TrainingOptions) -> None:
        """Evaluate a frozen branch on the training rows, and store its outputs."""
        branch.eval()
        rows = self.rows.with_modality(branch.name)
        n_rows, device = len(rows.y), options.device
        logits = torch.zeros(n_rows, branch.n_classes, device=device)
        features = torch.zeros(n_rows, branch.embedding_dim, device=device)
        mask = torch.zeros(n_rows, dtype=torch.bool, device=device)
        for batch_rows in rows.epoch(rows.eval_batch_size(options.batch_size)):
            batch = rows.batch(batch_rows)
            with options.autocast():
                logits[batch.rows], features[batch.rows] = branch(batch)
            mask[batch.rows] = True
        self.logits.append(logits)
        self.features.append(_layer_normalised(features))
        self.masks.append(mask)
        self.log_probs = torch.log_softmax(fuse(self.logits, self.masks, self.fusion), dim=1)
        self.present = torch.stack(self.masks).any(0)
        # Means need no mask if every row has every modality.
        self.is_partial = not bool(torch.stack(self.masks)[:, self.rows.rows.to(device)].all())

    def row_mask(self, mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
        """Return the mask of the rows of a batch, or None if all rows count."""
        return mask[rows] if self.is_partial else None


class Guidance(Objective):
    """Objective of a follower: cross-entropy + a_con * consistency + a_com * complementarity (UDI, eq. 12).

    Parameters
    ----------
    frozen : FrozenBranches
        Outputs of the modalities that guide it.
    rule : str or pair of float
        Rule by which the weights adapt, or two fixed weights.
    seed : int
        Seed of the networks that estimate mutual information.
    """

    state_attributes = ("weights", "records", "clubs", "club_optimizer")

    def __init__(self, frozen: FrozenBranches, rule: Any, seed: int) -> None:
        self.frozen, self.rule, self.seed = frozen, rule, seed
        self.weights = (0.0, 0.0) if isinstance(rule, str) else tuple(float(weight) for weight in rule)
        self.records: list[dict[str, np.ndarray]] = []

    def begin(self, net: Any) -> None:
        self.clubs = nn.ModuleList()
        if isinstance(self.rule, str) or self.weights[1] > 0:
            size = net.module_.embedding_dim
            with seeded(self.seed, net.options.device):
                self.clubs.extend(CLUB(features.shape[1], size) for features in self.frozen.features)
            self.clubs.to(net.options.device)
            self.club_optimizer = torch.optim.Adam(self.clubs.parameters(), lr=1e-3, fused=True)

    def begin_epoch(self, net: Any, epoch: list[torch.Tensor]) -> None:
        record = {}
        if isinstance(self.rule, str):
            n_batches, is_cosine = GUIDANCE_RULES[self.rule]
            batches = [self._gradient_products(net, rows) for rows in epoch[:n_batches]]
            alignment, norms = (torch.stack(values).mean(0) for values in zip(*batches, strict=True))
            if is_cosine:
                cosines = [products / (n[0] * n[1:] + _EPS) for products, n in batches]
                alignment = torch.stack(cosines).mean(0)
            self.weights = tuple(guidance_weights(alignment).tolist())
            record = {"alignment": alignment.cpu().numpy(), "gradient_norm": norms.cpu().numpy()}
        self.records.append({"weights": np.array(self.weights), **record})

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        logits, features = output
        if self.clubs:
            self._fit_clubs(features.detach(), batch)
        loss = weighted_cross_entropy(logits, batch)
        consistency, complementarity = self.weights
        if consistency:
            loss = loss + consistency * self._consistency(logits, batch)
        if complementarity:
            loss = loss + complementarity * self._complementarity(features, batch)
        return loss

    def history(self) -> dict[str, np.ndarray]:
        """Return the records as arrays with one row per epoch."""
        return {key: np.stack([record[key] for record in self.records]) for key in self.records[0]}

    def _consistency(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the mean divergence from the fused prediction of the frozen modalities."""
        divergence = jensen_shannon(self.frozen.log_probs[batch.rows], torch.log_softmax(logits, dim=1))
        if batch.weight is not None:
            divergence = divergence * batch.weight
        return masked_mean(divergence, self.frozen.row_mask(self.frozen.present, batch.rows))

    def _complementarity(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the bound of mutual information, averaged over the frozen modalities."""
        features = _layer_normalised(features)
        bounds = [club(frozen, features, mask) for club, frozen, mask in self._frozen_pairs(batch)]
        return torch.stack(bounds).mean()

    def _frozen_pairs(self, batch: Batch) -> Iterator[tuple[CLUB, torch.Tensor, torch.Tensor | None]]:
        """Yield, for each frozen modality, its bound, its features and the mask of the rows that have it."""
        for club, features, mask in zip(self.clubs, self.frozen.features, self.frozen.masks, strict=True):
            yield cast(CLUB, club), features[batch.rows], self.frozen.row_mask(mask, batch.rows)

    def _fit_clubs(self, features: torch.Tensor, batch: Batch) -> None:
        """Fit the networks of the bounds by one step."""
        features = _layer_normalised(features)
        self.club_optimizer.zero_grad()
        losses = [club.fitting_loss(frozen, features, mask) for club, frozen, mask in self._frozen_pairs(batch)]
        cast(torch.Tensor, sum(losses)).backward()
        self.club_optimizer.step()

    def _gradient_products(self, net: Any, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the products of the fused loss's gradient with those of both losses, and three norms (eq. 13-14)."""
        # A compiled module cannot give three gradients of one forward pass.
        module = getattr(net.module_, "_orig_mod", net.module_)
        buffers = [buffer.clone() for buffer in module.buffers()]
        module.train()
        batch = net.train_rows.batch(rows, training=True)
        with net.options.autocast():
            logits, features = module(batch)
        fused_logits = fuse(
            [*(frozen[batch.rows] for frozen in self.frozen.logits), logits],
            [*(mask[batch.rows] for mask in self.frozen.masks), torch.ones_like(batch.rows, dtype=torch.bool)],
            self.frozen.fusion,
        )
        losses = (
            weighted_cross_entropy(fused_logits, batch),
            self._consistency(logits, batch),
            self._complementarity(features, batch),
        )
        parameters = [p for p in module.parameters() if p.requires_grad]
        fused_gradient, *gradients = (
            torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            if loss.requires_grad  # The features of a frozen encoder have no gradient.
            else (None,) * len(parameters)
            for loss in losses
        )
        for buffer, saved in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(saved)  # Undo the change of BatchNorm's statistics.
        products, norms = zip(*(_product_and_norm(fused_gradient, gradient) for gradient in gradients), strict=True)
        return torch.stack(products), torch.stack([_norm(fused_gradient), *norms])


def _layer_normalised(features: torch.Tensor) -> torch.Tensor:
    """Return features at a fixed scale; otherwise a follower could lower the bound without limit by scaling them up."""
    return F.layer_norm(features, features.shape[1:])


def _product_and_norm(left: Gradient, right: Gradient) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the inner product over the parameters that both gradients reach, and the norm of `right` on them."""
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    zero = next(a for a in left if a is not None).new_zeros(())
    return torch.stack([zero, *((a * b).sum() for a, b in pairs)]).sum(), _norm([zero, *(b for _, b in pairs)])


def _norm(gradient: Gradient) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack([part.norm() for part in gradient if part is not None]))
