"""Frozen encoders, whose features are computed once and replace the blocks in training."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from ..encoders.trial import input_dtype, input_range
from .fold_networks import FoldEncoders
from .multimodal_networks import Branch


class FrozenEncoder(NamedTuple):
    """Encoder without training. In training an `nn.Identity` stands for it, which receives its features as the block.

    Attributes
    ----------
    encoder : nn.Module
        The encoder, in eval mode.
    input_shape : tuple of int
        Shape of one sample of its block.
    n_features : int
        Length of its feature vectors.
    """

    encoder: nn.Module
    input_shape: tuple[int, ...]
    n_features: int

    def stand_in(self) -> tuple[nn.Module, int]:
        """Return the encoder of a branch in training, and its number of features."""
        return nn.Identity(), self.n_features

    def restore(self, branch: Branch) -> None:
        """Put the encoder in its place in a trained branch, which all networks of the branch share."""
        joined = branch.encoder
        n_networks = len(joined.encoders) if isinstance(joined, FoldEncoders) else 0
        branch.encoder = FoldEncoders([self.encoder] * n_networks) if n_networks else self.encoder
        branch.input_dtype = input_dtype(self.encoder, branch.name)
        branch.input_range = input_range(self.encoder, branch.name)
