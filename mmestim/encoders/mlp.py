"""Multi-layer perceptron for vectors."""

from __future__ import annotations

import torch
from torch import nn

from ._shapes import Shape, n_values
from .standardize import Standardize


class MLPEncoder(nn.Module):
    """Two fully connected layers on the flattened sample."""

    def __init__(self, input_shape: Shape, embedding_dim: int) -> None:
        super().__init__()
        hidden = 2 * embedding_dim
        self.standardize = Standardize(input_shape)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(n_values(input_shape), hidden),
            nn.ReLU(),
            nn.Linear(hidden, embedding_dim),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))
