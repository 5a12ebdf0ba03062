"""Agreement between the gradients of the fused loss and of the unimodal losses, measured without changing training."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from .._distributed.exchange import average
from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from ._base import Balancer
from ._joint_training import Outputs, Training

_EPS = 1e-12


class GradientConflict(Balancer):
    """Measurement of how gradients agree, which leaves training unchanged.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import GradientConflict
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=GradientConflict(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["cosine"].shape
    (2, 2)

    On the first batch of each epoch, two gradients with respect to each encoder are compared: the gradient of the fused
    loss and the gradient of the cross-entropy of the encoder's own modality.

    Notes
    -----
    For each epoch and modality `balance_history_` has ``cosine`` and ``norm_ratio``. The cosine of the two gradients is
    negative where they conflict. The ratio is the norm of the fused gradient over the norm of the unimodal one. A
    modality with a ratio near 0 no longer learns from the fused loss, although it would learn by itself. Both are NaN
    where the batch lacks the modality, and for encoders without trainable parameters. The logits of a modality are its
    part of the fused logits. If the fusion is not a sum, an additional head provides them; `max_grad_norm` includes its
    gradients. MMPareto [1]_ decides by the cosines of these two gradients.

    References
    ----------
    .. [1] Wei and Hu, "MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance", ICML 2024.
    """

    unimodal = "split"

    def begin(self, training: Training) -> None:
        self._is_first_batch = True

    def begin_epoch(self, training: Training) -> None:
        self._is_first_batch = True

    def backward(self, training: Training, outputs: Outputs, loss: torch.Tensor) -> None:
        if self._is_first_batch:
            self._is_first_batch = False
            self._measure(training, outputs)
        loss.backward()

    def _measure(self, training: Training, outputs: Outputs) -> None:
        """Record the cosine and the norm ratio of each modality's two gradients."""
        fused_loss = weighted_cross_entropy(outputs.logits, outputs.batch)
        cosines, ratios = [], []
        for name, z in outputs.unimodal.items():
            parameters = training.parameters[name]
            if not parameters or not outputs.batch.n_present(name):
                cosines.append(fused_loss.new_full((), torch.nan))
                ratios.append(fused_loss.new_full((), torch.nan))
                continue
            unimodal_loss = unimodal_cross_entropy(z, outputs.batch, name)
            fused, unimodal = (_flat_gradient(loss, parameters) for loss in (fused_loss, unimodal_loss))
            fused_norm, unimodal_norm = fused.norm(), unimodal.norm()
            cosines.append(fused @ unimodal / (fused_norm * unimodal_norm + _EPS))
            ratios.append(fused_norm / (unimodal_norm + _EPS))
        training.record("cosine", torch.stack(cosines))
        training.record("norm_ratio", torch.stack(ratios))


def _flat_gradient(loss: torch.Tensor, parameters: list[nn.Parameter]) -> torch.Tensor:
    """Return the gradient of `loss` with respect to `parameters` as one vector; the graph is retained."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([cast(torch.Tensor, g).flatten() for g in average(gradients, parameters)])
