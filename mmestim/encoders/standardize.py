"""Standardisation of blocks inside encoders."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ._shapes import Shape


class Standardize(nn.Module):
    """Standardisation of inputs by statistics of the training rows, which are set once before training.

    Built-in encoders begin with it, so that columns of any scale train with the same learning rate.
    Before `fit` it returns inputs unchanged. `forward` keeps the shape of its input.

    Parameters
    ----------
    shape : tuple of int
        Shape of the statistics: the shape of a sample, with size 1 on axes that are pooled.

    Attributes
    ----------
    mean : Tensor
        Mean of the training rows, of shape `shape`.
    scale : Tensor
        Reciprocal of the standard deviation, of shape `shape`; 1 for constant columns.
    is_fitted : Tensor
        Boolean tensor without axes: whether the statistics are set.

    Examples
    --------
    >>> import torch
    >>> from mmestim.encoders import Standardize
    >>> standardize = Standardize((1,))
    >>> standardize.fit([torch.tensor([[1.0], [3.0]])])
    >>> standardize(torch.tensor([[5.0]]))
    tensor([[3.]])
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
        """Set the statistics in one pass over the training rows.

        Parameters
        ----------
        batches : iterable of Tensor
            Batches of training rows, each of shape (n_rows, *sample_shape).
        """
        # Pooling an axis whose samples have size 1 too changes nothing.
        pooled = [0, *(axis + 1 for axis, size in enumerate(self.mean.shape) if size == 1)]
        count, mean, sum_of_squares = 0.0, torch.zeros(()), torch.zeros(())
        for x in batches:
            variance, center = torch.var_mean(x.double(), dim=pooled, correction=0)
            weight, delta = len(x), center - mean
            # With Chan's update the statistics do not depend on the batch size.
            mean = mean + delta * weight / (count + weight)
            sum_of_squares = sum_of_squares + variance * weight + delta**2 * count * weight / (count + weight)
            count += weight
        deviation = (sum_of_squares / max(count, 1)).sqrt()
        constant = deviation <= 1e-7 * mean.abs()
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.scale.copy_(torch.where(constant, 1.0, 1 / deviation).reshape(self.scale.shape))
        self.is_fitted.fill_(True)
