"""UMT: encoders that were trained alone teach those of the joint network."""

from __future__ import annotations

import torch

from .._networks.multimodal_networks import scatter_rows
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import encode_rows


class UMT(Balancer):
    """Unimodal teachers: each encoder is held to the features of a copy that was trained alone.

    What a modality would learn by itself is so kept in joint training, where another would silence it;
    the fused loss adds what only the modalities together tell.

    Parameters
    ----------
    scale : float, default=10.0
        Weight of the distances to the teachers, at least 0; with 0 this is plain joint training.

    See Also
    --------
    PreTraining : Encoders trained alone are where joint training starts from.

    Notes
    -----
    The loss is that of joint training + scale * sum_m MSE(z_m, z_m^teacher), with the mean over the rows
    that have the modality, each by its weight, and over the features.

    A teacher is an encoder with the same first weights as the one that it teaches, trained under a head
    of its own with the options of the classifier, early stopping included, on the rows that have its
    modality; `history_` has these epochs as stage ``unimodal``. Its features are computed once, in eval
    mode, so teaching costs next to nothing beyond the teachers' own training. An encoder without trainable
    parameters has no teacher. The distance of features is the paper's, its default weight that of
    BalanceBenchmark; teachers that start as their pupils do are ours.

    `balance_history_` has ``distance``, the mean squared error to each teacher.

    References
    ----------
    C. Du, J. Teng, T. Li, Y. Liu, T. Yuan, Y. Wang, Y. Yuan and H. Zhao, "On Uni-Modal Feature Learning
    in Supervised Multi-Modal Learning", ICML 2023.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import UMT
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=UMT(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["distance"].shape
    (2, 2)
    """

    def __init__(self, scale: float = 10.0) -> None:
        self.scale = scale

    def begin(self, training: Training) -> None:
        check_number("scale", self.scale)
        taught = [name for name in training.names if training.parameters[name] and self.scale > 0]
        self._taught = {name: encode_rows(training, training.train_alone(name)) for name in taught}

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        loss = training.joint_loss(outputs)
        if not self._taught:
            return loss
        batch = outputs.batch
        distances = dict.fromkeys(training.names, loss.new_zeros(()))
        for name, features in self._taught.items():
            teacher = scatter_rows(features[batch.with_modality(name).rows], batch, name)
            # Rows that lack the modality have zeros on both sides.
            error = (outputs.features[name] - teacher).square().mean(1)
            weighted = error if batch.weight is None else error * batch.weight
            distances[name] = weighted.sum() / max(1, len(batch.x[name]))
        stacked = torch.stack(list(distances.values()))
        training.record("distance", stacked)
        return loss + self.scale * stacked.sum()
