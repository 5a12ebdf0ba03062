"""On-the-fly gradient modulation: slow the encoder of the modality whose scores lead."""

from __future__ import annotations

import torch

from .._utils.validation import check_flag, check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import score_ratios


class OGM(Balancer):
    """Gradients of a leading modality's encoder scaled down, with noise to help generalise (OGM-GE).

    In every batch each modality's probability of the true class is compared with that of the others; the
    encoder of one that leads learns more slowly, by how far it leads. Gaussian noise as large as the
    gradients makes up for the randomness that small gradients lack.

    Parameters
    ----------
    alpha : float, default=0.8
        How much a lead slows an encoder, at least 0, where it does not.
    enhance : bool, default=True
        Whether to add the noise: OGM-GE, otherwise OGM.
    starts : int, default=0
        First epoch of modulation, counted from 0.
    ends : int, default=50
        Last epoch of modulation.

    See Also
    --------
    OPM : Drops features of the leading modality instead.

    Notes
    -----
    With s_m the sum over the batch of modality m's probabilities of the true class, from its part of the
    fused logits, and the lead rho_m = s_m / s_j over the other modality j, weights get the gradient::

        k_m g + h,    k_m = 1 - tanh(alpha rho_m) if rho_m > 1 else 1,    h ~ N(0, std(g)^2),

    where std is over the elements of each weight tensor before scaling; all modalities get noise.

    The two-modality formula is the paper's; epochs and the noise's spread by tensor are those of the
    authors' code, which names no default for alpha: 0.8 is from a later script. Ours are: for more than
    two modalities s_j is the mean over the others; sums are over the rows that have the modality and another,
    by their weights; and every encoder parameter of two or more dimensions is modulated, where the code
    takes only 2-D convolutions and so does nothing to fully connected encoders.

    An optimizer such as Adam, which divides by the size of past gradients, undoes a constant scale, so use
    SGD. Encoders without parameters are left as they are.

    Over the epochs `balance_history_` has ``coefficient``, k_m, and ``ratio``, rho_m, by modality in
    alphabetical order.

    References
    ----------
    X. Peng, Y. Wei, A. Deng, D. Wang, D. Hu. Balanced Multimodal Learning via On-the-fly Gradient
    Modulation. CVPR 2022.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import OGM
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=OGM(alpha=0.5), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["coefficient"].shape
    (2, 2)
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
        coefficients = torch.where(ratios > 1, 1 - torch.tanh(self.alpha * ratios), 1.0)
        for name, coefficient in zip(training.names, coefficients, strict=True):
            parameters = training.parameters[name]
            gradients = [p.grad for p in parameters if p.grad is not None and p.ndim >= 2]
            if gradients:
                self._modulate(gradients, coefficient, self._generators[name])
        training.record("coefficient", coefficients)
        training.record("ratio", ratios)

    def _modulate(self, gradients, coefficient, generator):
        # A single number has no spread.
        spreads = [g.std(correction=min(1, g.numel() - 1)) for g in gradients] if self.enhance else []
        torch._foreach_mul_(gradients, coefficient)
        if self.enhance:
            sizes = [g.numel() for g in gradients]
            noise = torch.randn(sum(sizes), generator=generator, device=generator.device).split(sizes)
            for gradient, spread, h in zip(gradients, spreads, noise, strict=True):
                gradient.addcmul_(h.view_as(gradient), spread)
