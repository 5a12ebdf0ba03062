"""Encoder for vectors: a linear map and a multi-layer perceptron side by side."""

from __future__ import annotations

import torch
from torch import nn

from ._shapes import Shape, n_values
from .periodic import PeriodicEmbedding
from .standardize import REFERENCE_WIDTH, SoftStandardize

# Largest number of columns with a periodic embedding, chosen on validation rows of real sets.
_MAX_EMBEDDED_COLUMNS = 128


class TabularEncoder(nn.Module):
    """Sum of an affine map and a multi-layer perceptron of the scaled, flattened sample.

    >>> import torch
    >>> from mmestim.encoders import TabularEncoder
    >>> TabularEncoder((40,), embedding_dim=8)(torch.zeros(2, 40)).shape
    torch.Size([2, 8])

    With a linear head, the affine map alone is a logistic regression of rank `embedding_dim` or less.
    The perceptron, whose hidden layer has twice the length of the feature vector, adds what is not
    linear. Samples of up to 128 values also reach it through a periodic embedding of each value, with
    which it learns steps and narrow ranges, as trees do. `forward` maps a batch of shape
    ``(n_samples, *input_shape)`` to features of shape (n_samples, embedding_dim).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample.
    embedding_dim : int
        Length of the feature vector.

    Attributes
    ----------
    standardize : SoftStandardize
        Input statistics.
    flatten : nn.Flatten
        Flattening.
    embedding : PeriodicEmbedding or None
        Embedding of each value; None for longer samples.
    linear : nn.Linear
        The affine map.
    layers : nn.Sequential
        The perceptron.
    """

    def __init__(self, input_shape: Shape, embedding_dim: int) -> None:
        super().__init__()
        n_inputs, n_hidden = n_values(input_shape), 2 * embedding_dim
        self.standardize = SoftStandardize(input_shape)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(n_inputs, embedding_dim)
        self.embedding = PeriodicEmbedding(n_inputs) if n_inputs <= _MAX_EMBEDDED_COLUMNS else None
        n_embedded = 0 if self.embedding is None else n_inputs * self.embedding.weight.shape[-1]
        hidden = nn.Linear(n_inputs + n_embedded, n_hidden)
        self.layers = nn.Sequential(hidden, nn.ReLU(), nn.Linear(n_hidden, embedding_dim))
        with torch.no_grad():
            # Undo the factor by which `SoftStandardize` scales wide blocks, so that only steps become smaller.
            for layer in (self.linear, hidden):
                layer.weight.mul_(max(1, n_inputs / REFERENCE_WIDTH) ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.flatten(self.standardize(x))
        embedded = x if self.embedding is None else torch.cat([x, self.embedding(x)], dim=-1)
        return self.linear(x) + self.layers(embedded)
