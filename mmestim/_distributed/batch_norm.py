"""BatchNorm over the batch of all processes of a fit, on any device; torch's `SyncBatchNorm` needs a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .exchange import sum_over_processes
from .processes import n_processes, rank


@contextlib.contextmanager
def synchronized_batch_norm(module: nn.Module) -> Iterator[None]:
    """Let the BatchNorm layers of a module train on the statistics of the whole batch inside the context."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and n_processes() > 1]
    layers = [layer for layer in layers if not isinstance(layer, nn.SyncBatchNorm) and "forward" not in vars(layer)]
    for layer in layers:
        # The class stays, by which layers are recognised.
        layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    layer._check_input_dim(x)
    shape = [1, -1, *[1] * (x.ndim - 2)]
    values = x.float()
    mean, variance, n_values = _statistics(values)
    if layer.track_running_stats:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean, momentum)
            layer.running_var.lerp_(variance * (n_values / (n_values - 1)), momentum)
    normalised = (values - mean.view(shape)) * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.affine:
        normalised = normalised * layer.weight.view(shape) + layer.bias.view(shape)
    return normalised.to(x.dtype)


def _statistics(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mean and the biased variance of each channel over the values of all processes, and their number."""
    channels = values.transpose(0, 1).flatten(1)
    own_mean = channels.mean(1)
    own_squares = (channels - own_mean.unsqueeze(1)).square().sum(1)
    own = torch.cat([own_mean, own_squares, own_mean.new_full((1,), channels.shape[1])])
    table = sum_over_processes(F.pad(own.unsqueeze(0), (0, 0, rank(), n_processes() - rank() - 1)))
    means, squares, counts = table.split([len(own_mean), len(own_mean), 1], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    # Deviations from each process's own mean keep the precision that a difference of mean squares would lose.
    return mean, (squares + counts * (means - mean).square()).sum(0) / total, total
