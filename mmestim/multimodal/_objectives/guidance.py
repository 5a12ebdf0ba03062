"""Guidance of a follower by frozen modalities: two unsupervised losses and their adaptive weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..._data.batches import Batch
from ..._data.folds import PADDING, FoldRows, fold_mean, only_fold
from ..._distributed.exchange import average
from ..._networks.multimodal_networks import fuse
from ..._training.devices import seed_for, seeded
from .._cross_fitting.branch_training import FoldObjective
from .._cross_fitting.fusion_weights import fit_fusion_weights, fused_log_proba
from .._cross_fitting.outputs import BranchOutputs
from ..fit_context import FitContext
from .mutual_information import CLUB, stacked_clubs

# Rules by which the weights adapt.
GuidanceRule = Literal["validated", "aligned", "dynamic"]

# Rows, batches and fraction of an epoch by which its weights are judged at most, beyond one batch.
_JUDGED_ROWS, _JUDGED_BATCHES, _JUDGED_FRACTION = 512, 8, 0.25

_EPS = 1e-8

Gradient = Sequence[torch.Tensor | None]


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return the Jensen-Shannon divergence of each row, in nats, between 0 and ln 2 (UDI, eq. 4)."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean)).sum(-1)


def guidance_weights(alignment: torch.Tensor) -> torch.Tensor:
    """Return the weights of both losses: their fractions of the positive alignments (UDI, eq. 15-16)."""
    positive = alignment.relu()
    return positive / (positive.sum() + _EPS)


class FrozenBranches:
    """Outputs of the frozen modalities on the rows of the fit, computed once for all epochs.

    Predictions on held-out rows are those of networks that have not seen the row.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    fusion : {'weighted', 'sum', 'mean'}
        Rule of fusion.
    """

    def __init__(self, context: FitContext, fusion: str) -> None:
        self.context, self.fusion = context, fusion
        self.outputs: list[BranchOutputs] = []
        self.features: list[torch.Tensor] = []
        self.weights: np.ndarray | None = None

    def add(self, outputs: BranchOutputs) -> None:
        """Add the outputs of a frozen modality, with features."""
        self.outputs.append(outputs)
        self.features.append(_layer_normalised(cast(torch.Tensor, outputs.features)))
        if self.fusion == "weighted":
            self.weights = fit_fusion_weights(self.outputs, self.context.rows, self.context.seed_for("fusion rows"))
        self.log_proba = fused_log_proba(self.outputs, self.fusion, self.weights)
        masks = torch.stack([branch.is_present for branch in self.outputs])
        self.present = masks.any(0)
        # Means need no mask if every row has every modality.
        self.is_partial = not bool(masks[:, self.context.train.rows.to(masks.device)].all())

    def fused_with(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return fused logits of frozen modalities and a follower, whose logits belong to `rows`."""
        weights = None
        if self.weights is not None:
            weights = torch.tensor([*self.weights, 1.0], dtype=torch.float32, device=logits.device)
        flat = rows.flatten()
        frozen_log_proba = [branch.log_proba[flat] for branch in self.outputs]
        masks = [branch.is_present[flat] for branch in self.outputs]
        everywhere = torch.ones_like(flat, dtype=torch.bool)
        follower_log_proba = torch.log_softmax(logits.flatten(0, 1), dim=1)
        fused = fuse([*frozen_log_proba, follower_log_proba], [*masks, everywhere], self.fusion, weights)
        return fused.view(logits.shape)

    def row_mask(self, mask: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """Return the mask of the rows of a batch, or None if all rows count."""
        is_padded = min(batch.counts) < batch.rows.shape[1]
        if self.is_partial:
            return mask[batch.rows] & (batch.rows != PADDING)
        return batch.rows != PADDING if is_padded else None


class Guidance(FoldObjective):
    """Objective of a follower: cross-entropy + a_con * consistency + a_com * complementarity (UDI, eq. 12).

    Parameters
    ----------
    frozen : FrozenBranches
        Outputs of the modalities that guide it.
    rule : str, pair of float or ndarray of shape (n_epochs, 2)
        Rule by which the weights adapt, two fixed weights, or the weights of each epoch.
    seed : int
        Seed of the networks that estimate mutual information.
    held_out : FoldRows
        Rows by which the rule ``'validated'`` judges.
    """

    state_attributes = ("weights", "records", "clubs", "club_optimizer")

    def __init__(self, frozen: FrozenBranches, rule: Any, seed: int, held_out: FoldRows) -> None:
        self.frozen, self.rule, self.seed, self.held_out = frozen, rule, seed, held_out
        self.weights = (0.0, 0.0)
        self.records: list[dict[str, np.ndarray]] = []

    def begin(self, net: Any) -> None:
        module = _plain_module(net)
        self.clubs = nn.ModuleList()  # For each step of a batch, the bounds with all frozen modalities.
        if isinstance(self.rule, str) or np.any(np.asarray(self.rule)[..., 1] > 0):
            with seeded(self.seed, net.options.device):
                per_fold = [
                    [CLUB(features.shape[-1], module.embedding_dim) for features in self.frozen.features]
                    for _ in range(module.n_folds)
                ]
            for fold in module.steps():
                stacked = per_fold if fold is None else [per_fold[fold]]
                self.clubs.append(nn.ModuleList(stacked_clubs(clubs) for clubs in zip(*stacked, strict=True)))
            self.clubs.to(net.options.device)
            self.club_optimizer = torch.optim.Adam(self.clubs.parameters(), lr=1e-3, fused=True)

    def begin_epoch(self, net: Any, epoch: list[torch.Tensor]) -> None:
        record = {}
        if isinstance(self.rule, str):
            alignment, norms = self._judge(net, epoch)
            is_ratio = self.rule != "validated"
            self.weights = tuple((guidance_weights(alignment) if is_ratio else alignment.relu()).tolist())
            record = {"alignment": alignment.cpu().numpy(), "gradient_norm": norms.cpu().numpy()}
        else:
            fixed = np.asarray(self.rule, dtype=float)
            self.weights = tuple((fixed if fixed.ndim == 1 else fixed[len(self.records)]).tolist())
        self.records.append({"weights": np.array(self.weights), **record})

    def fold_losses(self, net: Any, output: Any, batch: Batch, fold: int | None) -> torch.Tensor:
        """Return the loss of each fold of a batch, after one step of the networks of the bound."""
        logits, features = output
        if self.clubs:
            self._fit_clubs(features.detach(), batch, fold)
        loss = super().fold_losses(net, output, batch, fold)
        consistency, complementarity = self.weights
        if consistency:
            loss = loss + consistency * self._consistency(logits, batch)
        if complementarity:
            loss = loss + complementarity * self._complementarity(features, batch, fold)
        return loss

    def history(self) -> dict[str, np.ndarray]:
        """Return the records as arrays with one row per epoch."""
        return {key: np.stack([record[key] for record in self.records]) for key in self.records[0]}

    def _consistency(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the mean divergence of each fold from the fused prediction of the frozen modalities."""
        divergence = jensen_shannon(self.frozen.log_proba[batch.rows], torch.log_softmax(logits, dim=-1))
        return fold_mean(divergence, batch, self.frozen.row_mask(self.frozen.present, batch))

    def _complementarity(self, features: torch.Tensor, batch: Batch, fold: int | None) -> torch.Tensor:
        """Return the bound of mutual information of each fold, averaged over the frozen modalities."""
        features = _layer_normalised(features)
        bounds = [club(frozen, features, mask) for club, frozen, mask in self._frozen_pairs(batch, fold)]
        return torch.stack(bounds).mean(0)

    def _frozen_pairs(self, batch: Batch, fold: int | None) -> Iterator[tuple[CLUB, torch.Tensor, torch.Tensor | None]]:
        """Yield, for each frozen modality, its bound, the features of the same folds, and the mask of its rows."""
        folds = torch.arange(len(batch.rows)) if fold is None else torch.tensor([fold])
        clubs = cast(nn.ModuleList, self.clubs[fold or 0])
        for club, features, outputs in zip(clubs, self.frozen.features, self.frozen.outputs, strict=True):
            fold_features = features[batch.rows, folds.to(features.device).unsqueeze(1)]
            yield cast(CLUB, club), fold_features, self.frozen.row_mask(outputs.is_present, batch)

    def _fit_clubs(self, features: torch.Tensor, batch: Batch, fold: int | None) -> None:
        """Fit the networks of the bounds by one step."""
        features = _layer_normalised(features)
        self.club_optimizer.zero_grad()
        pairs = self._frozen_pairs(batch, fold)
        losses = [club.fitting_loss(frozen, features, mask).sum() for club, frozen, mask in pairs]
        cast(torch.Tensor, sum(losses)).backward()
        self.club_optimizer.step()

    def _judge(self, net: Any, epoch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the alignment of both guiding losses with the fused loss, and the norms of the three gradients.

        Gradients of all folds together count as one.
        """
        n_folds = len(epoch[0])
        if self.rule == "validated":
            generator = torch.Generator().manual_seed(seed_for(self.seed, "judged rows", str(len(self.records))))
            # Half of the rows are training rows, the other half held-out rows.
            n_epoch_rows = sum(rows.shape[1] for rows in epoch)
            n_judged = min(_JUDGED_ROWS // n_folds, max(epoch[0].shape[1], int(_JUDGED_FRACTION * n_epoch_rows)))
            n_rows = max(2, n_judged // 2)
            guided = net.train_rows.sample(n_rows, generator)
            fused = self.held_out.sample(n_rows, generator)
            products, norms = self._gradient_products(net, guided, fused if fused.shape[1] > 1 else guided)
            return products / (norms[0] * norms[1:] + _EPS), norms
        n_batches = 1
        if self.rule == "aligned":
            most = int(min(_JUDGED_BATCHES, _JUDGED_ROWS // epoch[0].numel(), _JUDGED_FRACTION * len(epoch)))
            n_batches = max(1, most)
        judged = [self._gradient_products(net, rows, rows) for rows in epoch[:n_batches]]
        products, norms = (torch.stack(values) for values in zip(*judged, strict=True))
        if self.rule == "aligned":
            products = products / (norms[:, :1] * norms[:, 1:] + _EPS)
        return products.mean(0), norms.mean(0)

    def _gradient_products(
        self, net: Any, guided_rows: torch.Tensor, fused_rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return products of the fused loss's gradient with those of both losses, and three norms (eq. 13-14)."""
        module = _plain_module(net)  # A compiled module cannot give three gradients of one forward pass.
        buffers = [buffer.clone() for buffer in module.buffers()]
        module.train()
        parameters = [p for p in module.parameters() if p.requires_grad]
        gradients: list[list[torch.Tensor | None]] = [[None] * len(parameters) for _ in range(3)]
        guided, fused = net.train_rows.batch(guided_rows, training=True), None
        if fused_rows is not guided_rows:
            fused = self.held_out.batch(fused_rows, training=True)
        for fold in module.steps():
            part = guided if fold is None else only_fold(guided, fold)
            with net.options.autocast():
                output = module(part, fold=fold)
            fused_part, fused_output = part, output
            if fused is not None:
                fused_part = fused if fold is None else only_fold(fused, fold)
                if fused_part.rows.shape[1] < 2:  # BatchNorm cannot train on one row.
                    continue
                with net.options.autocast():
                    fused_output = module(fused_part, fold=fold)
            fused_logits = self.frozen.fused_with(fused_output[0], fused_part.rows)
            losses = (
                super().fold_losses(net, (fused_logits,), fused_part, fold),
                self._consistency(output[0], part),
                self._complementarity(output[1], part, fold),
            )
            for total, loss in zip(gradients, losses, strict=True):
                if not loss.requires_grad:  # The features of a frozen encoder have no gradient.
                    continue
                parts = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
                for number, gradient in enumerate(parts):
                    if gradient is not None:
                        earlier = total[number]
                        total[number] = gradient if earlier is None else earlier + gradient
        for buffer, saved in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(saved)  # Undo the change of BatchNorm's statistics.
        fused_gradient, *others = [average(gradient, parameters) for gradient in gradients]
        products, norms = zip(*(_product_and_norm(fused_gradient, gradient) for gradient in others), strict=True)
        return torch.stack(products), torch.stack([_norm(fused_gradient), *norms])


def _plain_module(net: Any) -> Any:
    return getattr(net.module_, "_orig_mod", net.module_)


def _layer_normalised(features: torch.Tensor) -> torch.Tensor:
    """Return features at a fixed scale; otherwise a follower could lower the bound without limit by scaling them up."""
    return F.layer_norm(features, features.shape[-1:])


def _product_and_norm(left: Gradient, right: Gradient) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the inner product over the parameters that both gradients reach, and the norm of `right` on them."""
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    zero = next(a for a in left if a is not None).new_zeros(())
    return torch.stack([zero, *((a * b).sum() for a, b in pairs)]).sum(), _norm([zero, *(b for _, b in pairs)])


def _norm(gradient: Gradient) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack([part.norm() for part in gradient if part is not None]))
