"""QMF: modalities are weighted by the energy of their logits, trained to rank rows by their difficulty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import Batch
from .._networks.fusion_heads import FusionHead
from .._networks.multimodal_networks import present_mask
from .._training.losses import weighted_cross_entropy
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
        return self._weighted_logits(features).sum(0)

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        if not batch.present:
            return self.fuse(features)
        masks = torch.stack([present_mask(batch, name) for name in features])
        return (masks.unsqueeze(2) * self._weighted_logits(features)).sum(0)

    def _weighted_logits(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return each modality's logits times its confidence, of shape (n_modalities, n_rows, n_classes)."""
        logits = torch.stack([self.unimodal(features, name).float() for name in features])
        # Detached, because the fused loss must not make a modality confident.
        return self.confidence(logits.detach()).unsqueeze(2) * logits


class QMF(Balancer):
    """Quality-aware multimodal fusion: in each row the modalities are weighted by the energy of their logits.

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

    where j is the next row of the batch after i, and the first row after the last. d = |k_i - k_j| and
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

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import QMF
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=QMF(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["confidence"].shape
    (2, 2)
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
        n_rows, device = len(training.rows.y), training.device
        self._loss_sums = {name: torch.zeros(n_rows, device=device) for name in training.names}
        self._row_numbers = {name: training.rows.with_modality(name).rows.to(device) for name in training.names}

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        head, loss = cast(EnergyHead, training.module.fusion_head), training.joint_loss(outputs)
        confidences, rank_losses = [], []
        for name in training.names:
            with training.context.options.autocast():
                logits = head.unimodal(outputs.features, name).float()
            batch = outputs.batch.with_modality(name)
            if batch is not outputs.batch:
                logits = logits[outputs.batch.present[name]]
            confidence = head.confidence(logits)
            if batch.size:
                loss = loss + weighted_cross_entropy(logits, batch)
            rank_losses.append(self._rank_loss(name, logits, confidence, batch))
            confidences.append(confidence.sum() / max(1, batch.size))
        training.record("confidence", torch.stack(confidences))
        training.record("rank", torch.stack(rank_losses))
        return loss + self.rank_weight * torch.stack(rank_losses).sum()

    def _rank_loss(self, name: str, logits: torch.Tensor, confidence: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Add this batch's losses to the sums of one modality, and return its ranking loss."""
        sums = self._loss_sums[name]
        sums[batch.rows] += F.cross_entropy(logits.detach(), batch.y, reduction="none")
        low, high = sums[self._row_numbers[name]].aminmax()
        hardness = (sums[batch.rows] - low) / (high - low).clamp(min=1e-12)
        difference = hardness - _next_row(hardness)
        margin = -difference.abs() if self.released_margin else difference.abs()
        losses = (torch.sign(difference) * (confidence - _next_row(confidence)) + margin).relu()
        if batch.weight is not None:
            losses = losses * (batch.weight + _next_row(batch.weight)) / 2
        return losses.sum() / max(1, batch.size)


def _next_row(values: torch.Tensor) -> torch.Tensor:
    """Return the values of the next rows; the first row follows the last one."""
    return values.roll(-1)
