"""Linear encoder."""

from __future__ import annotations

import torch
from torch import nn

from ._shapes import Shape, n_values
from .standardize import Standardize


class LinearEncoder(nn.Module):
    """One affine map of the flattened sample."""

    def __init__(self, input_shape: Shape, embedding_dim: int) -> None:
        super().__init__()
        self.standardize = Standardize(input_shape)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(n_values(input_shape), embedding_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))
