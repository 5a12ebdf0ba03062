"""AMCo: logits of the modality that the others lean on are hidden, class by class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from .._networks.fusion_heads import FusionHead
from .._training.losses import unimodal_cross_entropy
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training


class MixingHead(FusionHead):
    """A layer from classes to classes on the sum of linear heads, one for each modality."""

    def __init__(self, sizes: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(size, n_classes) for size in sizes.values())
        self.mix = nn.Linear(n_classes, n_classes)

    def heads(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Logits of the heads, which have losses of their own."""
        return {name: linear(f) for (name, f), linear in zip(features.items(), self.linears, strict=True)}

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.mix(torch.stack(list(self.heads(features).values())).sum(0))

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.heads(features)[name]


class AMCo(Balancer):
    """Adaptive mask co-optimization: part of what a dominant modality says is hidden from the fused loss.

    Each modality has a head; the fused logits are a linear layer of their sum. The logits of a modality
    with more than its share of certainty are set to zero at random classes, more of them as the epoch goes
    on, so that the fused loss has to be met by the others; the heads' own losses keep it trained.

    Parameters
    ----------
    sigma : float, default=0.5
        Share of the certainty, of two modalities, above which one counts as dominant; from 0.5 to 1, where
        none does.
    eps : float, default=0.3
        Mask time at which all classes are hidden, above 0. In epoch e, counted from 0, it is e / 10 after
        the first batch of the epoch and grows by as much with each. The default is BalanceBenchmark's:
        all are hidden from the fourth batch of the second epoch on, and sooner in later ones.

    See Also
    --------
    mmestim.JointClassifier : Takes it as `balancer`.

    Notes
    -----
    With o_m the logits of the heads, the softmax over all M * C of them gives each modality a mass, whose
    mean over the batch says whether it is dominant. At mask time t a random set of
    int(C sin(pi/2 min(t, eps) / eps)) classes of its o_m is zero for the whole batch. The loss is
    CE(A (sum_m o_m)) + sum_m CE(o_m) with a C x C layer A; nothing is hidden in prediction.

    So far BalanceBenchmark's version of the paper, but that there a modality once dominant stays so until
    the epoch ends, and the mask fits two GPUs only. Ours is what follows. Among the n modalities that a row
    has, mass is measured by its lead, (n mass - 1) / (n - 1), which is -1 to 1 for two and reaches 1 for any
    number; dominant are those whose mean lead, over the rows that have them and another, is above
    2 sigma - 1. Nothing is hidden in rows that have no other modality than dominant ones.

    The method brings its own fusion head: `fusion` of the classifier has no say, and a `unimodal_weight`
    adds heads beside these. `predict_proba_per_modality` gives the o_m. `balance_history_` has ``lead``,
    ``dominant`` (how often each modality was) and ``masked`` (the share of classes hidden).

    References
    ----------
    Ying Zhou, Xuefeng Liang, Shiquan Zheng, Huijun Xuan, Takatsune Kumada. Adaptive Mask Co-optimization
    for Modal Dependence in Multimodal Learning. ICASSP 2023.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import AMCo
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=AMCo(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["lead"].shape
    (2, 2)
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
        self._time = 0.0

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        batch, head, autocast = outputs.batch, cast(Any, training.module.fusion_head), training.context.options.autocast
        with autocast():
            own = {name: z.float() for name, z in head.heads(outputs.features).items()}
        logits = torch.stack(list(own.values()))
        leads = _leads(logits.detach(), outputs.present, batch.weight)
        dominant = leads > 2 * self.sigma - 1
        n_hidden = int(math.sin(math.pi / 2 * min(self._time, self.eps) / self.eps) * training.n_classes)
        self._time += training.epoch / 10
        if n_hidden:
            draws = [torch.rand(training.n_classes, generator=g, device=g.device) for g in self._generators.values()]
            chosen = torch.stack(draws).argsort(1) < n_hidden  # that many for each modality
            has_other = (outputs.present & ~dominant.unsqueeze(1)).any(0)
            hidden = dominant.view(-1, 1, 1) & has_other.view(1, -1, 1) & chosen.unsqueeze(1)
            with autocast():
                outputs.logits = head.mix(logits.masked_fill(hidden, 0.0).sum(0)).float()
        training.record("lead", leads)
        training.record("dominant", dominant)
        training.record("masked", torch.tensor(n_hidden / training.n_classes))
        losses = [training.joint_loss(outputs)]
        for name, z in own.items():
            losses.append(unimodal_cross_entropy(z, batch, name))
        return torch.stack(losses).sum()


def _leads(logits: torch.Tensor, present: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """How far each modality's mass is above an equal share, as a part of what it could be."""
    scores = logits.logsumexp(2).masked_fill(~present, float("-inf"))
    count = present.sum(0)
    shared = present & (count > 1)
    # A row with nothing has masses of NaN, and one with a single modality no lead; neither is counted.
    leads = (count * scores.softmax(0) - 1) / (count - 1).clamp(min=1)
    by = shared.float() if weight is None else shared * weight
    return (torch.where(shared, leads, 0.0) * by).sum(1) / torch.where(shared.any(1), by.sum(1), 1.0)
