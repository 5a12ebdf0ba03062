"""QMF: modalities are weighted by the energy of their logits, trained to rank rows by their difficulty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import Batch
from .._networks.fusion_heads import FusionHead
from .._networks.multimodal_networks import present_mask
from .._utils.validation import check_flag, check_number
from ._base import Balancer
from ._joint_training import Outputs, Training


class EnergyHead(FusionHead):
    """Fusion head that sums one linear layer per modality, weighted in each row by the energy of its logits."""

    def __init__(self, sizes: Mapping[str, int], n_classes: int, temperature: float) -> None:
        super().__init__()
        self.names, self.temperature = list(sizes), float(temperature)
        self.linears = nn.ModuleList(nn.Linear(size, n_classes) for size in sizes.values())

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.linears[self.names.index(name)](features[name])

    def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the energy of logits, divided by the temperature."""
        return logits.logsumexp(-1) / self.temperature

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.combine(self.stacked_logits(features), None)

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        present = torch.stack([present_mask(batch, name) for name in features]) if batch.present else None
        return self.combine(self.stacked_logits(features), present)

    def stacked_logits(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return each modality's logits, of shape (n_modalities, n_rows, n_classes)."""
        return torch.stack([self.unimodal(features, name).float() for name in features])

    def combine(self, logits: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
        """Return fused logits, in which each row's present modalities count by their confidence; None if all are."""
        # Detached, because the fused loss must not make a modality confident.
        confidence = self.confidence(logits.detach())
        return ((confidence if present is None else confidence * present).unsqueeze(2) * logits).sum(0)


class QMF(Balancer):
    """Quality-aware multimodal fusion: in each row the modalities are weighted by the energy of their logits.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import QMF
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=QMF(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["confidence"].shape
    (2, 2)

    Each modality has its own head and loss. Its confidences are trained to rank the rows by its losses on them so far,
    so that a modality gets a small weight in the rows where it is noisy.

    Parameters
    ----------
    rank_weight : float, default=1.0
        Weight of the ranking losses, at least 0.
    temperature : float, default=10.0
        Divisor of the energies, above 0.
    released_margin : bool, default=False
        Whether confidences may be in the wrong order by up to the margin, as in the released code. Otherwise they have
        to be in the right order by at least the margin.

    See Also
    --------
    MLA : Weights modalities by the entropy of their predictions, without training for it.

    Notes
    -----
    The head replaces `fusion`: o = sum_m c_m o_m over the modalities that a row has, with o_m = W_m z_m + b_m and the
    confidence c_m = logsumexp(o_m) / temperature, detached. The loss is

    CE(o) + sum_m CE(o_m) + rank_weight * sum_m mean_i max(0, g (c_i - c_j) + d),

    where j is the next row of the batch after i, and the first row after the last. d = abs(k_i - k_j) and
    g = sign(k_i - k_j), with k the sum of a row's losses CE(o_m) over the epochs so far, scaled to 0...1 over the
    training rows. The row that has been harder so far should get the lower confidence.

    This follows the released code except for the margin d. The form is the correctness ranking loss,
    max(0, -g (c_i - c_j) + d) with g by successes. The release changes the sign of g because it ranks by losses, but
    not the sign of d, which thus becomes -d. The following choices are ours: more than two modalities; pairs are among
    the rows that have the modality; a pair counts by the mean weight of its rows. ``unimodal_weight`` of the
    classifier adds the cross-entropy of further heads.

    `balance_history_` has ``confidence``, the mean of c_m over the rows that have the modality, and ``rank``, the
    ranking losses.

    References
    ----------
    Q. Zhang, H. Wu, C. Zhang, Q. Hu, H. Fu, J. T. Zhou and X. Peng, "Provable Dynamic Fusion for
    Low-Quality Multimodal Data", ICML 2023.

    J. Moon, J. Kim, Y. Shin and S. Hwang, "Confidence-Aware Learning for Deep Neural Networks", ICML 2020.
    """

    def __init__(self, rank_weight: float = 1.0, *, temperature: float = 10.0, released_margin: bool = False) -> None:
        self.rank_weight = rank_weight
        self.temperature = temperature
        self.released_margin = released_margin

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead:
        check_number("temperature", self.temperature, closed=False)
        return EnergyHead(sizes, n_classes, self.temperature)

    def begin(self, training: Training) -> None:
        check_number("rank_weight", self.rank_weight)
        check_flag("released_margin", self.released_margin)
        # Infinite in rows that lack the modality, which the lowest sum leaves out.
        shape = len(training.names), len(training.rows.y)
        self._loss_sums = torch.full(shape, torch.inf, device=training.device)
        for name, sums in zip(training.names, self._loss_sums, strict=True):
            sums[training.rows.with_modality(name).rows.to(training.device)] = 0
        self._highest = torch.zeros(len(training.names), device=training.device)

    def begin_epoch(self, training: Training) -> None:
        # An epoch visits each row once. The lowest sum is thus the lower of two: that of the rows before a position in
        # the epoch, and that of the rows from there on, which are the same as at the start. No step scans all rows.
        sums = self._loss_sums[:, torch.cat(training.batches).to(training.device)]
        self._lowest_before = torch.full_like(self._highest, torch.inf)
        self._lowest_from = F.pad(sums.flip(1).cummin(1).values.flip(1), (0, 1), value=torch.inf)
        self._position = 0

    def end_epoch(self, training: Training) -> None:
        del self._lowest_from  # as large as the data, and of no use to a resumed fit

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        head, batch = cast(EnergyHead, training.module.fusion_head), outputs.batch
        present = outputs.present if batch.present else None
        with training.context.options.autocast():
            logits = head.stacked_logits(outputs.features)
        outputs.logits, confidence = head.combine(logits, present), head.confidence(logits)
        targets = batch.y.repeat(len(logits))
        losses = F.cross_entropy(logits.flatten(0, 1), targets, reduction="none").view_as(confidence)
        # Factors that give each modality's mean over the rows that have it.
        means = (
            torch.full_like(losses, 1 / batch.size)
            if present is None
            else present / present.sum(1, keepdim=True).clamp(min=1)
        )
        following = _following(batch, list(outputs.features))
        hardness = self._hardness(losses.detach(), batch, present)
        difference = hardness - following(hardness)
        margin = -difference.abs() if self.released_margin else difference.abs()
        ranking = (torch.sign(difference) * (confidence - following(confidence)) + margin).relu()
        training.record("confidence", (confidence * means).sum(1))
        if batch.weight is not None:
            weight = batch.weight.expand_as(losses)
            losses, ranking = losses * weight, ranking * (weight + following(weight)) / 2
        rank_losses = (ranking * means).sum(1)
        training.record("rank", rank_losses)
        return training.joint_loss(outputs) + (losses * means).sum() + self.rank_weight * rank_losses.sum()

    def _hardness(self, losses: torch.Tensor, batch: Batch, present: torch.Tensor | None) -> torch.Tensor:
        """Add this batch's losses to the sums, and return the sums scaled to 0...1 over the training rows."""
        sums = self._loss_sums[:, batch.rows] + (losses if present is None else losses * present)
        self._loss_sums[:, batch.rows] = sums
        self._position += batch.size
        self._lowest_before = torch.minimum(self._lowest_before, sums.amin(1))
        if present is not None:
            sums = torch.where(present, sums, 0.0)
        self._highest = torch.maximum(self._highest, sums.amax(1))  # exact, because sums only grow
        low = torch.minimum(self._lowest_before, self._lowest_from[:, self._position]).unsqueeze(1)
        return (sums - low) / (self._highest.unsqueeze(1) - low).clamp(min=1e-12)


def _following(batch: Batch, names: list[str]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that takes the values, of shape (n_modalities, n_rows), of each row's next row.

    The next row is among those that have the modality, and the first row follows the last one.
    """
    if not batch.present:
        return lambda values: values.roll(-1, 1)
    order = torch.arange(batch.size, device=batch.y.device).roll(-1).repeat(len(names), 1)
    for number, name in enumerate(names):
        if name in batch.present:
            order[number, batch.present[name]] = batch.present[name].roll(-1)
    return lambda values: values.gather(1, order)
