"""Encoders that read a batch in parts and keep no activations, which the backward pass computes again part by part."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


def encode_in_parts(encoder: nn.Module, x: torch.Tensor, n_parts: int, dim: int = 0) -> torch.Tensor:
    """Return the features of a block, of which one part at a time has its activations in memory.

    Parameters
    ----------
    encoder : nn.Module
        Encoder in training mode.
    x : Tensor
        The block.
    n_parts : int
        Number of parts of nearly equal size.
    dim : int, default=0
        Axis of the rows.

    Returns
    -------
    Tensor
        Features of all rows, which are the axis before the last.
    """
    layers = [layer for layer in encoder.modules() if isinstance(layer, _NormBase)]
    parts = [
        checkpoint(encoder, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _KeptStatistics(layers)))
        for part in x.tensor_split(n_parts, dim)
    ]
    return torch.cat(parts, -2)


class _KeptStatistics(AbstractContextManager["_KeptStatistics"]):
    """Context in which BatchNorm and InstanceNorm layers leave their running statistics as they are.

    It is entered once for each backward pass through a graph.

    Parameters
    ----------
    layers : list of _NormBase
        The layers.
    """

    def __init__(self, layers: list[_NormBase]) -> None:
        self.layers = layers

    def __enter__(self) -> Self:
        self._before = [(layer.momentum, layer.num_batches_tracked) for layer in self.layers]
        for layer in self.layers:
            layer.momentum = 0.0
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked = layer.num_batches_tracked.clone()
        return self

    def __exit__(self, *error: object) -> None:
        for layer, (momentum, n_batches) in zip(self.layers, self._before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, n_batches
