"""ReconBoost: one modality at a time learns what the others get wrong, then all are rectified."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

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
    """A linear layer for each modality; their sum, of those that a row has, times a learnt rate."""

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
    """Modalities learn in alternation, each by the errors that the others leave, as in boosting.

    In a stage one modality trains while the others stay as they are, most on rows that these get
    wrong; epochs follow in which all are rectified together by the fused loss. Then it is the
    next modality's turn, by name, and round again.

    Parameters
    ----------
    stage_epochs : int, default=4
        Epochs in which a modality trains alone, at least 1.
    rectify_epochs : int, default=4
        Epochs after them in which all train, at least 0.
    ce_weight : float, default=5.0
        Weight w1 of a modality's own cross-entropy, above 0.
    residual_weight : float, default=1.0
        How much w2 less a row counts that the others get right, from 0 to `ce_weight`.
    agreement : float, default=0.5
        Weight alpha of the distance to the probabilities of the modality that had the stage before,
        at least 0.
    detach_agreement : bool, default=False
        Whether that distance is without gradient, as in the released code: it then only shows in the
        training loss.
    rate : float, default=1.0
        First value of the boosting rate, above 0; the fused loss trains it.

    See Also
    --------
    MLA : Modalities in turn at every batch.

    Notes
    -----
    The head takes the place of `fusion`: o = rate * sum_m o_m, with o_m = W_m z_m + b_m, over the
    modalities that a row has. In the stage of m, with p_m = softmax(o_m), C classes, and
    q = softmax(rate * sum_{j != m} o_j) of the others, a row costs

    -(w1 - w2 q[y]) log p_m[y] / C + alpha * mean_c (p_m[c] - p_previous[c])^2,

    and in rectification the cross-entropy of o. This is the paper's method in the form of the released
    code, and so are its values for CREMA-D; the first stage has no agreement. The released agreement
    has no gradient, because both sides are detached.

    Ours are: a linear layer for each modality, where the release has one head that all share; more than two
    modalities, by name, with all of them in the ensemble from the start (as the
    release has it with encoders that are trained before); a row that lacks the previous modality has
    no agreement, one that has no other modality a uniform q; the others answer in eval mode, once for a
    whole stage. ``unimodal_weight`` of the classifier adds the cross-entropy of own heads to both losses.

    As in the release each phase begins with a new optimizer, that is, without momentum. What is not in
    training has no gradient, so neither momentum nor weight decay moves it. Early stopping waits until
    each modality has had its stage, which takes (`stage_epochs` + `rectify_epochs`) * M epochs; a
    `ConvergenceWarning` says where `max_epochs` ends before. ``compile`` reaches rectification and validation,
    not the stages.
    `balance_history_` has ``active``, 1 for the modalities in training, and ``rate``.

    References
    ----------
    C. Hua, Q. Xu, S. Bao, Z. Yang and Q. Huang, "ReconBoost: Boosting Can Achieve Modality
    Reconcilement", ICML 2024.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import ReconBoost
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=ReconBoost(1, 1), max_epochs=4, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["active"]
    array([[1., 0.],
           [1., 1.],
           [0., 1.],
           [1., 1.]], dtype=float32)
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
        needed = (self.stage_epochs + self.rectify_epochs) * n_modalities - self.rectify_epochs
        if max_epochs < needed:
            warnings.warn(
                f"max_epochs={max_epochs} ends before all {n_modalities} modalities have had their stage of "
                f"ReconBoost(stage_epochs={self.stage_epochs}, rectify_epochs={self.rectify_epochs}). Raise max_epochs "
                f"to {needed} or more, or use shorter stages.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def begin_epoch(self, training: Training) -> None:
        names, length = training.names, self.stage_epochs + self.rectify_epochs
        stage, epoch = divmod(training.epoch, length)
        # None in rectification.
        self._name = names[stage % len(names)] if epoch < self.stage_epochs else None
        if epoch in (0, self.stage_epochs):
            training.net.optimizer_.state.clear()
            fill_momentum(training.net.optimizer_)
        if epoch == 0:
            self._ask_others(training, names[(stage - 1) % len(names)] if stage else None)
        if (left := length * len(names) - training.epoch) > 0:
            training.net.restart_stopping(left)

    @torch.no_grad()
    def _ask_others(self, training, previous):
        """Sum of the others' logits for the training rows, and probabilities of the modality before."""
        head, rows = _head(training), training.rows
        self._others = torch.zeros(len(rows.y), training.n_classes, device=training.device)
        self._previous = None
        for name in training.names:
            if name != self._name:
                features = encode_rows(training, training.module.branch(name))
                with training.context.options.autocast():
                    logits = head.unimodal({name: features}, name).float()
                present = torch.from_numpy(rows.blocks.present(name)).to(training.device)
                self._others += present.unsqueeze(1) * logits
                if name == previous:
                    self._previous, self._has_previous = torch.softmax(logits, dim=1), present

    def train_batch(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        training.record("active", torch.tensor([self._name in (name, None) for name in training.names]))
        training.record("rate", _head(training).rate)
        if self._name is None:
            return super().train_batch(training, batch)
        return self._train_one(training, batch, self._name)

    def _train_one(self, training, batch, name):
        head, having = _head(training), batch.with_modality(name)
        others = head.rate.detach() * self._others[batch.rows]
        training.zero_grad()
        if not having.size:
            training.step(batch)  # It moves nothing, and schedules expect it.
            return others.new_zeros(()), others
        with training.context.options.autocast():
            features = training.module.branch(name).encode(batch).float()
            logits = head.unimodal({name: features}, name).float()
        loss = self._loss(logits, others if having is batch else others[batch.present[name]], having)
        if training.module.unimodal_heads:
            own = training.unimodal_loss({name: scatter_rows(features, batch, name)}, batch)
            loss = loss + training.unimodal_weight * own
        loss.backward()
        training.step(batch)
        return loss.detach(), others + head.rate.detach() * scatter_rows(logits.detach(), batch, name)

    def _loss(self, logits, others, batch):
        """The loss of one modality's stage, all of the rows that have it."""
        weight = torch.ones_like(logits[:, 0]) if batch.weight is None else batch.weight
        confidence = torch.softmax(others, dim=1).gather(1, batch.y.unsqueeze(1)).squeeze(1)
        boosting = F.cross_entropy(logits, batch.y, reduction="none") / logits.shape[1]
        loss = (weight * (self.ce_weight - self.residual_weight * confidence) * boosting).mean()
        if self._previous is None or self.agreement == 0:
            return loss
        shares = torch.softmax(logits.detach() if self.detach_agreement else logits, dim=1)
        distance = (shares - self._previous[batch.rows]).square().mean(1)
        both = self._has_previous[batch.rows]
        return loss + self.agreement * (weight * both * distance).sum() / both.sum().clamp(min=1)


def _head(training: Any) -> BoostedHead:
    return cast(BoostedHead, training.module.fusion_head)
