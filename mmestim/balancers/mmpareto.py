"""MMPareto: each encoder follows a direction that serves both the fused loss and its unimodal loss."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from .._distributed.exchange import average
from .._training.losses import weighted_cross_entropy
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training

Gradients = Sequence[torch.Tensor | None]


class MMPareto(Balancer):
    """MMPareto: fused and unimodal gradients of an encoder are combined so that neither loss increases.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import MMPareto
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=MMPareto(), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["weight"].shape
    (2, 2)

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

    def begin_epoch(self, training: Training) -> None:
        # Listed in every epoch, because callbacks may freeze parameters.
        branches = [training.module.branch(name) for name in training.names]
        self._encoders = [_trainable(branch.encoder) for branch in branches]
        self._fusion_head = _trainable(training.module.fusion_head)
        self._heads = [p for branch in branches for p in _trainable(branch.head)]

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        fused = weighted_cross_entropy(outputs.logits, outputs.batch)
        unimodal = training.unimodal_weight * training.unimodal_loss(outputs.features, outputs.batch)
        self._losses = fused, unimodal
        return fused + unimodal

    def backward(self, training: Training, outputs: Outputs, loss: torch.Tensor) -> None:
        fused_loss, unimodal_loss = self.__dict__.pop("_losses")  # a graph could not be copied with `self`
        parameters = list(itertools.chain(*self._encoders))
        # Neither loss reaches the heads of the other.
        fused = _gradients(fused_loss, [*parameters, *self._fusion_head], retain_graph=True)
        unimodal = _gradients(unimodal_loss, [*parameters, *self._heads])
        averaged = average([*fused, *unimodal], [*parameters, *self._fusion_head, *parameters, *self._heads])
        fused, unimodal = averaged[: len(fused)], averaged[len(fused) :]
        n = len(parameters)
        for p, gradient in zip([*self._fusion_head, *self._heads], [*fused[n:], *unimodal[n:]], strict=True):
            p.grad = gradient
        pairs = {
            p: (_flat(a, p), _flat(u, p))
            for p, a, u in zip(parameters, fused[:n], unimodal[:n], strict=True)
            if a is not None or u is not None
        }
        reached = [[p for p in encoder if p in pairs] for encoder in self._encoders]
        weights, cosines = loss.new_full((len(reached),), 0.5), loss.new_zeros(len(reached))
        if pairs:
            weights, cosines = self._combine(reached, *zip(*pairs.values(), strict=True))
        training.record("weight", weights)
        training.record("cosine", cosines)

    def _combine(
        self,
        encoders: Sequence[Sequence[torch.Tensor]],
        fused: Sequence[torch.Tensor],
        unimodal: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Set the gradients of all encoders from those of the two losses; return their weights and cosines.

        Gradients are flat, in the order of the parameters of all encoders.
        """
        parameters = list(itertools.chain(*encoders))
        sizes, encoder_sizes = [p.numel() for p in parameters], [sum(p.numel() for p in ps) for ps in encoders]
        a, u = torch.cat(list(fused)), torch.cat(list(unimodal))
        pairs = list(zip(a.split(encoder_sizes), u.split(encoder_sizes), strict=True))
        products = [v.dot(w) for x, y in pairs for v, w in ((x, x), (y, y), (x, y))]
        aa, uu, au = torch.stack(products).view(-1, 3).unbind(1)
        weights = torch.where(au < 0, (uu - au) / (aa + uu - 2 * au), 0.5)
        # Half of h, of all encoders.
        halves = torch.cat([torch.lerp(y, x, w) for (x, y), w in zip(pairs, weights.unbind(), strict=True)])
        combined = halves.split(sizes)
        lengths = _norms(combined)
        factors = self.gamma * (_norms((a + u).split(sizes)) / lengths).clamp(min=2)
        torch._foreach_mul_(combined, torch.where(lengths > 0, factors, 0.0).unbind())
        for p, gradient in zip(parameters, combined, strict=True):
            p.grad = gradient.view_as(p)
        norm_products = (aa * uu).sqrt()
        return weights, torch.where(norm_products > 0, au / norm_products, 0.0)


def _trainable(module: nn.Module) -> list[torch.Tensor]:
    """Return the parameters of a module that are trained."""
    return [p for p in module.parameters() if p.requires_grad]


def _gradients(loss: torch.Tensor, parameters: Sequence[torch.Tensor], retain_graph: bool = False) -> Gradients:
    """Return the gradients of a loss, None for parameters that it does not reach."""
    if not loss.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)


def _flat(gradient: torch.Tensor | None, parameter: torch.Tensor) -> torch.Tensor:
    """Return a gradient as a vector, of zeros if it is None."""
    return torch.zeros_like(parameter).view(-1) if gradient is None else gradient.reshape(-1)


def _norms(tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the norm of each tensor."""
    return torch.stack(torch._foreach_norm(tensors))
