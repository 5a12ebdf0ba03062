"""Networks of one shape stacked into one, whose layers are batched products."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import nn

from ..encoders.standardize import SoftStandardize, Standardize
from ..encoders.vectors import LinearEncoder, MLPEncoder, PeriodicEmbedding, TabularEncoder
from .multimodal_networks import Branch

# Modules without tensors of their own: a stack has the same forward pass, over stacked children.
_CONTAINERS = {nn.Sequential, LinearEncoder, MLPEncoder, TabularEncoder, Branch}

# Layers without tensors, which treat every value or the last axis alone.
_STATELESS = {nn.ReLU, nn.Tanh, nn.GELU, nn.SELU, nn.SiLU, nn.Mish, nn.Dropout, nn.Identity}

# Layers whose tensors act on single columns, so that they only need an axis for the rows.
_COLUMNWISE = {Standardize, SoftStandardize, PeriodicEmbedding}

M = TypeVar("M", bound=nn.Module)


class StackedLinear(nn.Module):
    """Linear layers of several networks, each on its own rows.

    `forward` maps inputs of shape (n_networks, n_rows, n_inputs) to (n_networks, n_rows, n_outputs).

    Parameters
    ----------
    layers : sequence of nn.Linear
        One layer per network, all of one shape.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(_stacked([layer.weight for layer in layers]))
        has_bias = layers[0].bias is not None
        self.bias = nn.Parameter(_stacked([layer.bias for layer in layers])) if has_bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


def stack_networks(networks: Sequence[M]) -> M | None:
    """Return one network that computes several of them at once, or None if a layer has no stacked form.

    Every tensor of the result has one more axis in front, over the networks, and so have inputs and
    outputs. A training step costs little more than that of a single network if the networks are small.

    Parameters
    ----------
    networks : sequence of nn.Module
        Networks of one architecture.

    Returns
    -------
    nn.Module or None
        Stack with weights of its own; see `copy_weights_back`.
    """
    layers = list(networks[0].modules())
    supported = {nn.Linear, nn.Flatten, *_CONTAINERS, *_STATELESS, *_COLUMNWISE}
    is_supported = all(type(layer) in supported and not _has_hooks(layer) for layer in layers)
    # A layer that occurs twice would become two layers.
    n_occurrences = sum(1 for _ in networks[0].named_modules(remove_duplicate=False))
    tensors = [*networks[0].parameters(), *networks[0].buffers()]
    is_plain = all(type(tensor) in (nn.Parameter, torch.Tensor) for tensor in tensors)
    if not is_supported or not is_plain or n_occurrences > len(layers):
        return None
    return cast(M, _stack(networks))


@torch.no_grad()
def copy_weights_back(stack: nn.Module, networks: Sequence[nn.Module]) -> None:
    """Set the weights of the networks to those of their stack."""
    parameters = dict(stack.named_parameters())
    for number, network in enumerate(networks):
        for name, parameter in network.named_parameters():
            parameter.copy_(parameters[name][number].reshape(parameter.shape))


def _stack(networks: Sequence[nn.Module]) -> nn.Module:
    first = networks[0]
    if type(first) is nn.Linear:
        stacked: nn.Module = StackedLinear(cast(Sequence[nn.Linear], networks))
        trainable = [parameter.requires_grad for parameter in first.parameters()]
        for parameter, requires_grad in zip(stacked.parameters(), trainable, strict=True):
            parameter.requires_grad_(requires_grad)
        return stacked
    if type(first) is nn.Flatten:
        return nn.Flatten(first.start_dim + 1, first.end_dim if first.end_dim < 0 else first.end_dim + 1)
    shell = copy.copy(first)
    shell._parameters, shell._buffers, shell._modules = {}, {}, {}
    # The new axis of the rows lets tensors of one value per column apply to all of them.
    for name, parameter in first.named_parameters(recurse=False):
        values = [cast(torch.Tensor, network._parameters[name]) for network in networks]
        shell.register_parameter(name, nn.Parameter(_stacked(values).unsqueeze(1), parameter.requires_grad))
    for name, buffer in first._buffers.items():
        is_shared = buffer is None or buffer.dim() == 0
        values = [cast(torch.Tensor, network._buffers[name]) for network in networks]
        shell.register_buffer(name, buffer if is_shared else _stacked(values).unsqueeze(1))
    for name, child in first._modules.items():
        children = [cast(nn.Module, network._modules[name]) for network in networks]
        shell.add_module(name, cast(nn.Module, None) if child is None else _stack(children))
    return shell


def _stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([tensor.detach() for tensor in tensors])


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)
