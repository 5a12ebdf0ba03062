"""Encoders for vectors: an affine map, a multi-layer perceptron, and both side by side."""

from __future__ import annotations

import math

import torch
from torch import nn

from .standardize import REFERENCE_WIDTH, Shape, SoftStandardize, Standardize

# Largest number of columns with a periodic embedding, chosen on validation rows of real sets.
_MAX_EMBEDDED_COLUMNS = 128


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


class PeriodicEmbedding(nn.Module):
    """Embedding of each column by cosines of learned frequencies.

    >>> import torch
    >>> from mmestim.encoders import PeriodicEmbedding
    >>> PeriodicEmbedding(5)(torch.zeros(2, 5)).shape
    torch.Size([2, 15])

    A column x becomes ``n_outputs`` linear combinations of ``cos(2 pi f x + b)`` with ``n_frequencies``
    pairs of f and b. Columns do not mix. A perceptron behind it learns functions that are not smooth, as
    trees do, which it learns slowly from the columns themselves (arXiv:2203.05556, and arXiv:2407.04491
    for the shifted cosine). The initial frequencies, which are ours, are log-normal: two thirds of them
    are between 0.11 and 0.82. `forward` maps (..., n_columns) to (..., n_columns * n_outputs).

    Parameters
    ----------
    n_columns : int
        Number of columns, which should be standardised.
    n_frequencies : int, default=8
        Number of cosines of each column.
    n_outputs : int, default=3
        Number of values that each column becomes.

    Attributes
    ----------
    frequency, shift : nn.Parameter of shape (n_columns, n_frequencies)
        Frequencies, and shifts in radians.
    weight : nn.Parameter of shape (n_columns, n_frequencies, n_outputs)
        Weights of the linear combinations.
    """

    def __init__(self, n_columns: int, n_frequencies: int = 8, n_outputs: int = 3) -> None:
        super().__init__()
        shape = (n_columns, n_frequencies)
        self.frequency = nn.Parameter(0.3 * torch.randn(shape).exp())
        self.shift = nn.Parameter(math.pi * (2 * torch.rand(shape) - 1))
        self.weight = nn.Parameter(torch.randn(*shape, n_outputs) / n_frequencies**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        waves = torch.cos(2 * math.pi * self.frequency * x.unsqueeze(-1) + self.shift)
        # ONNX has no ellipsis of a length that differs between the operands; stacked weights have further axes.
        equation = "...ck,cko->...co" if self.weight.ndim == 3 else "...ck,...cko->...co"
        return torch.einsum(equation, waves, self.weight).flatten(-2)


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


def n_values(shape: Shape) -> int:
    """Return the number of values of one sample."""
    return torch.Size(shape).numel()
