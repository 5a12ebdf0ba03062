"""The light CNN."""

from __future__ import annotations

import torch
from torch import nn

from .front_ends import LFCC, FrontEnd
from .layers import Block, MaxFeatureMap, Output, channels_last, check_sizes, run_blocks, run_recurrent
from .masking import mean


class LCNN(nn.Module):
    """Light CNN: convolutions with max-feature-map activations, two bidirectional LSTM layers, a mean over time.

    The baseline of ASVspoof 2021, with cepstra of the whole band instead of its lower half.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    dropout : float, default=0.7
        Share of the features dropped before the LSTM in training, from 0 to 1.
    front_end : FrontEnd or None, default=None
        From :mod:`mmestim.voice.front_ends`, with 16 bins or more. `None` is ``LFCC()``, for 16 kHz.

    References
    ----------
    .. [1] X. Wang and J. Yamagishi, "A comparative study on recent neural spoofing countermeasures for synthetic speech
       detection", Interspeech 2021.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.networks import LCNN
    >>> logits, embedding = LCNN(21)(torch.randn(2, 16000))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 96]))
    """

    def __init__(self, n_outputs: int, *, dropout: float = 0.7, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        check_sizes(n_outputs=n_outputs)
        self.front_end = LFCC() if front_end is None else front_end

        def convolve(n_in, n_out, kernel, *, pools=False, normalizes=True):
            layers = [nn.Conv2d(n_in, 2 * n_out, kernel, padding=kernel // 2), MaxFeatureMap()]
            layers += [nn.MaxPool2d(2)] if pools else []
            layers += [nn.BatchNorm2d(n_out, affine=False)] if normalizes else []
            return Block(*layers, stride=2 if pools else 1, pools=pools)

        self.blocks = channels_last(
            [
                convolve(self.front_end.n_channels, 32, 5, pools=True, normalizes=False),
                convolve(32, 32, 1),
                convolve(32, 48, 3, pools=True),
                convolve(48, 48, 1),
                convolve(48, 64, 3, pools=True, normalizes=False),
                convolve(64, 64, 1),
                convolve(64, 32, 3),
                convolve(32, 32, 1),
                convolve(32, 32, 3, pools=True, normalizes=False),
            ]
        )
        self.dropout = nn.Dropout(dropout)
        size = self.front_end.n_bins // 16 * 32
        self.lstm = nn.LSTM(size, size // 2, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(size, n_outputs)

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        x, frames = self.front_end(waveform, lengths), self.front_end.frames(lengths)
        x, frames = run_blocks(self.blocks, x, frames)
        x = self.dropout(x).flatten(1, 2).mT.float()
        embedding = mean((x + run_recurrent(self.lstm, x, frames)).mT, frames)
        return self.head(embedding).float(), embedding
