"""InfoReg: hold a leading modality back while it takes up information fastest."""

from __future__ import annotations

import torch

from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import against_others


class InfoReg(Balancer):
    """A leading modality's encoder drawn back to its start of the epoch, while it is in its prime of learning.

    An encoder is in its prime learning window as long as the trace of its Fisher information rises;
    there, and only where the modality leads the others, its gradient gets a pull against the epoch's moves.

    Parameters
    ----------
    strength : float, default=0.95
        Factor b of the pull, at least 0; with 0 training is plain, with `unimodal_weight` 1.
    threshold : float, default=0.05
        Relative growth K of the summed trace above which the window is open, from 0 to 1.
    window : int, default=10
        Epochs in the sums of the trace, at least 1.

    Attributes
    ----------
    fisher_ : ndarray of shape (n_epochs, n_modalities)
        Trace of each encoder's Fisher information in each epoch.
    open_ : ndarray of shape (n_modalities,)
        Whether each encoder's window was open in the last epoch.

    Notes
    -----
    Every modality has a head of its own, whose cross-entropy joins the loss. With g a weight tensor's
    gradient, the trace F_m of an epoch is the mean over its batches of the sum over the encoder's
    weight tensors of mean(g^2), and the window is open in the first epoch and where

    (A - B) / A > K,  A = F_m of the last `window` epochs summed, B = the same one epoch earlier.

    Until there are more than `window` epochs A has one more of them than B, so that a steady trace keeps
    the window open, as in the released code, which divides both by `window` whatever there is: the
    trace decides from then on.

    With s_m the sum over the batch of the true class's probabilities from modality m, the encoder of
    the leading one gets

    g <- g + b exp(tanh(s_m - s_other)) (theta_m - theta_m at the start of the epoch)

    [1]_. The released code has K 0.04, b 0.95 for sound and 0.1 for images, one window for both, read
    from sound, and a condition that never lets images lead; here b is one and each encoder has its
    own window. It also takes F after the pull is added; here F is of the loss alone. Ours is the rule for
    more than two modalities: s_other is the mean over the others, per row of those present in it, and
    the one that is furthest ahead leads; rows with one modality count in no s, others by their weight.

    The pull is added to the gradient and not a scale of it; Adam, which divides by the gradient's
    size, changes its strength all the same. `balance_history_` has ``fisher``, ``open`` and ``pull``, the
    mean factor of each modality's displacement.

    References
    ----------
    .. [1] C. Huang, Y. Wei, Z. Yang and D. Hu, "Adaptive Unimodal Regulation for Balanced Multimodal
       Information Acquisition", CVPR 2025.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import InfoReg
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=InfoReg(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["pull"].shape
    (2, 2)
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
        self._starts = {name: [p.detach().clone() for p in ps] for name, ps in training.parameters.items()}
        self._traces: list[torch.Tensor] = []

    def after_backward(self, training: Training, outputs: Outputs) -> None:
        self._traces.append(torch.stack([_trace(training.parameters[name], training) for name in training.names]))
        own, others, _ = against_others(outputs.scores, outputs)
        lead = own - others
        leads = self.open_ & (lead > 0) & (lead == lead.max())
        pulls = torch.where(leads, self.strength * torch.tanh(lead).exp(), 0.0)
        for name, pull in zip(training.names, pulls, strict=True):
            parameters = training.parameters[name]
            had = [(p, start) for p, start in zip(parameters, self._starts[name], strict=True) if p.grad is not None]
            if had:
                moves = torch._foreach_sub([p.detach() for p, _ in had], [start for _, start in had])
                torch._foreach_mul_(moves, pull)
                torch._foreach_add_([p.grad for p, _ in had], moves)
        training.record("pull", pulls)

    def end_epoch(self, training: Training) -> None:
        fisher = torch.stack(self._traces).mean(0)
        self.fisher_ = torch.cat([self.fisher_, fisher.unsqueeze(0)])
        training.record("fisher", fisher)


def _trace(parameters, training):
    """Sum over weight tensors, not biases, of their gradient's mean square."""
    gradients = [p.grad for p in parameters if p.grad is not None and p.ndim >= 2]
    if not gradients:
        return torch.zeros((), device=training.device)
    norms = torch._foreach_norm(gradients)
    return torch.stack([norm**2 / g.numel() for norm, g in zip(norms, gradients, strict=True)]).sum()
