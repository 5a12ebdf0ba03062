"""MLA: the modalities train in turn with one head that they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, get_args

import torch
from torch import nn

from .._data.batches import Batch
from .._networks.fusion_heads import FusionHead
from .._networks.multimodal_networks import present_mask, scatter_rows
from .._training.losses import weighted_cross_entropy
from .._utils.validation import check_choice, check_number
from ._base import Balancer
from ._joint_training import Training

_Projection = Literal["owm", "none"]
_Weights = Literal["entropy", "sum"]


class SharedHead(FusionHead):
    """Fusion head of one linear layer for all modalities, after linear maps if their features differ in length."""

    fixed: torch.Tensor

    def __init__(self, sizes: Mapping[str, int], n_classes: int, weights: _Weights | Mapping[str, float]) -> None:
        super().__init__()
        width = max(sizes.values())
        self.names, self.weights = list(sizes), weights
        if isinstance(weights, Mapping):  # a buffer, because copying to the device in every step would block
            self.register_buffer("fixed", torch.tensor([float(weights[name]) for name in sizes]).unsqueeze(1))
        self.maps = nn.ModuleList(nn.Identity() if n == width else nn.Linear(n, width) for n in sizes.values())
        self.linear = nn.Linear(width, n_classes)

    def embed(self, features: torch.Tensor, name: str) -> torch.Tensor:
        """Map the features of a modality to the input of the shared layer."""
        return self.maps[self.names.index(name)](features)

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.linear(self.embed(features[name], name))

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.combine({name: self.unimodal(features, name) for name in features}, None)

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        return self.combine({name: self.unimodal(features, name) for name in features}, batch)

    def combine(self, logits: Mapping[str, torch.Tensor], batch: Batch | None) -> torch.Tensor:
        """Return the weighted sum of the modalities' logits."""
        stacked = torch.stack([z.float() for z in logits.values()])
        return (self.modality_weights(stacked, batch).unsqueeze(2) * stacked).sum(0)

    def present(self, batch: Batch) -> torch.Tensor:
        """Return 1 where a row has a modality and 0 elsewhere, of shape (n_modalities, n_rows)."""
        return torch.stack([present_mask(batch, name) for name in self.names]).float()

    def modality_weights(self, logits: torch.Tensor, batch: Batch | None) -> torch.Tensor:
        """Return the weight of each modality in each row, 0 where it is absent.

        Parameters
        ----------
        logits : Tensor of shape (n_modalities, n_rows, n_classes)
            Logits of all modalities.
        batch : Batch or None
            The rows; None if every row has every modality.

        Returns
        -------
        Tensor of shape (n_modalities, n_rows)
            The weights.
        """
        present = torch.ones_like(logits[..., 0]) if batch is None else self.present(batch)
        if self.weights == "sum":
            return present
        if isinstance(self.weights, Mapping):
            return present * self.fixed
        log_proba = torch.log_softmax(logits, dim=2)
        entropy = -(log_proba.exp() * log_proba).sum(2)
        # The mask is finite, because minus infinity gives NaN in a row without modalities.
        return torch.softmax((-entropy).masked_fill(present == 0, -1e9), dim=0) * present


class MLA(Balancer):
    """MLA: alternating unimodal steps through one shared head, whose gradient avoids directions already learnt.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import MLA
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=MLA(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balancers_[0].projector_.shape
    (64, 64)

    In each batch the modalities take turns, in alphabetical order: each makes one step of its own encoder and the
    shared head. The head's gradient is projected away from the features of the earlier steps. The prediction weights
    the modalities of each row by their certainty.

    Parameters
    ----------
    projection : {'owm', 'none'}, default='owm'
        Gradient of the head: projected by orthogonal weight modification, or unchanged.
    weights : {'entropy', 'sum'} or dict of str to float, default='entropy'
        Weights of the modalities' logits in the prediction: by the entropy of each row's probabilities, all 1, or the
        given numbers, at least 0, one per modality.

    Attributes
    ----------
    projector_ : ndarray of shape (n_features, n_features)
        Matrix P that projects the head's gradient.

    See Also
    --------
    ReconBoost : Modalities take turns for whole epochs, and each corrects the others.

    Notes
    -----
    The head replaces `fusion`: o_m = W z_m + b with W and b common to all modalities. With r the mean feature of a
    modality in batch i of n, counted from 0, and a = 0.1^(1 + i/n),

    P <- P - P r r^T P / (a + r^T P r),  P <- P / ||P||,  grad W <- grad W P,

    starting from P = I, before every step but the very first. The prediction is sum_m w_m o_m over the modalities that
    a row has, with w_m = softmax_m(-H_m) and H_m the entropy of softmax(o_m).

    This is the paper's rule in the order of the released code. That code is meant to update P with r before it
    projects, and to divide by the norm. It never projects, because its condition on the layer's name is never true. The
    following choices are ours. Features of different lengths are mapped linearly to the longest. Rows count in r by
    their weights. A modality that a batch lacks makes no step. ``unimodal_weight`` of the classifier adds the
    cross-entropy of a unimodal head to each modality's loss.

    The optimizer skips encoders without a gradient, including their momentum and weight decay. The head makes one step
    per modality. Dividing P by its norm shrinks the head's gradient; Adam undoes this but keeps the directions of P.
    ``compile`` affects only the validation, not the training steps. `balance_history_` has ``weight``, the mean weight
    of each modality over its rows.

    References
    ----------
    X. Zhang, J. Yoon, M. Bansal and H. Yao, "Multimodal Representation Learning by Alternating Unimodal
    Adaptation", CVPR 2024.
    """

    def __init__(self, projection: _Projection = "owm", *, weights: _Weights | Mapping[str, float] = "entropy") -> None:
        self.projection = projection
        self.weights = weights

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead:
        check_choice("projection", self.projection, get_args(_Projection))
        if isinstance(self.weights, Mapping):
            if set(self.weights) != set(sizes):
                raise ValueError(f"weights={dict(self.weights)!r} must have one weight for each of {list(sizes)}.")
            for name, weight in self.weights.items():
                check_number(f"weights[{name!r}]", weight)
            if not any(self.weights.values()):
                raise ValueError(f"weights={dict(self.weights)!r} must have a weight above 0.")
        else:
            check_choice("weights", self.weights, get_args(_Weights), ", or a dict of one number per modality")
        weights = dict(self.weights) if isinstance(self.weights, Mapping) else self.weights
        return SharedHead(sizes, n_classes, weights)

    def begin(self, training: Training) -> None:
        width = _head(training).linear.in_features
        self.projector_ = torch.eye(width, device=training.device)
        self._n_batches = len(training.rows.epoch(training.context.options.batch_size))
        self._is_first_step = True

    def begin_epoch(self, training: Training) -> None:
        self._batch_index = 0

    def train_batch(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        # The logits are those before each modality's step, and the loss is the sum over the modalities.
        head = _head(training)
        total_loss, logits = torch.zeros((), device=training.device), {}
        for name in training.names:
            if not batch.n_present(name):
                logits[name] = torch.zeros(batch.size, training.n_classes, device=training.device)
                continue
            training.zero_grad()
            loss, z, embedded = self._forward(training, batch, name)
            loss.backward()
            if self.projection == "owm":
                self._project_gradient(head.linear.weight, embedded.detach(), batch.with_modality(name).weight)
            training.step(batch)
            total_loss, logits[name] = total_loss + loss.detach(), scatter_rows(z.detach(), batch, name)
        self._batch_index += 1
        stacked = torch.stack(list(logits.values()))
        weights = head.modality_weights(stacked, batch)
        training.record("weight", weights.sum(1) / head.present(batch).sum(1).clamp(min=1))
        return total_loss, (weights.unsqueeze(2) * stacked).sum(0)

    def _forward(self, training: Training, batch: Batch, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the loss of one modality, its logits, and the input of the shared layer."""
        branch, head = training.module.branch(name), _head(training)
        with training.context.options.autocast():
            features = branch.encode(batch).float()
            embedded = head.embed(features, name)
            z = head.linear(embedded).float()
        loss = weighted_cross_entropy(z, batch.with_modality(name))
        if training.module.unimodal_heads:
            unimodal_loss = training.unimodal_loss({name: scatter_rows(features, batch, name)}, batch)
            loss = loss + training.unimodal_weight * unimodal_loss
        return loss, z, embedded.float()

    def _project_gradient(self, weight: torch.Tensor, embedded: torch.Tensor, row_weights: torch.Tensor | None) -> None:
        """Update P with the mean feature, and project the gradient of the head's weights."""
        if self._is_first_step:
            self._is_first_step = False
            return
        if row_weights is None:
            mean = embedded.mean(0)
        else:
            mean = (row_weights.unsqueeze(1) * embedded).sum(0) / row_weights.sum()
        damping = 0.1 ** (1 + self._batch_index / self._n_batches)
        projected_mean = self.projector_ @ mean
        # P is positive definite: a negative product is a rounding error, which a small divisor would amplify.
        divisor = damping + (mean @ projected_mean).clamp(min=0)
        projector = self.projector_ - torch.outer(projected_mean, projected_mean) / divisor
        self.projector_ = projector / torch.linalg.matrix_norm(projector)
        gradient = cast(torch.Tensor, weight.grad)
        gradient.copy_(gradient @ self.projector_)


def _head(training: Training) -> SharedHead:
    """Return the fusion head of the network."""
    return cast(SharedHead, training.module.fusion_head)
