"""Standardisation of blocks inside encoders."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ._shapes import Shape


class Standardize(nn.Module):
    """Inputs shifted and scaled by statistics of the training rows, set once before training.

    Built-in encoders begin with it, so that columns of any scale train with the same learning rate.

    Parameters
    ----------
    shape : tuple of int
        Shape of the statistics, that of a sample; axes of size one share theirs.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    is_fitted: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("is_fitted", torch.tensor(False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) * self.scale

    @torch.no_grad()
    def fit(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the statistics from one pass over batches of training rows."""
        # An average over an axis of one is the value itself, so pooling them all is safe.
        pooled = [0, *(axis + 1 for axis, size in enumerate(self.mean.shape) if size == 1)]
        count, mean, spread = 0.0, torch.zeros(()), torch.zeros(())
        for x in batches:
            variance, center = torch.var_mean(x.double(), dim=pooled, correction=0)
            weight, delta = len(x), center - mean
            # Chan's update: the statistics do not depend on how rows fall into batches.
            mean = mean + delta * weight / (count + weight)
            spread = spread + variance * weight + delta**2 * count * weight / (count + weight)
            count += weight
        deviation = (spread / max(count, 1)).sqrt()
        constant = deviation <= 1e-7 * mean.abs()
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.scale.copy_(torch.where(constant, 1.0, 1 / deviation).reshape(self.scale.shape))
        self.is_fitted.fill_(True)
