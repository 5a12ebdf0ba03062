"""InfoReg: a leading modality is held back while its encoder takes up information fastest."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import against_others


class InfoReg(Balancer):
    """InfoReg: a leading modality's encoder is pulled back to its weights at the start of the epoch.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import InfoReg
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=InfoReg(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["pull"].shape
    (2, 2)

    An encoder is in its prime learning window while the trace of its Fisher information grows. Only there, and only if
    the modality leads the others, its gradient gets a pull against the weight changes of the epoch.

    Parameters
    ----------
    strength : float, default=0.95
        Factor b of the pull, at least 0. With 0 training is plain, with `unimodal_weight` 1.
    threshold : float, default=0.05
        Relative growth K of the summed trace above which the window is open, from 0 to 1.
    window : int, default=10
        Number of epochs in the sums of the trace, at least 1.

    Attributes
    ----------
    fisher_ : ndarray of shape (n_epochs, n_modalities)
        Trace of each encoder's Fisher information in each epoch.
    open_ : ndarray of shape (n_modalities,)
        Whether each encoder's window was open in the last epoch.

    Notes
    -----
    Every modality has its own head, whose cross-entropy joins the loss. With g the gradient of a weight tensor, the
    trace F_m of an epoch is the mean over its batches of the sum of mean(g^2) over the encoder's weight tensors. The
    window is open in the first epoch and where

    (A - B) / A > K,  A = F_m summed over the last `window` epochs, B = the same sum one epoch earlier.

    In the first `window` epochs, A has one epoch more than B, so that a steady trace keeps the window open. The
    released code does the same: it divides both sums by `window`, however many epochs they have. The trace decides
    from then on.

    Let s_m be the sum over the batch of the true class's probabilities from modality m. The encoder of the leading
    modality gets

    g <- g + b exp(tanh(s_m - s_other)) (theta_m - theta_m at the start of the epoch)

    [1]_. The released code uses K = 0.04, b = 0.95 for sound and b = 0.1 for images, one window for both modalities
    that depends on sound alone, and a condition that never lets images lead. Here there is one b, and each encoder has
    its own window. The code computes F after the pull is added; here F is that of the loss alone. The rule for more
    than two modalities is ours: s_other is the mean over the other modalities that the row has, and the modality that
    is furthest ahead leads. Rows with one modality do not count in s; the others count by their weights.

    The pull is added to the gradient and does not scale it. Adam still changes its strength, because it divides by the
    size of the gradient. `balance_history_` has ``fisher``, ``open`` and ``pull``, the mean factor on each modality's
    displacement.

    References
    ----------
    .. [1] C. Huang, Y. Wei, Z. Yang and D. Hu, "Adaptive Unimodal Regulation for Balanced Multimodal
       Information Acquisition", CVPR 2025.
    """

    unimodal = "heads"

    def __init__(self, strength: float = 0.95, threshold: float = 0.05, window: int = 10) -> None:
        self.strength = strength
        self.threshold = threshold
        self.window = window

    def begin(self, training: Training) -> None:
        check_number("strength", self.strength)
        check_number("threshold", self.threshold, high=1)
        check_number("window", self.window, low=1, integer=True)
        self.fisher_ = torch.zeros(0, len(training.names), device=training.device)
        self.open_ = torch.ones(len(training.names), dtype=torch.bool, device=training.device)

    def begin_epoch(self, training: Training) -> None:
        if training.epoch > 0:
            latest = self.fisher_[-self.window :].sum(0)
            before = self.fisher_[-self.window - 1 : -1].sum(0)
            self.open_ = latest - before > self.threshold * latest
        training.record("open", self.open_)
        self._start_weights = {name: [p.detach().clone() for p in ps] for name, ps in training.parameters.items()}
        self._traces: list[torch.Tensor] = []

    def after_backward(self, training: Training, outputs: Outputs) -> None:
        self._traces.append(torch.stack([_trace(training.parameters[name], training) for name in training.names]))
        modality_sums, other_sums, _ = against_others(outputs.scores, outputs)
        lead = modality_sums - other_sums
        is_pulled = self.open_ & (lead > 0) & (lead == lead.max())
        pulls = torch.where(is_pulled, self.strength * torch.tanh(lead).exp(), 0.0)
        for name, pull in zip(training.names, pulls, strict=True):
            pairs = zip(training.parameters[name], self._start_weights[name], strict=True)
            pairs_with_gradient = [(p, start) for p, start in pairs if p.grad is not None]
            if pairs_with_gradient:
                parameters, starts = zip(*pairs_with_gradient, strict=True)
                displacements = torch._foreach_sub([p.detach() for p in parameters], starts)
                torch._foreach_mul_(displacements, pull)
                torch._foreach_add_([p.grad for p in parameters], displacements)
        training.record("pull", pulls)

    def end_epoch(self, training: Training) -> None:
        fisher = torch.stack(self._traces).mean(0)
        self.fisher_ = torch.cat([self.fisher_, fisher.unsqueeze(0)])
        training.record("fisher", fisher)


def _trace(parameters: Sequence[torch.Tensor], training: Training) -> torch.Tensor:
    """Return the sum of the mean squared gradients of the weight tensors, without the biases."""
    gradients = [p.grad for p in parameters if p.grad is not None and p.ndim >= 2]
    if not gradients:
        return torch.zeros((), device=training.device)
    norms = torch._foreach_norm(gradients)
    return torch.stack([norm**2 / g.numel() for norm, g in zip(norms, gradients, strict=True)]).sum()
