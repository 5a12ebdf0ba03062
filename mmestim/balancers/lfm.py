"""LFM: contrastive learning between the modalities first, classification later."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training


class LFM(Balancer):
    """LFM: contrastive loss between the modalities' features, gradually replaced by the classification loss.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import LFM
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=LFM(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["weight"].round(3)
    array([0.632, 0.393], dtype=float32)

    Labels are harder to fit from some modalities than from others, whereas matching the modalities of a row is equally
    hard for all. Training therefore starts with a large weight of the contrastive loss and ends with a small one.

    Parameters
    ----------
    temperature : float, default=0.07
        Divisor of the cosines, above 0.
    strength : float, default=1.0
        Factor of the contrastive loss's weight, from 0 to 1. With 0 training is plain.

    Notes
    -----
    CE is the classification loss; it includes the loss of unimodal heads if the classifier's ``unimodal_weight`` sets
    one. Epoch t = 1, 2, ... minimises

    (1 - a_t) CE + a_t L,  a_t = strength * (1 - exp(-1/t)).

    L is the symmetric InfoNCE loss. The cosines between the features of one modality and those of another are computed
    over all pairs of rows in the batch. Divided by the temperature, they are the logits of which rows match. L is the
    mean cross-entropy of both directions. This is the paper's heuristic rule [1]_. Its other rule, which learns a_t by
    a second-order gradient, is not implemented, and neither is the Jensen-Shannon divergence between predictions that
    re-implementations use for L.

    The following choices are ours: the temperature, which is CLIP's; `strength`; for more than two modalities, the
    mean over the pairs, each over the rows that have both; and the treatment of features of different lengths. Longer
    features are mapped to the shortest length by fixed random orthonormal columns, which are not trained.

    `balance_history_` has ``weight``, a_t, and ``contrast``, L.

    References
    ----------
    .. [1] Y. Yang, F. Wan, Q.-Y. Jiang and Y. Xu, "Facilitating Multimodal Classification via
       Dynamically Learning Modality Gap", NeurIPS 2024.
    """

    def __init__(self, temperature: float = 0.07, strength: float = 1.0) -> None:
        self.temperature = temperature
        self.strength = strength

    def begin(self, training: Training) -> None:
        check_number("temperature", self.temperature, closed=False)
        check_number("strength", self.strength, high=1)
        sizes = training.module.embedding_sizes
        shortest = min(sizes.values())
        self._maps = {}
        for name in training.names:
            if sizes[name] > shortest:
                generator = torch.Generator().manual_seed(training.context.seed_for("LFM", name))
                columns = torch.linalg.qr(torch.randn(sizes[name], shortest, generator=generator)).Q
                self._maps[name] = columns.to(training.device)

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        weight = self.strength * -math.expm1(-1 / (training.epoch + 1))
        features = [f @ self._maps[name] if name in self._maps else f for name, f in outputs.features.items()]
        contrast = info_nce(torch.stack(features), outputs, self.temperature)
        training.record("weight", torch.tensor(weight))
        training.record("contrast", contrast)
        return (1 - weight) * training.joint_loss(outputs) + weight * contrast


def info_nce(features: torch.Tensor, outputs: Outputs, temperature: float) -> torch.Tensor:
    """Return the mean symmetric InfoNCE loss over the pairs of modalities.

    Parameters
    ----------
    features : Tensor of shape (n_modalities, n_rows, n_features)
        Features of each modality.
    outputs : Outputs
        Outputs of the network for these rows.
    temperature : float
        Divisor of the cosines.

    Returns
    -------
    Tensor of shape ()
        The mean, in which a pair that no row has counts as 0.
    """
    first, second = torch.triu_indices(len(features), len(features), offset=1, device=features.device)
    directions = F.normalize(features, dim=2)
    has_both = outputs.present[first] & outputs.present[second]
    cosines = directions[first] @ directions[second].transpose(1, 2)
    # The mask is finite, because minus infinity gives NaN in rows that lack a modality; their terms are dropped below.
    logits = (cosines / temperature).masked_fill(~(has_both.unsqueeze(1) & has_both.unsqueeze(2)), -1e9)
    log_matches = torch.log_softmax(logits, dim=2) + torch.log_softmax(logits, dim=1)
    row_losses = torch.where(has_both, -log_matches.diagonal(dim1=1, dim2=2) / 2, 0.0)
    if outputs.batch.weight is not None:
        row_losses = row_losses * outputs.batch.weight
    return (row_losses.sum(1) / has_both.sum(1).clamp(min=1)).mean()
