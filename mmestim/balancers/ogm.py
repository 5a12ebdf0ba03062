"""OGM: on-the-fly gradient modulation, which slows the encoder of the modality with the leading scores."""

from __future__ import annotations

import torch

from .._utils.validation import check_flag, check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import score_ratios


class OGM(Balancer):
    """On-the-fly gradient modulation: a leading encoder's gradients are scaled down, with added noise (OGM-GE).

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import OGM
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=OGM(alpha=0.5), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["coefficient"].shape
    (2, 2)

    In every batch each modality's probability of the true class is compared with the other modalities'. The encoder of
    a modality that leads learns more slowly, the more the further it leads. Gaussian noise as large as the gradients
    restores the randomness that small gradients lack, which helps to generalise.

    Parameters
    ----------
    alpha : float, default=0.8
        Strength, at least 0: how much a lead slows an encoder. With 0 gradients are not scaled.
    enhance : bool, default=True
        Whether to add the noise (OGM-GE) or not (OGM).
    starts : int, default=0
        First epoch of modulation, counted from 0.
    ends : int, default=50
        Last epoch of modulation.

    See Also
    --------
    OPM : Drops features of the leading modality instead.

    Notes
    -----
    Let s_m be the sum over the batch of modality m's probabilities of the true class, from its part of the fused
    logits, and rho_m = s_m / s_j its lead over the other modality j. Weights get the gradient::

        k_m g + h,    k_m = 1 - tanh(alpha rho_m) if rho_m > 1 else 1,    h ~ N(0, std(g)^2),

    where std is over the elements of each weight tensor before scaling. All modalities get noise.

    The formula for two modalities is the paper's. The range of epochs and the standard deviation per tensor follow the
    authors' code, which has no default for alpha; 0.8 is from a later script. The following choices are ours. For more
    than two modalities s_j is the mean over the others. Sums are over the rows that have the modality and another one,
    by their weights. Every encoder parameter of two or more dimensions is modulated; the code modulates 2-D
    convolutions only and so has no effect on fully connected encoders.

    Adam and similar optimizers divide by the size of past gradients, which undoes a constant scale; use SGD. Encoders
    without parameters are left unchanged.

    For each epoch `balance_history_` has ``coefficient``, k_m, and ``ratio``, rho_m, by modality in alphabetical
    order.

    References
    ----------
    X. Peng, Y. Wei, A. Deng, D. Wang, D. Hu. Balanced Multimodal Learning via On-the-fly Gradient
    Modulation. CVPR 2022.
    """

    unimodal = "split"

    def __init__(self, alpha: float = 0.8, *, enhance: bool = True, starts: int = 0, ends: int = 50) -> None:
        self.alpha = alpha
        self.enhance = enhance
        self.starts = starts
        self.ends = ends

    def begin(self, training: Training) -> None:
        check_number("alpha", self.alpha)
        check_flag("enhance", self.enhance)
        check_number("starts", self.starts, integer=True)
        check_number("ends", self.ends, low=self.starts, integer=True)
        self._generators = training.generators("OGM")

    def after_backward(self, training: Training, outputs: Outputs) -> None:
        if not self.starts <= training.epoch <= self.ends:
            training.record("coefficient", torch.ones(len(training.names)))
            return
        ratios = score_ratios(outputs)
        coefficients = 1 - torch.tanh(self.alpha * ratios) * (ratios > 1)
        for name, coefficient in zip(training.names, coefficients.unbind(), strict=True):
            parameters = training.parameters[name]
            gradients = [p.grad for p in parameters if p.grad is not None and p.ndim >= 2]
            if gradients:
                self._modulate(gradients, coefficient, self._generators[name])
        training.record("coefficient", coefficients)
        training.record("ratio", ratios)

    def _modulate(self, gradients: list[torch.Tensor], coefficient: torch.Tensor, generator: torch.Generator) -> None:
        """Scale the gradients of an encoder in place and add the noise."""
        # The standard deviation of a single element would be NaN with a correction.
        deviations = [g.std(correction=min(1, g.numel() - 1)) for g in gradients] if self.enhance else []
        torch._foreach_mul_(gradients, coefficient)
        if self.enhance:
            sizes = [g.numel() for g in gradients]
            noise = torch.randn(sum(sizes), generator=generator, device=generator.device).split(sizes)
            for gradient, deviation, h in zip(gradients, deviations, noise, strict=True):
                gradient.addcmul_(h.view_as(gradient), deviation)
