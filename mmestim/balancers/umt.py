"""UMT: encoders that were trained alone teach the encoders of the joint network."""

from __future__ import annotations

import torch

from .._networks.multimodal_networks import scatter_rows
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import encode_rows


class UMT(Balancer):
    """Unimodal teachers: each encoder's features are kept close to those of a copy that was trained alone.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import UMT
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=UMT(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["distance"].shape
    (2, 2)

    Joint training thus retains what a modality learns by itself, even where another modality would dominate. The fused
    loss adds what only the modalities together reveal.

    Parameters
    ----------
    scale : float, default=10.0
        Weight of the distances to the teachers, at least 0. With 0 training is plain.

    See Also
    --------
    PreTraining : Joint training starts from encoders that were trained alone.

    Notes
    -----
    The loss is the joint loss + scale * sum_m MSE(z_m, z_m^teacher). The mean is over the features and over the rows
    that have the modality, by their weights.

    A teacher is a copy of the encoder that it teaches, with the same initial weights. It is trained under a head of its
    own on the rows that have its modality, with the classifier's options, including early stopping. `history_` lists
    these epochs as stage ``unimodal``. The teacher's features are computed once, in eval mode, so the cost beyond the
    teachers' training is small. An encoder without trainable parameters has no teacher. The distance between features
    is the paper's and its default weight is BalanceBenchmark's; teachers with the initial weights of their students
    are ours.

    `balance_history_` has ``distance``, the mean squared error to each teacher.

    References
    ----------
    C. Du, J. Teng, T. Li, Y. Liu, T. Yuan, Y. Wang, Y. Yuan and H. Zhao, "On Uni-Modal Feature Learning
    in Supervised Multi-Modal Learning", ICML 2023.
    """

    def __init__(self, scale: float = 10.0) -> None:
        self.scale = scale

    def begin(self, training: Training) -> None:
        check_number("scale", self.scale)
        taught = [name for name in training.names if training.parameters[name] and self.scale > 0]
        self._teacher_features = {name: encode_rows(training, training.train_alone(name)) for name in taught}

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        loss = training.joint_loss(outputs)
        if not self._teacher_features:
            return loss
        batch = outputs.batch
        distances = dict.fromkeys(training.names, loss.new_zeros(()))
        for name, features in self._teacher_features.items():
            teacher = scatter_rows(features[batch.with_modality(name).rows], batch, name)
            # Rows that lack the modality are zero in both and add no error.
            errors = (outputs.features[name] - teacher).square().mean(1)
            weighted_errors = errors if batch.weight is None else errors * batch.weight
            distances[name] = weighted_errors.sum() / max(1, batch.n_present(name))
        stacked = torch.stack(list(distances.values()))
        training.record("distance", stacked)
        return loss + self.scale * stacked.sum()
