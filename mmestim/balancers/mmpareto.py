"""MMPareto: each encoder follows a direction that serves both the fused loss and its unimodal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._training.losses import weighted_cross_entropy
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training

Gradients = Sequence[torch.Tensor | None]


class MMPareto(Balancer):
    """MMPareto: fused and unimodal gradients of an encoder are combined so that neither loss increases.

    Each modality has its own head. Where the gradients of the fused loss and of the modality's own loss agree, they are
    summed. Where they conflict, the encoder takes the shortest vector between them, which decreases both losses. It is
    lengthened to at least the length of the sum. All encoder gradients are multiplied by `gamma`.

    Parameters
    ----------
    gamma : float, default=1.5
        Factor on the gradients of the encoders, above 0.

    See Also
    --------
    mmestim.JointClassifier : Classifier that takes this as `balancer`.

    Notes
    -----
    For each encoder let a be the gradient of the fused loss and u the gradient of its head's loss, multiplied by
    `unimodal_weight` if that is set. With w = 1/2 if a·u >= 0, else w = (u·u - a·u) / (a·a + u·u - 2 a·u), and
    h = 2 w a + 2 (1 - w) u, each parameter tensor t gets ``gamma * max(1, |a_t + u_t| / |h_t|) * h_t``, or zero where
    h_t is zero. Heads get the plain sum. All this follows the paper and its code, which has > in place of >=. The
    limits that the released solver sets on w apply only where one of the gradients is zero; the other gradient is then
    followed whatever w is. More than two modalities need no extension.

    The loss of one head reaches one encoder only. Two backward passes therefore suffice; the released code takes one
    per modality and two more. Adam divides a constant scale out again: under it `gamma` has no effect, and only the
    directions remain.

    `balance_history_` has ``weight`` (w, the weight of the fused gradient) and ``cosine`` (of a and u; 0 where one of
    them is zero).

    References
    ----------
    Yake Wei, Di Hu. MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance. ICML 2024.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import MMPareto
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=MMPareto(), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["weight"].shape
    (2, 2)
    """

    unimodal = "heads"

    def __init__(self, gamma: float = 1.5) -> None:
        self.gamma = gamma

    def begin(self, training: Training) -> None:
        check_number("gamma", self.gamma, closed=False)
        parameter_ids = [id(p) for parameters in training.parameters.values() for p in parameters]
        if len(set(parameter_ids)) < len(parameter_ids):
            raise ValueError(
                "balancer=MMPareto() needs separate gradients per encoder, and here two encoders share parameters. "
                "Give each modality an encoder of its own, or choose another balancer."
            )

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        fused = weighted_cross_entropy(outputs.logits, outputs.batch)
        unimodal = training.unimodal_weight * training.unimodal_loss(outputs.features, outputs.batch)
        self._losses = fused, unimodal
        return fused + unimodal

    def backward(self, training: Training, outputs: Outputs, loss: torch.Tensor) -> None:
        fused_loss, unimodal_loss = self.__dict__.pop("_losses")  # a graph could not be copied with `self`
        parameters = [p for p in training.module.parameters() if p.requires_grad]
        fused = dict(zip(parameters, _gradients(fused_loss, parameters, retain_graph=True), strict=True))
        unimodal = dict(zip(parameters, _gradients(unimodal_loss, parameters), strict=True))
        weights, cosines = [], []
        for name in training.names:
            pairs = {p: (fused.pop(p), unimodal.pop(p)) for p in training.parameters[name]}
            reached = [p for p, pair in pairs.items() if any(g is not None for g in pair)]
            weight, cosine = loss.new_full((), 0.5), loss.new_zeros(())
            if reached:
                both = ([torch.zeros_like(p) if (g := pairs[p][i]) is None else g for p in reached] for i in (0, 1))
                weight, cosine = self._combine(reached, *both)
            weights.append(weight)
            cosines.append(cosine)
        for p, a in fused.items():  # the parameters of the heads remain
            u = unimodal[p]
            p.grad = a if u is None else u if a is None else a + u
        training.record("weight", torch.stack(weights))
        training.record("cosine", torch.stack(cosines))

    def _combine(
        self, parameters: Sequence[torch.Tensor], fused: Sequence[torch.Tensor], unimodal: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Set the gradients of one encoder from those of the two losses; return their weight and cosine."""
        sizes = [p.numel() for p in parameters]
        a, u = (torch.cat([g.reshape(-1) for g in gradients]) for gradients in (fused, unimodal))
        aa, uu, au = a.dot(a), u.dot(u), a.dot(u)
        weight = torch.where(au < 0, (uu - au) / (aa + uu - 2 * au), 0.5)
        combined = (2 * torch.lerp(u, a, weight)).split(sizes)
        lengths = _norms(combined)
        factors = self.gamma * (_norms((a + u).split(sizes)) / lengths).clamp(min=1)
        factors = torch.where(lengths > 0, factors, 0.0)
        for p, h, factor in zip(parameters, combined, factors.unbind(), strict=True):
            p.grad = h.mul_(factor).view_as(p)
        norm_product = (aa * uu).sqrt()
        return weight, torch.where(norm_product > 0, au / norm_product, 0.0)


def _gradients(loss: torch.Tensor, parameters: Sequence[torch.Tensor], retain_graph: bool = False) -> Gradients:
    """Return the gradients of a loss, None for parameters that it does not reach."""
    if not loss.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)


def _norms(tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the norm of each tensor."""
    return torch.stack(torch._foreach_norm(tensors))
