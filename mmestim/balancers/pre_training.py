"""Pre-training: encoders are trained alone before they are trained together."""

from __future__ import annotations

import numbers
from typing import Literal

import torch

from .._data.batches import Batch
from .._networks.multimodal_networks import scatter_rows
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import encode_rows


class PreTraining(Balancer):
    """Pre-training: each encoder is trained alone first, and joint training starts from the result.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import PreTraining
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=PreTraining("frozen"), cv=None, max_epochs=2, random_state=0)
    >>> [row["stage"] for row in clf.fit(digits.data, digits.target).history_]
    ['unimodal', 'unimodal', 'unimodal', 'unimodal', 'joint', 'joint']

    Because each encoder has already learnt alone, no modality is left untrained because of another. In joint training
    the encoders use a fraction of the learning rate, or they are frozen.

    Parameters
    ----------
    finetune : float or 'frozen', default=0.1
        Learning rate of the encoders in joint training as a multiple of the classifier's `lr`, above 0, or
        ``'frozen'`` to train the fusion head alone.

    See Also
    --------
    UMT : Encoders trained alone are the teachers of the joint network's encoders.

    Notes
    -----
    Each encoder trains by cross-entropy under a head of its own, on the rows that have its modality and with the
    classifier's options, including early stopping. `history_` lists these epochs as stage ``unimodal``. The encoder's
    weights are then copied into the joint network. If `unimodal_weight` adds unimodal heads to the network, the head's
    weights are copied too (ours). An encoder without trainable parameters is left unchanged.

    The learning rate is scaled by its effect: after each step the encoders keep the fraction `finetune` of their
    update, theta <- theta_before + finetune (theta_after - theta_before). The updates of SGD, momentum and weight decay
    included, and of Adam are proportional to the learning rate. This therefore equals a parameter group with
    ``finetune * lr`` under any schedule. Scaled gradients would not: weight decay would stay at full strength, and Adam
    undoes a constant scale. `max_grad_norm` is applied to the unscaled gradients.

    Frozen encoders are evaluated once, in eval mode, and their features are cached for the rest of the training.
    Dropout is off, and the statistics of BatchNorm do not change.

    References
    ----------
    W. Wang, D. Tran and M. Feiszli, "What Makes Training Multi-Modal Classification Networks Hard?",
    CVPR 2020, where it is one of the baselines.
    """

    def __init__(self, finetune: float | Literal["frozen"] = 0.1) -> None:
        self.finetune = finetune

    def begin(self, training: Training) -> None:
        if isinstance(self.finetune, numbers.Number):
            check_number("finetune", self.finetune, closed=False)
        elif self.finetune != "frozen":
            raise ValueError(f"finetune={self.finetune!r} is not supported. Use 'frozen' or a number above 0.")
        for name in training.names:
            if training.parameters[name]:
                branch, trained_branch = training.module.branch(name), training.train_alone(name)
                branch.encoder.load_state_dict(trained_branch.encoder.state_dict())
                if training.module.unimodal_heads:
                    branch.head.load_state_dict(trained_branch.head.state_dict())
        self._is_frozen = self.finetune == "frozen"
        if self._is_frozen:
            self._features = {name: encode_rows(training, training.module.branch(name)) for name in training.names}
        else:
            self._encoder_parameters = [p for parameters in training.parameters.values() for p in parameters]
            self._before_step = [torch.empty_like(p) for p in self._encoder_parameters]

    def train_batch(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if self._is_frozen:
            return self._train_head(training, batch)
        if not self._encoder_parameters or self.finetune == 1:
            return super().train_batch(training, batch)
        with torch.no_grad():
            torch._foreach_copy_(self._before_step, self._encoder_parameters)
        loss, logits = super().train_batch(training, batch)
        with torch.no_grad():
            torch._foreach_lerp_(self._encoder_parameters, self._before_step, 1 - float(self.finetune))
        return loss, logits

    def _train_head(self, training: Training, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Train the fusion head on one batch of cached features."""
        training.zero_grad()
        features = {
            name: scatter_rows(f[batch.with_modality(name).rows], batch, name) for name, f in self._features.items()
        }
        with training.context.options.autocast():
            logits = training.module.fusion_head(features, batch).float()
        loss = self.loss(training, Outputs(training, batch, (logits, features)))
        loss.backward()
        training.step(batch)
        return loss.detach(), logits
