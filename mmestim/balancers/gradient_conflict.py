"""Whether what is good for the fused prediction is good for a modality by itself: measured, not changed."""

from __future__ import annotations

import torch

from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from ._base import Balancer
from ._joint_training import Outputs, Training

_EPS = 1e-12


class GradientConflict(Balancer):
    """Measures how gradients agree, and leaves training as it is.

    On the first batch of each epoch, the gradient of the fused loss with respect to each encoder is
    compared with that of the cross-entropy of the encoder's own modality.

    Notes
    -----
    `balance_history_` has, for each epoch and modality, ``cosine`` of the two gradients, below 0 where they
    conflict, and ``norm_ratio``, of the fused loss's gradient to the other: a modality with a ratio near 0 no
    longer learns from the fused loss, though by itself it would. Both are NaN where the batch lacks the
    modality, and for encoders without trainable parameters. The logits of a modality are its part of the
    fused ones or, where fusion is no sum, those of a head trained beside, which `max_grad_norm` counts with
    the rest. Cosines of these two gradients are what MMPareto [1]_ decides by.

    References
    ----------
    .. [1] Wei and Hu, "MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance", ICML 2024.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import GradientConflict
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=GradientConflict(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["cosine"].shape
    (2, 2)
    """

    unimodal = "split"

    def begin(self, training: Training) -> None:
        self._is_first = True

    def begin_epoch(self, training: Training) -> None:
        self._is_first = True

    def backward(self, training: Training, outputs: Outputs, loss: torch.Tensor) -> None:
        if self._is_first:
            self._is_first = False
            self._measure(training, outputs)
        loss.backward()

    def _measure(self, training, outputs):
        fused = weighted_cross_entropy(outputs.logits, outputs.batch)
        cosines, ratios = [], []
        for name, z in outputs.unimodal.items():
            if not training.parameters[name] or not len(outputs.batch.x[name]):
                cosines.append(fused.new_full((), torch.nan))
                ratios.append(fused.new_full((), torch.nan))
                continue
            own = unimodal_cross_entropy(z, outputs.batch, name)
            together, alone = (
                torch.cat(
                    [
                        g.flatten()
                        for g in torch.autograd.grad(
                            value, training.parameters[name], retain_graph=True, materialize_grads=True
                        )
                    ]
                )
                for value in (fused, own)
            )
            norms = together.norm(), alone.norm()
            cosines.append(together @ alone / (norms[0] * norms[1] + _EPS))
            ratios.append(norms[0] / (norms[1] + _EPS))
        training.record("cosine", torch.stack(cosines))
        training.record("norm_ratio", torch.stack(ratios))
