"""Periodic functions of single columns."""

from __future__ import annotations

import math

import torch
from torch import nn


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
