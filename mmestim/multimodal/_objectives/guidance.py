"""How frozen modalities guide a follower: the two unsupervised losses and the weights they adapt."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..._data.batches import Batch, Rows
from ..._networks.multimodal_networks import Branch, fuse
from ..._training.devices import seeded
from ..._training.loop import Objective
from ..._training.losses import weighted_cross_entropy
from .mutual_information import CLUB, masked_mean

# Mini-batches that judge an epoch's weights, and whether alignment is a cosine or a plain product.
GUIDANCE_RULES = {"dynamic": (1, False), "aligned": (8, True)}

_EPS = 1e-8


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence of each row, in nats: between 0 and ln 2 (UDI, eq. 4)."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean)).sum(1)


def guidance_weights(alignment: torch.Tensor) -> torch.Tensor:
    """Weights of the two losses from their alignments: negative ones cut, then shares (UDI, eq. 15-16)."""
    cut = alignment.relu()
    return cut / (cut.sum() + _EPS)


class Frozen:
    """Outputs on the training rows of the branches that are done, computed once for all epochs."""

    def __init__(self, rows: Rows, fusion: str) -> None:
        self.rows, self.fusion = rows, fusion
        self.logits: list[torch.Tensor] = []
        self.features: list[torch.Tensor] = []
        self.masks: list[torch.Tensor] = []

    @torch.no_grad()
    def add(self, branch: Branch, options: Any) -> None:
        """Freeze a branch: from here on only its outputs are used."""
        branch.eval()
        rows = self.rows.with_modality(branch.name)
        n_rows, device = len(rows.y), options.device
        logits = torch.zeros(n_rows, branch.n_classes, device=device)
        features = torch.zeros(n_rows, branch.embedding_dim, device=device)
        mask = torch.zeros(n_rows, dtype=torch.bool, device=device)
        for part in rows.epoch(rows.eval_batch_size(options.batch_size)):
            batch = rows.batch(part)
            with options.autocast():
                logits[batch.rows], features[batch.rows] = branch(batch)
            mask[batch.rows] = True
        self.logits.append(logits)
        self.features.append(_normalised(features))
        self.masks.append(mask)
        self.log_probs = torch.log_softmax(fuse(self.logits, self.masks, self.fusion), dim=1)
        self.present = torch.stack(self.masks).any(0)
        # Where every row has everything, means need no mask.
        self.is_partial = not bool(torch.stack(self.masks)[:, self.rows.rows.to(device)].all())

    def mask(self, which: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
        """Rows of a batch that count, or None where all do."""
        return which[rows] if self.is_partial else None


class Guidance(Objective):
    """A follower's objective: cross-entropy + a_con * consistency + a_com * complementarity (UDI, eq. 12).

    Parameters
    ----------
    frozen : Frozen
        What the modalities before it give.
    rule : str or pair of float
        How the weights adapt, or the weights themselves.
    seed : int
        Seed of the networks that estimate mutual information.
    """

    state_attributes = ("weights", "records", "clubs", "club_optimizer")

    def __init__(self, frozen: Frozen, rule: Any, seed: int) -> None:
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
            n_batches, cosine = GUIDANCE_RULES[self.rule]
            judged = [self._gradients(net, rows) for rows in epoch[:n_batches]]
            products, norms = (torch.stack(values).mean(0) for values in zip(*judged, strict=True))
            if cosine:
                products = torch.stack([p / (n[0] * n[1:] + _EPS) for p, n in judged]).mean(0)
            self.weights = tuple(guidance_weights(products).tolist())
            record = {"alignment": products.cpu().numpy(), "gradient_norm": norms.cpu().numpy()}
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
        """The records as arrays with one row per epoch."""
        return {key: np.stack([record[key] for record in self.records]) for key in self.records[0]}

    def _consistency(self, logits, batch):
        divergence = jensen_shannon(self.frozen.log_probs[batch.rows], torch.log_softmax(logits, dim=1))
        if batch.weight is not None:
            divergence = divergence * batch.weight
        return masked_mean(divergence, self.frozen.mask(self.frozen.present, batch.rows))

    def _complementarity(self, features, batch):
        features = _normalised(features)
        bounds = [club(f, features, mask) for club, f, mask in self._references(batch)]
        return torch.stack(bounds).mean()

    def _references(self, batch):
        for club, features, mask in zip(self.clubs, self.frozen.features, self.frozen.masks, strict=True):
            yield club, features[batch.rows], self.frozen.mask(mask, batch.rows)

    def _fit_clubs(self, features, batch):
        features = _normalised(features)
        self.club_optimizer.zero_grad()
        sum(club.fitting_loss(f, features, mask) for club, f, mask in self._references(batch)).backward()
        self.club_optimizer.step()

    def _gradients(self, net, rows):
        """Products of the fused loss's gradient with those of both losses, and the three norms (eq. 13-14)."""
        # Three gradients of one pass are more than a compiled module gives.
        module = getattr(net.module_, "_orig_mod", net.module_)
        buffers = [buffer.clone() for buffer in module.buffers()]
        module.train()
        batch = net.train_rows.batch(rows, training=True)
        with net.options.autocast():
            logits, features = module(batch)
        fused = fuse(
            [*(z[batch.rows] for z in self.frozen.logits), logits],
            [*(mask[batch.rows] for mask in self.frozen.masks), torch.ones_like(batch.rows, dtype=torch.bool)],
            self.frozen.fusion,
        )
        losses = (
            weighted_cross_entropy(fused, batch),
            self._consistency(logits, batch),
            self._complementarity(features, batch),
        )
        parameters = [p for p in module.parameters() if p.requires_grad]
        fused_grad, *guiding = (
            torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            if loss.requires_grad  # A frozen encoder's features have none.
            else (None,) * len(parameters)
            for loss in losses
        )
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)  # To judge must not move the statistics of BatchNorm.
        products, norms = zip(*(_product(fused_grad, grad) for grad in guiding), strict=True)
        return torch.stack(products), torch.stack([_norm(fused_grad), *norms])


def _normalised(features):
    """Features as the bound sees them; at free scale a follower can lower it without end by growing."""
    return F.layer_norm(features, features.shape[1:])


def _product(left, right):
    """Inner product over the tensors that both gradients reach, and the norm of the second."""
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    zero = next(a for a in left if a is not None).new_zeros(())
    return torch.stack([zero, *((a * b).sum() for a, b in pairs)]).sum(), _norm([zero, *(b for _, b in pairs)])


def _norm(tensors):
    return torch.linalg.vector_norm(torch.stack([t.norm() for t in tensors if t is not None]))
