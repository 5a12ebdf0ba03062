"""Multi-layer perceptron for vectors."""

from __future__ import annotations

import torch
from torch import nn

from ._shapes import Shape, n_values
from .standardize import Standardize


class MLPEncoder(nn.Module):
    """Two fully connected layers on the standardised, flattened sample.

    >>> import torch
    >>> from mmestim.encoders import MLPEncoder
    >>> MLPEncoder((40,), embedding_dim=8)(torch.zeros(2, 40)).shape
    torch.Size([2, 8])

    The hidden layer has twice the length of the feature vector, and both layers end with a ReLU.
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
        Flattening and the two layers.
    """

    def __init__(self, input_shape: Shape, embedding_dim: int) -> None:
        super().__init__()
        n_hidden = 2 * embedding_dim
        self.standardize = Standardize(input_shape)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(n_values(input_shape), n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, embedding_dim),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))
