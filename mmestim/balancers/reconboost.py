"""ReconBoost: one modality at a time learns from the errors of the others, then all train together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from .._data.batches import Batch
from .._networks.fusion_heads import FusionHead
from .._networks.multimodal_networks import present_mask, scatter_rows
from .._training.callbacks import fill_momentum
from .._utils.validation import check_flag, check_number
from ._base import Balancer
from ._joint_training import Training
from ._scores import encode_rows


class BoostedHead(FusionHead):
    """Fusion head that sums one linear layer per modality, over those that a row has, times a trained rate."""

    def __init__(self, sizes: Mapping[str, int], n_classes: int, rate: float) -> None:
        super().__init__()
        self.names = list(sizes)
        self.linears = nn.ModuleList(nn.Linear(size, n_classes) for size in sizes.values())
        self.rate = nn.Parameter(torch.tensor(float(rate)))

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.linears[self.names.index(name)](features[name])

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.rate * torch.stack([self.unimodal(features, name).float() for name in features]).sum(0)

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        if not batch.present:
            return self.fuse(features)
        masks = torch.stack([present_mask(batch, name) for name in features])
        logits = torch.stack([self.unimodal(features, name).float() for name in features])
        return self.rate * (masks.unsqueeze(2) * logits).sum(0)


class ReconBoost(Balancer):
    """ReconBoost: modalities learn in alternation, each from the errors that the others leave, as in boosting.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import ReconBoost
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=ReconBoost(1, 1), cv=None, max_epochs=4, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["active"]
    array([[1., 0.],
           [1., 1.],
           [0., 1.],
           [1., 1.]], dtype=float32)

    In a stage one modality trains while the others are fixed, with larger weights for rows that the others
    misclassify. In the rectification epochs after it, all modalities train together by the fused loss. The next stage
    belongs to the next modality, in alphabetical order, and after the last one to the first again.

    Parameters
    ----------
    stage_epochs : int, default=4
        Number of epochs in which a modality trains alone, at least 1.
    rectify_epochs : int, default=4
        Number of rectification epochs after each stage, at least 0.
    ce_weight : float, default=5.0
        Weight w1 of a modality's own cross-entropy, above 0.
    residual_weight : float, default=1.0
        Amount w2 by which that weight decreases in rows that the others classify correctly, from 0 to `ce_weight`.
    agreement : float, default=0.5
        Weight alpha of the distance to the probabilities of the modality of the previous stage, at least 0.
    detach_agreement : bool, default=False
        Whether that distance has no gradient, as in the released code. It then affects only the reported training
        loss.
    rate : float, default=1.0
        Initial value of the boosting rate, above 0. The fused loss trains it.

    See Also
    --------
    MLA : Modalities take turns in every batch.

    Notes
    -----
    The head replaces `fusion`: o = rate * sum_m o_m, with o_m = W_m z_m + b_m, over the modalities that a row has. In
    the stage of m, let p_m = softmax(o_m), C the number of classes, and q = softmax(rate * sum_{j != m} o_j) the
    probabilities of the others. The loss of a row is

    -(w1 - w2 q[y]) log p_m[y] / C + alpha * mean_c (p_m[c] - p_previous[c])^2,

    and in rectification it is the cross-entropy of o. This is the paper's method in the form of the released code, and
    the defaults are the code's values for CREMA-D. The first stage has no agreement term. The released agreement has no
    gradient, because both sides are detached.

    The following choices are ours. Each modality has a linear layer; in the release all share one head. More than two
    modalities take turns in alphabetical order, and all of them are in the ensemble from the start, as in the release
    with pretrained encoders. A row that lacks the previous modality has no agreement term, and a row without any other
    modality has a uniform q. The outputs of the others are computed in eval mode, once per stage. ``unimodal_weight``
    of the classifier adds the cross-entropy of unimodal heads to both losses.

    As in the release, each phase begins with a new optimizer, that is, without momentum. Parameters that are not in
    training have no gradient, so neither momentum nor weight decay changes them. Early stopping waits until each
    modality has had its stage, which takes (`stage_epochs` + `rectify_epochs`) * M epochs; a `ConvergenceWarning` is
    issued if `max_epochs` ends earlier. ``compile`` affects rectification and validation, not the stages.
    `balance_history_` has ``active``, 1 for the modalities in training, and ``rate``.

    References
    ----------
    C. Hua, Q. Xu, S. Bao, Z. Yang and Q. Huang, "ReconBoost: Boosting Can Achieve Modality
    Reconcilement", ICML 2024.
    """

    def __init__(
        self,
        stage_epochs: int = 4,
        rectify_epochs: int = 4,
        *,
        ce_weight: float = 5.0,
        residual_weight: float = 1.0,
        agreement: float = 0.5,
        detach_agreement: bool = False,
        rate: float = 1.0,
    ) -> None:
        self.stage_epochs = stage_epochs
        self.rectify_epochs = rectify_epochs
        self.ce_weight = ce_weight
        self.residual_weight = residual_weight
        self.agreement = agreement
        self.detach_agreement = detach_agreement
        self.rate = rate

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead:
        check_number("rate", self.rate, closed=False)
        return BoostedHead(sizes, n_classes, self.rate)

    def begin(self, training: Training) -> None:
        check_number("stage_epochs", self.stage_epochs, low=1, integer=True)
        check_number("rectify_epochs", self.rectify_epochs, integer=True)
        check_number("ce_weight", self.ce_weight, closed=False)
        check_number("residual_weight", self.residual_weight, high=self.ce_weight)
        check_number("agreement", self.agreement)
        check_flag("detach_agreement", self.detach_agreement)
        n_modalities, max_epochs = len(training.names), training.context.options.max_epochs
        needed_epochs = (self.stage_epochs + self.rectify_epochs) * n_modalities - self.rectify_epochs
        if max_epochs < needed_epochs:
            warnings.warn(
                f"max_epochs={max_epochs} ends before all {n_modalities} modalities have had their stage of "
                f"ReconBoost(stage_epochs={self.stage_epochs}, rectify_epochs={self.rectify_epochs}). Raise max_epochs "
                f"to {needed_epochs} or more, or use shorter stages.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def begin_epoch(self, training: Training) -> None:
        names, cycle_length = training.names, self.stage_epochs + self.rectify_epochs
        stage, epoch = divmod(training.epoch, cycle_length)
        self._name = names[stage % len(names)] if epoch < self.stage_epochs else None  # None in rectification
        if epoch in (0, self.stage_epochs):
            training.net.optimizer_.state.clear()
            fill_momentum(training.net.optimizer_)
        if epoch == 0:
            self._evaluate_others(training, names[(stage - 1) % len(names)] if stage else None)
        if (remaining_epochs := cycle_length * len(names) - training.epoch) > 0:
            training.net.defer_early_stopping(remaining_epochs)

    @torch.no_grad()
    def _evaluate_others(self, training: Training, previous: str | None) -> None:
        """Cache the other modalities' summed logits and the previous modality's probabilities, by row of X."""
        head, rows = _head(training), training.rows
        self._other_logits = torch.zeros(len(rows.y), training.n_classes, device=training.device)
        self._previous_proba = None
        for name in training.names:
            if name != self._name:
                features = encode_rows(training, training.module.branch(name))
                with training.context.options.autocast():
                    logits = head.unimodal({name: features}, name).float()
                present = torch.from_numpy(rows.blocks.present(name)).to(training.device)
                self._other_logits += present.unsqueeze(1) * logits
                if name == previous:
                    self._previous_proba, self._has_previous = torch.softmax(logits, dim=1), present

    def train_batch(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        training.record("active", torch.tensor([self._name in (name, None) for name in training.names]))
        training.record("rate", _head(training).rate)
        if self._name is None:
            return super().train_batch(training, batch)
        return self._train_modality(training, batch, self._name)

    def _train_modality(self, training: Training, batch: Batch, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Train one modality on one batch; return its loss and the fused logits."""
        head, modality_batch = _head(training), batch.with_modality(name)
        other_logits = head.rate.detach() * self._other_logits[batch.rows]
        training.zero_grad()
        if not modality_batch.size:
            training.step(batch)  # without gradients it changes no weight, but learning rate schedules count steps
            return other_logits.new_zeros(()), other_logits
        with training.context.options.autocast():
            features = training.module.branch(name).encode(batch).float()
            logits = head.unimodal({name: features}, name).float()
        modality_rows_other_logits = other_logits if modality_batch is batch else other_logits[batch.present[name]]
        loss = self._stage_loss(logits, modality_rows_other_logits, modality_batch)
        if training.module.unimodal_heads:
            unimodal_loss = training.unimodal_loss({name: scatter_rows(features, batch, name)}, batch)
            loss = loss + training.unimodal_weight * unimodal_loss
        loss.backward()
        training.step(batch)
        return loss.detach(), other_logits + head.rate.detach() * scatter_rows(logits.detach(), batch, name)

    def _stage_loss(self, logits: torch.Tensor, other_logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss of one modality's stage over the rows that have it."""
        weights = torch.ones_like(logits[:, 0]) if batch.weight is None else batch.weight
        other_scores = torch.softmax(other_logits, dim=1).gather(1, batch.y.unsqueeze(1)).squeeze(1)
        cross_entropies = F.cross_entropy(logits, batch.y, reduction="none") / logits.shape[1]
        loss = (weights * (self.ce_weight - self.residual_weight * other_scores) * cross_entropies).mean()
        if self._previous_proba is None or self.agreement == 0:
            return loss
        proba = torch.softmax(logits.detach() if self.detach_agreement else logits, dim=1)
        distances = (proba - self._previous_proba[batch.rows]).square().mean(1)
        has_both = self._has_previous[batch.rows]
        return loss + self.agreement * (weights * has_both * distances).sum() / has_both.sum().clamp(min=1)


def _head(training: Training) -> BoostedHead:
    """Return the fusion head of the network."""
    return cast(BoostedHead, training.module.fusion_head)
