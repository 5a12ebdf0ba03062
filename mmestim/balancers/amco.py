"""AMCo: logits of a dominant modality are hidden from the fused loss, class by class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from .._networks.fusion_heads import FusionHead
from .._training.losses import unimodal_cross_entropy
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training


class MixingHead(FusionHead):
    """Fusion head that sums the logits of one linear head per modality and maps them to classes by another layer."""

    def __init__(self, sizes: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(size, n_classes) for size in sizes.values())
        self.mix = nn.Linear(n_classes, n_classes)

    def heads(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the logits of each modality's head, which has a loss of its own."""
        return {name: linear(f) for (name, f), linear in zip(features.items(), self.linears, strict=True)}

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.mix(torch.stack(list(self.heads(features).values())).sum(0))

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.heads(features)[name]


class AMCo(Balancer):
    """Adaptive mask co-optimization: some logits of a dominant modality are hidden from the fused loss.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import AMCo
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=AMCo(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["lead"].shape
    (2, 2)

    Each modality has a head, and the fused logits are a linear layer of the sum of the heads' logits. A modality with
    more than its part of the certainty is dominant. Its logits are set to zero for random classes, for more classes as
    the epoch proceeds, so that the fused loss depends on the other modalities. The losses of the heads keep it trained.

    Parameters
    ----------
    sigma : float, default=0.5
        Fraction of the certainty, between two modalities, above which one counts as dominant; from 0.5 to 1. With 1
        no modality is dominant.
    eps : float, default=0.3
        Mask time at which all classes are hidden, above 0. In epoch e, counted from 0, the mask time is e / 10 after
        the first batch and grows by e / 10 with each batch. The default is BalanceBenchmark's: all classes are hidden
        from the fourth batch of the second epoch on, and earlier in later epochs.

    See Also
    --------
    mmestim.JointClassifier : Classifier that takes this as `balancer`.

    Notes
    -----
    Let o_m be the logits of the heads. The softmax over all M * C of them gives each modality a mass, and the mean mass
    over the batch decides whether the modality is dominant. At mask time t its o_m is zero for a random set of n_t
    classes in the whole batch, and the loss is::

        CE(A (sum_m o_m)) + sum_m CE(o_m),    n_t = int(C sin(pi/2 min(t, eps) / eps))

    with a C x C layer A. Nothing is hidden in prediction.

    This is BalanceBenchmark's version of the paper, with two differences: there a dominant modality stays dominant
    until the epoch ends, and the mask fits two GPUs only. The following choices are ours. Among the n modalities that a
    row has, the mass is measured by its lead, (n mass - 1) / (n - 1). The lead is from -1 to 1 for two modalities and
    reaches 1 for any number. A modality is dominant if its mean lead, over the rows that have it and another one,
    exceeds 2 sigma - 1. Nothing is hidden in rows whose modalities are all dominant.

    The method builds its own fusion head and ignores the classifier's `fusion`. A `unimodal_weight` adds further
    heads. `predict_proba_per_modality` is computed from the o_m. `balance_history_` has ``lead``, ``dominant`` (the
    fraction of batches in which each modality was dominant) and ``masked`` (the fraction of classes hidden).

    References
    ----------
    Ying Zhou, Xuefeng Liang, Shiquan Zheng, Huijun Xuan, Takatsune Kumada. Adaptive Mask Co-optimization
    for Modal Dependence in Multimodal Learning. ICASSP 2023.
    """

    def __init__(self, sigma: float = 0.5, eps: float = 0.3) -> None:
        self.sigma = sigma
        self.eps = eps

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead:
        return MixingHead(sizes, n_classes)

    def begin(self, training: Training) -> None:
        check_number("sigma", self.sigma, low=0.5, high=1)
        check_number("eps", self.eps, closed=False)
        self._generators = training.generators("AMCo")

    def begin_epoch(self, training: Training) -> None:
        self._mask_time = 0.0

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        batch, head = outputs.batch, cast(MixingHead, training.module.fusion_head)
        autocast = training.context.options.autocast
        with autocast():
            head_logits = {name: z.float() for name, z in head.heads(outputs.features).items()}
        stacked = torch.stack(list(head_logits.values()))
        leads = _leads(stacked.detach(), outputs.present, batch.weight)
        is_dominant = leads > 2 * self.sigma - 1
        n_hidden = int(math.sin(math.pi / 2 * min(self._mask_time, self.eps) / self.eps) * training.n_classes)
        self._mask_time += training.epoch / 10
        if n_hidden:
            draws = [torch.rand(training.n_classes, generator=g, device=g.device) for g in self._generators.values()]
            hidden_classes = torch.stack(draws).argsort(1) < n_hidden  # `n_hidden` classes per modality
            has_other = (outputs.present & ~is_dominant.unsqueeze(1)).any(0)
            is_hidden = is_dominant.view(-1, 1, 1) & has_other.view(1, -1, 1) & hidden_classes.unsqueeze(1)
            with autocast():
                outputs.logits = head.mix(stacked.masked_fill(is_hidden, 0.0).sum(0)).float()
        training.record("lead", leads)
        training.record("dominant", is_dominant)
        training.record("masked", torch.tensor(n_hidden / training.n_classes))
        losses = [training.joint_loss(outputs)]
        for name, z in head_logits.items():
            losses.append(unimodal_cross_entropy(z, batch, name))
        return torch.stack(losses).sum()


def _leads(logits: torch.Tensor, present: torch.Tensor, row_weights: torch.Tensor | None) -> torch.Tensor:
    """Return each modality's lead: the excess of its mass over an equal part, relative to the largest possible."""
    scores = logits.logsumexp(2).masked_fill(~present, float("-inf"))
    n_present = present.sum(0)
    shared = present & (n_present > 1)
    # A row without modalities has masses of NaN, and a row with one has no lead: `shared` excludes both.
    leads = (n_present * scores.softmax(0) - 1) / (n_present - 1).clamp(min=1)
    weights = shared.float() if row_weights is None else shared * row_weights
    return (torch.where(shared, leads, 0.0) * weights).sum(1) / torch.where(shared.any(1), weights.sum(1), 1.0)
