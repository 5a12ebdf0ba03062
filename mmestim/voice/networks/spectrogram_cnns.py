"""Networks from waveforms to labels: clips of any length from 0.35 s at 16 kHz, padded with anything past their ends.

Each maps ``waveform`` of shape (n, n_samples) and ``lengths``, the number of real samples of each clip as an integer
tensor of shape (n,) or None where all are real, to logits of shape (n, n_outputs) and embeddings of shape
(n, embedding_dim), both float32 under autocast too. Gain does not matter (but see ``SSLNet``). In evaluation mode a
clip gives the same numbers, to rounding, whatever clips and however much padding come with it; while training, batch
normalisation counts the zeros past the ends.
"""

from __future__ import annotations

import torch
from torch import nn

from ..._utils.validation import check_number
from .._constants import PAST_END_LOGIT
from .front_ends import FrontEnd, LogSpectrogram, PhaseDifferences
from .layers import Block, ClipHead, Output, check_sizes, conv_stack, run_blocks
from .masking import within


class BoundaryNet(nn.Module):
    """Where a recording was cut, and what was pasted or mixed in: logits per frame of 10 ms.

    A small convolutional network on the log spectrum and the second differences of the phase. Unlike the others it
    answers for each frame.

    Parameters
    ----------
    n_maps : int, default=4
        Number of events to tell apart, for instance cut, edge of a paste, edge of a mix and inside of a mix.
    front_end : FrontEnd or None, default=None
        From :mod:`mmestim.voice.front_ends`; the network has one frame where it has two. `None` is
        ``PhaseDifferences()``, made for 16 kHz.

    Attributes
    ----------
    hop_length : int
        Samples from one frame of the output to the next; frame ``t`` is centred at sample ``t * hop_length``.

    Notes
    -----
    The forward pass gives logits of shape (n, n_maps, n_frames), -30 past the end of a clip, and embeddings of shape
    (n, 64, n_frames), 0 there.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.networks import BoundaryNet
    >>> logits, _ = BoundaryNet()(torch.randn(2, 16000))
    >>> logits.shape
    torch.Size([2, 4, 101])
    """

    def __init__(self, n_maps: int = 4, *, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        check_number("n_maps", n_maps, low=1, integer=True)
        self.front_end = PhaseDifferences() if front_end is None else front_end
        self.hop_length = 2 * self.front_end.hop_length
        self.blocks, n_features = conv_stack(
            self.front_end, widths=(8, 16, 24, 32), strides=((2, 1), (2, 1), (2, 2), (2, 1))
        )
        self.context = nn.ModuleList()
        for n_in, kernel, dilation in ((n_features, 3, 1), (64, 5, 2), (64, 5, 4)):
            conv = nn.Conv1d(n_in, 64, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)
            self.context.append(Block(conv, nn.BatchNorm1d(64), nn.ReLU()))
        self.head = nn.Conv1d(64, n_maps, 1)

    def frames(self, lengths: torch.Tensor | None) -> torch.Tensor | None:
        """Number of frames of the output within clips of these numbers of samples."""
        return None if lengths is None else 1 + lengths // self.hop_length

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        x, frames = self.front_end(waveform, lengths), self.front_end.frames(lengths)
        x, frames = run_blocks(self.blocks, x, frames)
        x, frames = run_blocks(self.context, x.flatten(1, 2), frames)
        logits = self.head(x).float()
        if frames is not None:
            logits = logits.masked_fill(~within(frames, logits.shape[-1])[:, None], PAST_END_LOGIT)
        return logits, x.float()


class SmallCNN(nn.Module):
    """Five convolutions of a spectrogram; beside them, if wanted, statistics of the clip made by hand.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    n_statistics : int, default=0
        Number of statistics that come with each clip, as third argument of the forward pass; 0 for none.
    embedding_dim : int, default=128
        Length of the embedding of the spectrogram; as much again comes from the statistics if there are any.
    dropout : float, default=0.3
        Share of the embedding that is dropped in training, from 0 to 1.
    front_end : FrontEnd or None, default=None
        From :mod:`mmestim.voice.front_ends`. `None` is ``LogSpectrogram()``.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.networks import SmallCNN
    >>> wide_and_deep = SmallCNN(21, n_statistics=50)
    >>> logits, embedding = wide_and_deep(torch.randn(2, 16000), None, torch.randn(2, 50))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 256]))
    """

    def __init__(
        self,
        n_outputs: int,
        *,
        n_statistics: int = 0,
        embedding_dim: int = 128,
        dropout: float = 0.3,
        front_end: FrontEnd | None = None,
    ) -> None:
        super().__init__()
        check_sizes(n_outputs=n_outputs, embedding_dim=embedding_dim)
        check_number("n_statistics", n_statistics, integer=True)
        self.front_end = LogSpectrogram() if front_end is None else front_end
        self.blocks, n_features = conv_stack(
            self.front_end, widths=(12, 24, 48, 72, 96), strides=((2, 2), (2, 2), (2, 2), (2, 1), (2, 2))
        )
        self.deep = ClipHead(n_features, embedding_dim)
        self.n_statistics, self.wide = n_statistics, None
        if n_statistics:
            self.wide = nn.Sequential(nn.BatchNorm1d(n_statistics), nn.Linear(n_statistics, embedding_dim), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear((1 if self.wide is None else 2) * embedding_dim, n_outputs)

    def forward(
        self, waveform: torch.Tensor, lengths: torch.Tensor | None = None, statistics: torch.Tensor | None = None
    ) -> Output:
        got = 0 if statistics is None else statistics.shape[-1]
        if got != self.n_statistics:
            raise ValueError(
                f"statistics has {got} columns, but the network was made for n_statistics={self.n_statistics}."
            )
        x, frames = self.front_end(waveform, lengths), self.front_end.frames(lengths)
        embedding = self.deep(*run_blocks(self.blocks, x, frames))
        if self.wide is not None:
            embedding = torch.cat([embedding, self.wide(statistics)], 1)
        return self.head(self.dropout(embedding)).float(), embedding.float()
