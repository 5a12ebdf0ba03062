"""MMCosine: logits are cosines, so that no modality dominates by the length of its features."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .._networks.fusion_heads import FusionHead
from .._utils.validation import check_number
from ._base import Balancer


class CosineHead(FusionHead):
    """Fusion head that sums scaled cosines between features and class weights over the modalities."""

    is_sum = True

    def __init__(self, sizes: Mapping[str, int], n_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.linears = nn.ModuleList(nn.Linear(size, n_classes, bias=False) for size in sizes.values())

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.scale * functools.reduce(torch.add, self._cosines(features))

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: self.scale * cosines for name, cosines in zip(features, self._cosines(features), strict=True)}

    def _cosines(self, features: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Return the cosines between each modality's features and the weights of each class."""
        weights = [cast(torch.Tensor, linear.weight) for linear in self.linears]
        unit = _unit_rows([*features.values(), *weights])
        return [F.linear(z, w) for z, w in zip(unit[: len(weights)], unit[len(weights) :], strict=True)]


class MMCosine(Balancer):
    """Modality-wise cosine loss: the head compares directions only.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import MMCosine
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=MMCosine(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).predict_proba(digits.data).shape
    (1797, 10)

    In a linear head a modality can dominate by long features and weights as well as by good ones. Here each modality
    adds `scale` times the cosines between its features and one weight vector per class, in training and in prediction.

    Parameters
    ----------
    scale : float, default=10.0
        Factor on the cosines, above 0. A low factor limits the confidence of predictions; 10 to 15 are usual.

    See Also
    --------
    mmestim.JointClassifier : Classifier that takes this as `balancer`.

    Notes
    -----
    o_m[c] = scale * cos(z_m, W_m[c]) without bias, and the loss is the cross-entropy of sum_m o_m, as in the paper,
    for any number of modalities. An absent modality, or a feature vector of zeros, adds zero.

    The method builds its own fusion head and ignores the classifier's `fusion`. It has no coefficients to record and
    no state.

    References
    ----------
    Ruize Xu, Ruoxuan Feng, Shi-Xiong Zhang, Di Hu. MMCosine: Multi-Modal Cosine Loss Towards Balanced
    Audio-Visual Fine-Grained Learning. ICASSP 2023.
    """

    def __init__(self, scale: float = 10.0) -> None:
        self.scale = scale

    def build_head(self, sizes: Mapping[str, int], n_classes: int) -> FusionHead:
        check_number("scale", self.scale, closed=False)
        return CosineHead(sizes, n_classes, self.scale)


def _unit_rows(matrices: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Scale all rows to length one; rows of zeros stay zero, with a finite gradient.

    The matrices are scaled at once, because small ones cost as much as large ones. Zeros bring them to one width, which
    changes neither lengths nor products.
    """
    width = max(x.shape[1] for x in matrices)
    rows = torch.cat([x if x.shape[1] == width else F.pad(x, (0, width - x.shape[1])) for x in matrices])
    length = rows.norm(dim=1, keepdim=True)
    return (rows / torch.where(length > 0, length, 1.0)).split([x.shape[0] for x in matrices])
