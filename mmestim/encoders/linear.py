"""Linear encoder."""

from __future__ import annotations

import torch
from torch import nn

from ._shapes import Shape, n_values
from .standardize import Standardize


class LinearEncoder(nn.Module):
    """Affine map of the standardised, flattened sample.

    >>> import torch
    >>> from mmestim.encoders import LinearEncoder
    >>> LinearEncoder((3, 4), embedding_dim=8)(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 8])

    `forward` maps a batch of shape ``(n_samples, *input_shape)`` to features of shape
    (n_samples, embedding_dim).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample.
    embedding_dim : int
        Length of the feature vector.

    Attributes
    ----------
    standardize : Standardize
        Input statistics.
    layers : nn.Sequential
        Flattening and the affine map.
    """

    def __init__(self, input_shape: Shape, embedding_dim: int) -> None:
        super().__init__()
        self.standardize = Standardize(input_shape)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(n_values(input_shape), embedding_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))
