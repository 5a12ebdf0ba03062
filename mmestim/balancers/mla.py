"""MLA: the modalities take turns at one head that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from .._data.batches import Batch
from .._networks.fusion_heads import FusionHead
from .._networks.multimodal_networks import present_mask, scatter_rows
from .._training.losses import weighted_cross_entropy
from .._utils.validation import check_choice, check_number
from ._base import Balancer
from ._joint_training import Training

_PROJECTIONS = ("owm", "none")
_WEIGHTS = ("entropy", "sum")


class SharedHead(FusionHead):
    """One linear layer for all modalities, each with a map to its width where their features differ in length."""

    fixed: torch.Tensor

    def __init__(self, sizes: Mapping[str, int], n_classes: int, weights: str | Mapping[str, float]) -> None:
        super().__init__()
        width = max(sizes.values())
        self.names, self.weights = list(sizes), weights
        if isinstance(weights, Mapping):  # On the device from the start: to copy them there at every step would wait.
            self.register_buffer("fixed", torch.tensor([float(weights[name]) for name in sizes]).unsqueeze(1))
        self.maps = nn.ModuleList(nn.Identity() if n == width else nn.Linear(n, width) for n in sizes.values())
        self.linear = nn.Linear(width, n_classes)

    def embed(self, features: torch.Tensor, name: str) -> torch.Tensor:
        """What the shared layer sees of a modality."""
        return self.maps[self.names.index(name)](features)

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.linear(self.embed(features[name], name))

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.combine({name: self.unimodal(features, name) for name in features}, None)

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        return self.combine({name: self.unimodal(features, name) for name in features}, batch)

    def combine(self, logits: Mapping[str, torch.Tensor], batch: Batch | None) -> torch.Tensor:
        """Weighted sum of the modalities' logits."""
        stacked = torch.stack([z.float() for z in logits.values()])
        return (self.shares(stacked, batch).unsqueeze(2) * stacked).sum(0)

    def present(self, batch: Batch) -> torch.Tensor:
        """1 where a row has a modality, else 0, of shape (n_modalities, n_rows)."""
        return torch.stack([present_mask(batch, name) for name in self.names]).float()

    def shares(self, logits: torch.Tensor, batch: Batch | None) -> torch.Tensor:
        """Weight of each modality in each row, 0 where it is absent; logits are of all modalities, stacked."""
        present = torch.ones_like(logits[..., 0]) if batch is None else self.present(batch)
        if self.weights == "sum":
            return present
        if isinstance(self.weights, Mapping):
            return present * self.fixed
        log_shares = torch.log_softmax(logits, dim=2)
        entropy = -(log_shares.exp() * log_shares).sum(2)
        # Not minus infinity, which gives NaN in a row that has nothing.
        return torch.softmax((-entropy).masked_fill(present == 0, -1e9), dim=0) * present


class MLA(Balancer):
    """Alternating unimodal steps through one shared head, whose gradient keeps off what it has learnt.

    In each batch every modality in turn, by name, makes a step of its own encoder and the shared head;
    the head's gradient is projected away from the features that it has seen. The prediction weighs
    the modalities of each row by how certain they are.

    Parameters
    ----------
    projection : {'owm', 'none'}, default='owm'
        Gradient of the head: projected by orthogonal weight modification, or as it is.
    weights : {'entropy', 'sum'} or dict of str to float, default='entropy'
        Weights of the modalities' logits in the prediction: by the entropy of each row's
        probabilities, all one, or these numbers, at least 0, one per modality.

    Attributes
    ----------
    projector_ : ndarray of shape (n_features, n_features)
        Matrix P behind which the head's gradient stands.

    See Also
    --------
    ReconBoost : Modalities in turn for whole epochs, each correcting the others.

    Notes
    -----
    The head takes the place of `fusion`: o_m = W z_m + b with W and b of all modalities. With r the
    mean feature of a modality in batch i of n and a = 0.1^(1 + i/n), counted from 0,

    P <- P - P r r^T P / (a + r^T P r),  P <- P / ||P||,  grad W <- grad W P,

    from P = I on, before each step but the first of all. The prediction is sum_m w_m o_m over the
    modalities that a row has, with w_m = softmax_m(-H_m) and H_m the entropy of softmax(o_m).

    This is the paper's rule in the order of the released code, which meant to take r in before it
    projects, and to divide by the norm, but never projects at all: its condition on the layer's name
    does not hold. Ours are: features of different lengths are mapped linearly to the longest; rows count
    in r by their weights; a modality that a batch lacks makes no step in it. ``unimodal_weight`` of the
    classifier adds the cross-entropy of an own head to each modality's loss.

    Encoders without a gradient are left alone by the optimizer, momentum and weight decay included;
    the head makes one step per modality. Dividing P by its norm damps the head's gradient, which Adam
    undoes, while P's directions stay. ``compile`` does not reach the steps, only the validation.
    `balance_history_` has ``weight``, the mean weight of each modality over its rows.

    References
    ----------
    X. Zhang, J. Yoon, M. Bansal and H. Yao, "Multimodal Representation Learning by Alternating Unimodal
    Adaptation", CVPR 2024.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import MLA
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=MLA(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balancer_.projector_.shape
    (64, 64)
    """

    def __init__(self, projection: str = "owm", *, weights: str | Mapping[str, float] = "entropy") -> None:
        self.projection = projection
        self.weights = weights

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead:
        check_choice("projection", self.projection, _PROJECTIONS)
        if isinstance(self.weights, Mapping):
            if set(self.weights) != set(sizes):
                raise ValueError(f"weights={dict(self.weights)!r} must have one weight for each of {list(sizes)}.")
            for name, weight in self.weights.items():
                check_number(f"weights[{name!r}]", weight)
            if not any(self.weights.values()):
                raise ValueError(f"weights={dict(self.weights)!r} must have a weight above 0.")
        else:
            check_choice("weights", self.weights, _WEIGHTS, ", or a dict of one number per modality")
        weights = dict(self.weights) if isinstance(self.weights, Mapping) else self.weights
        return SharedHead(sizes, n_classes, weights)

    def begin(self, training: Training) -> None:
        width = _head(training).linear.in_features
        self.projector_ = torch.eye(width, device=training.device)
        self._n_batches = len(training.rows.epoch(training.context.options.batch_size))
        self._is_first = True

    def begin_epoch(self, training: Training) -> None:
        self._batch = 0

    def train_batch(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        head = _head(training)
        loss, logits = torch.zeros((), device=training.device), {}
        for name in training.names:
            if not len(batch.x[name]):
                logits[name] = torch.zeros(batch.size, training.n_classes, device=training.device)
                continue
            training.zero_grad()
            own, z, seen = self._forward(training, batch, name)
            own.backward()
            if self.projection == "owm":
                self._project(head.linear.weight, seen.detach(), batch.with_modality(name).weight)
            training.step(batch)
            loss, logits[name] = loss + own.detach(), scatter_rows(z.detach(), batch, name)
        self._batch += 1
        stacked = torch.stack(list(logits.values()))
        shares = head.shares(stacked, batch)
        training.record("weight", shares.sum(1) / head.present(batch).sum(1).clamp(min=1))
        return loss, (shares.unsqueeze(2) * stacked).sum(0)

    def _forward(self, training, batch, name):
        """Loss of one modality, its logits, and its features as the head sees them."""
        branch, having = training.module.branch(name), batch.with_modality(name)
        with training.context.options.autocast():
            features = branch.encode(batch).float()
            seen = _head(training).embed(features, name)
            z = _head(training).linear(seen).float()
        loss = weighted_cross_entropy(z, having)
        if training.module.unimodal_heads:
            own = training.unimodal_loss({name: scatter_rows(features, batch, name)}, batch)
            loss = loss + training.unimodal_weight * own
        return loss, z, seen.float()

    def _project(self, weight, seen, row_weight):
        """Take the mean feature into P, and put P behind the gradient of the head's weights."""
        if self._is_first:
            self._is_first = False
            return
        if row_weight is None:
            mean = seen.mean(0)
        else:
            mean = (row_weight.unsqueeze(1) * seen).sum(0) / row_weight.sum()
        damping = 0.1 ** (1 + self._batch / self._n_batches)
        along = self.projector_ @ mean
        # P is positive definite: below zero is rounding, which a small divisor would blow up.
        projector = self.projector_ - torch.outer(along, along) / (damping + (mean @ along).clamp(min=0))
        self.projector_ = projector / torch.linalg.matrix_norm(projector)
        weight.grad.copy_(weight.grad @ self.projector_)


def _head(training: Any) -> SharedHead:
    return cast(SharedHead, training.module.fusion_head)
