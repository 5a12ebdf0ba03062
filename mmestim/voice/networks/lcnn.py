"""Light CNN with an LSTM, on cepstral coefficients."""

from __future__ import annotations

import torch
from torch import nn

from .front_ends import LFCC, FrontEnd
from .layers import Block, MaxFeatureMap, Output, channels_last, check_sizes, run_blocks, run_recurrent
from .masking import masked_mean


class LCNN(nn.Module):
    """Light CNN: convolutions with max-feature-map activations, a bidirectional LSTM and a mean over time.

    >>> import torch
    >>> from mmestim.voice.networks import LCNN
    >>> logits, embedding = LCNN(21)(torch.randn(2, 16000))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 96]))

    This is the LFCC-LCNN baseline of ASVspoof 2021 [1]_, with one difference: the cepstra cover the whole band, not its
    lower half.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    dropout : float, default=0.7
        Dropout probability of the input of the LSTM, from 0 to 1.
    front_end : FrontEnd or None, default=None
        Front end from :mod:`mmestim.voice.networks.front_ends`, with 16 bins or more. `None` is ``LFCC()``, which is
        meant for 16 kHz.

    Notes
    -----
    The forward pass returns logits of shape (n_clips, n_outputs) and embeddings of shape
    (n_clips, 32 * (front_end.n_bins // 16)). The LSTM has two layers; its output is added to its input.

    References
    ----------
    .. [1] X. Wang and J. Yamagishi, "A comparative study on recent neural spoofing countermeasures for synthetic speech
       detection", Interspeech 2021.
    """

    def __init__(self, n_outputs: int, *, dropout: float = 0.7, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        check_sizes(n_outputs=n_outputs)
        self.front_end = LFCC() if front_end is None else front_end
        self.blocks = channels_last(
            [
                _conv_block(self.front_end.n_channels, 32, 5, pools=True, normalizes=False),
                _conv_block(32, 32, 1),
                _conv_block(32, 48, 3, pools=True),
                _conv_block(48, 48, 1),
                _conv_block(48, 64, 3, pools=True, normalizes=False),
                _conv_block(64, 64, 1),
                _conv_block(64, 32, 3),
                _conv_block(32, 32, 1),
                _conv_block(32, 32, 3, pools=True, normalizes=False),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        size = self.front_end.n_bins // 16 * 32
        self.lstm = nn.LSTM(size, size // 2, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(size, n_outputs)

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        """Return logits (n_clips, n_outputs) and embeddings (n_clips, embedding_dim)."""
        x, frames = self.front_end(waveform, lengths), self.front_end.frames(lengths)
        x, frames = run_blocks(self.blocks, x, frames)
        x = self.dropout(x).flatten(1, 2).mT.float()
        embedding = masked_mean((x + run_recurrent(self.lstm, x, frames)).mT, frames)
        return self.head(embedding).float(), embedding


def _conv_block(n_in: int, n_out: int, kernel: int, *, pools: bool = False, normalizes: bool = True) -> Block:
    """Build a convolution with max-feature-map activation, optional pooling and optional batch normalisation."""
    layers: list[nn.Module] = [nn.Conv2d(n_in, 2 * n_out, kernel, padding=kernel // 2), MaxFeatureMap()]
    layers += [nn.MaxPool2d(2)] if pools else []
    layers += [nn.BatchNorm2d(n_out, affine=False)] if normalizes else []
    return Block(*layers, stride=2 if pools else 1, pools=pools)
