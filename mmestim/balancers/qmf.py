"""QMF: modalities count by the energy of their logits, which learns to rank rows by how hard they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

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
    """A linear layer for each modality; their sum, weighted row by row by the energy of each one's logits."""

    def __init__(self, sizes: Mapping[str, int], n_classes: int, temperature: float) -> None:
        super().__init__()
        self.names, self.temperature = list(sizes), float(temperature)
        self.linears = nn.ModuleList(nn.Linear(size, n_classes) for size in sizes.values())

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.linears[self.names.index(name)](features[name])

    def confidence(self, logits: torch.Tensor) -> torch.Tensor:
        """Energy of logits, over the temperature."""
        return logits.logsumexp(-1) / self.temperature

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._weigh(features).sum(0)

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        if not batch.present:
            return self.fuse(features)
        masks = torch.stack([present_mask(batch, name) for name in features])
        return (masks.unsqueeze(2) * self._weigh(features)).sum(0)

    def _weigh(self, features):
        logits = torch.stack([self.unimodal(features, name).float() for name in features])
        # Without gradient: a modality must not become confident for the sake of the fused loss.
        return self.confidence(logits.detach()).unsqueeze(2) * logits


class QMF(Balancer):
    """Fusion by confidence: in each row the modalities weigh as much as the energy of their logits.

    Each modality has a head and a loss of its own, and its confidences are trained to rank the rows by
    how well it has done on them so far, so that a noisy modality steps back where it is noisy.

    Parameters
    ----------
    rank_weight : float, default=1.0
        Weight of the ranking losses, at least 0.
    temperature : float, default=10.0
        What the energies are divided by, above 0.
    released_margin : bool, default=False
        Whether confidences may differ the wrong way by the margin, as in the released code, instead of
        having to differ the right way by it.

    See Also
    --------
    MLA : Weighs modalities by the entropy of their predictions, without training for it.

    Notes
    -----
    The head takes the place of `fusion`: o = sum_m c_m o_m over the modalities that a row has, with
    o_m = W_m z_m + b_m and the confidence c_m = logsumexp(o_m) / temperature, detached. The loss is

    CE(o) + sum_m CE(o_m) + rank_weight * sum_m mean_i max(0, g (c_i - c_j) + d),

    where j is the row after i in the batch, round again at its end; d = |k_i - k_j| and g = sign(k_i - k_j),
    with k the sum of a row's losses CE(o_m) over the epochs up to now, scaled to 0...1 over the training
    rows. The row that was harder so far is to get the lower confidence.

    This is the released code but for the margin d: the form is that of the correctness ranking loss,
    max(0, -g (c_i - c_j) + d) with g by successes, which the release turns round for losses without
    turning d, so that it becomes -d. Ours are: more than two modalities; rows pair among those that have
    the modality; a pair counts by the mean weight of its rows. ``unimodal_weight`` of the classifier adds
    the cross-entropy of further heads.

    `balance_history_` has ``confidence``, the mean of c_m over the rows that have the modality, and
    ``rank``, the ranking losses.

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
        self._sums = {name: torch.zeros(n_rows, device=device) for name in training.names}
        self._members = {name: training.rows.with_modality(name).rows.to(device) for name in training.names}

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        head, loss = cast(EnergyHead, training.module.fusion_head), training.joint_loss(outputs)
        confidences, ranks = [], []
        for name in training.names:
            with training.context.options.autocast():
                logits = head.unimodal(outputs.features, name).float()
            batch = outputs.batch.with_modality(name)
            if batch is not outputs.batch:
                logits = logits[outputs.batch.present[name]]
            confidence = head.confidence(logits)
            if batch.size:
                loss = loss + weighted_cross_entropy(logits, batch)
            ranks.append(self._rank(name, logits, confidence, batch))
            confidences.append(confidence.sum() / max(1, batch.size))
        training.record("confidence", torch.stack(confidences))
        training.record("rank", torch.stack(ranks))
        return loss + self.rank_weight * torch.stack(ranks).sum()

    def _rank(self, name: str, logits: torch.Tensor, confidence: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Ranking loss of one modality, once the losses of this batch are in its sums."""
        sums = self._sums[name]
        sums[batch.rows] += F.cross_entropy(logits.detach(), batch.y, reduction="none")
        low, high = sums[self._members[name]].aminmax()
        hardness = (sums[batch.rows] - low) / (high - low).clamp(min=1e-12)
        harder = hardness - _next(hardness)
        margin = -harder.abs() if self.released_margin else harder.abs()
        losses = (torch.sign(harder) * (confidence - _next(confidence)) + margin).relu()
        if batch.weight is not None:
            losses = losses * (batch.weight + _next(batch.weight)) / 2
        return losses.sum() / max(1, batch.size)


def _next(values: Any) -> Any:
    """Of each row the value of the row after it, of the last one that of the first."""
    return values.roll(-1)
