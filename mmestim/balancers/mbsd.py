"""MBSD: in each row the modality with the better prediction teaches the other one."""

from __future__ import annotations

import torch

from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training


class MBSD(Balancer):
    """MBSD: self-distillation between the modalities of each row, from the more confident one if either is right.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import MBSD
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=MBSD(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["distillation"].shape
    (2,)

    The loss adds two terms to the fused cross-entropy: the cross-entropies of the single modalities, and a distance
    between the logits and true-class probabilities of every two modalities. A row's distance is weighted by the
    difference of these probabilities.

    Parameters
    ----------
    strength : float, default=1.0
        Factor of the distillation, at least 0. With 0 only the cross-entropies remain.

    Notes
    -----
    Let o be the fused logits, o_m the logits that modality m adds to them, p_m the softmax of o_m, and C the number of
    classes. The loss is CE(o) + sum_m CE(o_m) + strength * D. For two modalities D is the mean over the rows of

    w (||o_1 - o_2||^2 / C + p_s[y] log(p_s[y] / p_w[y])),  w = abs(p_1[y] - p_2[y]),

    where s is the modality with the higher probability of the true class and w the other one. Rows that neither
    modality classifies correctly count as 0. The method's name comes from [1]_, and the rule from a benchmark's
    code [2]_. That code passes a probability to its divergence where a logarithm is expected, and exchanges teacher
    and student. Here the term is the true class's term of the divergence of the more confident modality from the other
    one, and its gradient reaches only the latter. The weights w have no gradient. The rule for more than two
    modalities is ours: D is the mean over the pairs, each over the rows that have both.

    If the fusion is not a sum of the modalities' logits, unimodal heads provide o_m, weighted by ``unimodal_weight``
    of the classifier if it is set. `balance_history_` has ``distillation``, D, and ``weight``, the mean w over the
    rows of the pairs.

    References
    ----------
    .. [1] S. Liu, L. Li, J. Song, Y. Yang and X. Zeng, "Multimodal Pre-Training with Self-Distillation
       for Product Understanding in E-Commerce", WSDM 2023.
    .. [2] S. Xu, M. Cui, C. Huang, H. Wang and D. Hu, "BalanceBenchmark: A Survey for Multimodal
       Imbalance Learning", 2025, arXiv:2502.10816.
    """

    unimodal = "split"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def begin(self, training: Training) -> None:
        check_number("strength", self.strength)

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        batch, logits = outputs.batch, outputs.unimodal
        if training.module.fusion_head.is_sum:
            # The joint loss includes the unimodal heads that the classifier may request in addition.
            loss, unimodal_weight = training.joint_loss(outputs), 1.0
        else:
            loss, unimodal_weight = weighted_cross_entropy(outputs.logits, batch), training.unimodal_weight or 1.0
        for name, z in logits.items():
            loss = loss + unimodal_weight * unimodal_cross_entropy(z, batch, name)
        distillation, weight = distill(torch.stack(list(logits.values())), outputs)
        training.record("distillation", distillation)
        training.record("weight", weight)
        return loss + self.strength * distillation


def distill(logits: torch.Tensor, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean distillation loss over the pairs of modalities, and the mean weight of their rows.

    Parameters
    ----------
    logits : Tensor of shape (n_modalities, n_rows, n_classes)
        Logits of each modality.
    outputs : Outputs
        Outputs of the network for these rows.

    Returns
    -------
    loss, weight : Tensor of shape ()
        The means; 0 if no row has a pair.
    """
    y = outputs.batch.y
    first, second = torch.triu_indices(len(logits), len(logits), offset=1, device=logits.device)
    log_scores = torch.log_softmax(logits, dim=2).gather(2, y.expand(len(logits), -1).unsqueeze(2)).squeeze(2)
    has_both = outputs.present[first] & outputs.present[second]
    is_right = logits.argmax(2) == y
    scores = log_scores.detach().exp()
    weights = (scores[first] - scores[second]).abs() * (has_both & (is_right[first] | is_right[second]))
    teacher = torch.maximum(log_scores[first], log_scores[second]).detach()
    student = torch.minimum(log_scores[first], log_scores[second])
    distances = (logits[first] - logits[second]).square().mean(2) + teacher.exp() * (teacher - student)
    row_weights = weights if outputs.batch.weight is None else weights * outputs.batch.weight
    n_rows = has_both.sum(1).clamp(min=1)
    return ((row_weights * distances).sum(1) / n_rows).mean(), (weights.sum(1) / n_rows).mean()
