"""Encoder for token ids."""

from __future__ import annotations

import torch
from torch import nn

from .._utils.validation import check_number
from .standardize import Shape

# Blocks hold integers as float32, which is exact up to here.
_MAX_VOCABULARY = 2**24


class TextEncoder(nn.Module):
    """Mean of the trained vectors of the tokens, and one fully connected layer.

    >>> import torch
    >>> from mmestim.encoders import TextEncoder
    >>> encoder = TextEncoder((4,), embedding_dim=8, vocabulary_size=100)
    >>> padded = torch.tensor([[7, 99, 0, 0], [0, 99, 0, 7]])
    >>> bool((encoder(padded)[0] == encoder(padded)[1]).all())
    True

    Samples are token ids, padded to one length by 0. The mean is over the ids that are not 0, so neither
    the order of the tokens nor the padding matters. The vector of a text without tokens is 0. `forward` maps a
    batch of integers of shape (n_samples, length) to features of shape (n_samples, embedding_dim).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample: (length,).
    embedding_dim : int
        Length of the vectors of the tokens, and of the feature vector.
    vocabulary_size : int, default=32768
        Number of ids, which are 0 to ``vocabulary_size - 1``, with 0 for padding. The default holds the
        vocabulary of BERT and costs ``32768 * embedding_dim`` weights. Classifiers check the ids of `fit` and
        of predictions against it.

    Attributes
    ----------
    input_dtype : torch.dtype
        Type of the input, ``torch.int64``.
    input_range : tuple of int
        The lowest and the highest id.
    embedding : nn.Embedding
        Vectors of the tokens.
    layers : nn.Sequential
        The fully connected layer, which ends with a ReLU.

    Raises
    ------
    ValueError
        If samples have more than one axis, or `vocabulary_size` is below 2 or above 2**24.

    Notes
    -----
    This is the network of fastText (Joulin et al. 2017) with a hidden layer. Vectors start with a standard deviation
    of 0.1 (ours).
    """

    input_dtype = torch.int64

    def __init__(self, input_shape: Shape, embedding_dim: int, vocabulary_size: int = 2**15) -> None:
        super().__init__()
        check_number("vocabulary_size", vocabulary_size, low=2, high=_MAX_VOCABULARY, integer=True)
        if len(input_shape) != 1:
            raise ValueError(
                f"text needs samples of shape (length,) with one token id per place, got {tuple(input_shape)}."
            )
        self.input_range = (0, vocabulary_size - 1)
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.layers = nn.Sequential(nn.Linear(embedding_dim, embedding_dim), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        is_token = (x != 0).unsqueeze(-1)
        # The product with the mask, and not `padding_idx`, keeps padding out whatever its vector is.
        total = (self.embedding(x) * is_token).sum(1)
        return self.layers(total / is_token.sum(1).clamp(min=1))
