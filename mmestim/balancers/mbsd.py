"""MBSD: the modality that knows a row better teaches the other."""

from __future__ import annotations

import torch

from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training


class MBSD(Balancer):
    """Self-distillation between the modalities of each row, as far as one of them is right and surer.

    The loss adds to the fused cross-entropy those of the single modalities, and a distance between
    each two modalities' logits and true-class probabilities, weighed by how far apart these are.

    Parameters
    ----------
    strength : float, default=1.0
        Factor of the distillation, at least 0; with 0 only the cross-entropies are left.

    Notes
    -----
    With o_m the logits that modality m adds to the fused ones o, p_m their softmax and C classes, the
    loss is CE(o) + sum_m CE(o_m) + strength * D, with D for two modalities the mean over the rows of

    w (||o_1 - o_2||^2 / C + p_s[y] log(p_s[y] / p_w[y])),  w = abs(p_1[y] - p_2[y]),

    where s is the modality with the higher probability of the true class and w the other; rows in
    which neither has the true class as its most probable one count 0. The method's name comes from
    [1]_, the rule from a benchmark's code [2]_. That code gives its divergence a probability in place
    of a logarithm, with teacher and pupil exchanged; here it is the true class's term of the
    divergence of the surer modality from the other, and only the other is moved by it. The weights w have no
    gradient here. For more than two modalities D is the mean over the pairs, each over the rows that have
    both, which is ours.

    Fusion that is no sum of the modalities' logits has heads of their own instead, weighed by
    ``unimodal_weight`` of the classifier if that is given. `balance_history_` has ``distillation``, D, and
    ``weight``, the mean w of the pairs' rows.

    References
    ----------
    .. [1] S. Liu, L. Li, J. Song, Y. Yang and X. Zeng, "Multimodal Pre-Training with Self-Distillation
       for Product Understanding in E-Commerce", WSDM 2023.
    .. [2] S. Xu, M. Cui, C. Huang, H. Wang and D. Hu, "BalanceBenchmark: A Survey for Multimodal
       Imbalance Learning", 2025, arXiv:2502.10816.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import MBSD
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=MBSD(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["distillation"].shape
    (2,)
    """

    unimodal = "split"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def begin(self, training: Training) -> None:
        check_number("strength", self.strength)

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        batch, logits = outputs.batch, outputs.unimodal
        if training.module.fusion_head.is_sum:
            # Own heads that the classifier asks for train beside.
            loss, share = training.joint_loss(outputs), 1.0
        else:
            loss, share = weighted_cross_entropy(outputs.logits, batch), training.unimodal_weight or 1.0
        for name, z in logits.items():
            loss = loss + share * unimodal_cross_entropy(z, batch, name)
        distillation, weight = distill(torch.stack(list(logits.values())), outputs)
        training.record("distillation", distillation)
        training.record("weight", weight)
        return loss + self.strength * distillation


def distill(logits: torch.Tensor, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean distillation loss over the pairs of modalities, and mean weight of a row in it.

    Parameters
    ----------
    logits : Tensor of shape (n_modalities, n_rows, n_classes)
        Of each modality.
    outputs : Outputs
        Of the network for these rows.

    Returns
    -------
    loss, weight : Tensor of shape ()
        The means, 0 where no row has a pair.
    """
    y = outputs.batch.y
    first, second = torch.triu_indices(len(logits), len(logits), offset=1, device=logits.device)
    log_scores = torch.log_softmax(logits, dim=2).gather(2, y.expand(len(logits), -1).unsqueeze(2)).squeeze(2)
    both = outputs.present[first] & outputs.present[second]
    right = logits.argmax(2) == y
    scores = log_scores.detach().exp()
    weight = (scores[first] - scores[second]).abs() * (both & (right[first] | right[second]))
    surer = torch.maximum(log_scores[first], log_scores[second]).detach()
    other = torch.minimum(log_scores[first], log_scores[second])
    terms = (logits[first] - logits[second]).square().mean(2) + surer.exp() * (surer - other)
    rows = weight if outputs.batch.weight is None else weight * outputs.batch.weight
    n_rows = both.sum(1).clamp(min=1)
    return ((rows * terms).sum(1) / n_rows).mean(), (weight.sum(1) / n_rows).mean()
