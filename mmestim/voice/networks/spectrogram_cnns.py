"""Convolutional networks on a spectrogram: one with an output per frame, one with an output per clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..._utils.validation import check_number
from .._constants import PAST_END_LOGIT
from .front_ends import FrontEnd, LogSpectrogram, PhaseDifferences
from .layers import Block, ClipHead, Output, check_sizes, conv_stack, run_blocks
from .masking import length_mask


class BoundaryNet(nn.Module):
    """Convolutional network that detects events, such as splice points, in each frame of 10 ms.

    >>> import torch
    >>> from mmestim.voice.networks import BoundaryNet
    >>> logits, _ = BoundaryNet()(torch.randn(2, 16000))
    >>> logits.shape
    torch.Size([2, 4, 101])

    Its input is the log power spectrum and the second differences of the phase. The other networks have one output
    per clip; this one has one per frame.

    Parameters
    ----------
    n_maps : int, default=4
        Number of event types, for instance cut, edge of a paste, edge of a mix and inside of a mix.
    front_end : FrontEnd or None, default=None
        Front end from :mod:`mmestim.voice.networks.front_ends`. The network outputs one frame for every two frames
        of the front end. `None` is ``PhaseDifferences()``, which is meant for 16 kHz.

    Attributes
    ----------
    hop_length : int
        Number of samples between output frames; frame ``t`` is centred at sample ``t * hop_length``.

    Notes
    -----
    The forward pass returns logits of shape (n_clips, n_maps, n_frames), -30 past the end of a clip, and embeddings of
    shape (n_clips, 64, n_frames), 0 past the end of a clip.
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
        """Return the number of output frames of clips with these numbers of samples."""
        return None if lengths is None else 1 + lengths // self.hop_length

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        """Return logits (n_clips, n_maps, n_frames) and embeddings (n_clips, 64, n_frames)."""
        return self.outputs(self.front_end(waveform, lengths), self.front_end.frames(lengths))

    def outputs(self, features: torch.Tensor, frames: torch.Tensor | None) -> Output:
        """Return the outputs for features of the front end, of which `frames` are real."""
        x, frames = run_blocks(self.blocks, features, frames)
        x, frames = run_blocks(self.context, x.flatten(1, 2), frames)
        logits = self.head(x).float()
        if frames is not None:
            logits = logits.masked_fill(~length_mask(frames, logits.shape[-1])[:, None], PAST_END_LOGIT)
        return logits, x.float()


class SmallCNN(nn.Module):
    """Network of five convolutions on a spectrogram, with an optional second input of hand-crafted statistics.

    >>> import torch
    >>> from mmestim.voice.networks import SmallCNN
    >>> wide_and_deep = SmallCNN(21, n_statistics=50)
    >>> logits, embedding = wide_and_deep(torch.randn(2, 16000), None, torch.randn(2, 50))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 256]))

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    n_statistics : int, default=0
        Number of statistics of each clip, the third argument of the forward pass; 0 for none.
    embedding_dim : int, default=128
        Length of the embedding of the spectrogram. If there are statistics, their embedding has the same length and
        is appended.
    dropout : float, default=0.3
        Dropout probability of the embedding, from 0 to 1.
    front_end : FrontEnd or None, default=None
        Front end from :mod:`mmestim.voice.networks.front_ends`. `None` is ``LogSpectrogram()``.

    Notes
    -----
    The forward pass takes `waveform` of shape (n_clips, n_samples), `lengths` of shape (n_clips,) or None, and
    `statistics` of shape (n_clips, n_statistics) or None. It returns logits of shape (n_clips, n_outputs) and
    embeddings of shape (n_clips, embedding_dim), or (n_clips, 2 * embedding_dim) with statistics.
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
        """Return logits (n_clips, n_outputs) and embeddings (n_clips, embedding_dim or twice that)."""
        n_columns = 0 if statistics is None else statistics.shape[-1]
        if n_columns != self.n_statistics:
            raise ValueError(
                f"statistics has {n_columns} columns, but the network was built with n_statistics={self.n_statistics}."
            )
        return self.outputs(self.front_end(waveform, lengths), self.front_end.frames(lengths), statistics)

    def outputs(
        self, features: torch.Tensor, frames: torch.Tensor | None, statistics: torch.Tensor | None = None
    ) -> Output:
        """Return the outputs for features of the front end, of which `frames` are real."""
        embedding = self.deep(*run_blocks(self.blocks, features, frames))
        if self.wide is not None:
            embedding = torch.cat([embedding, self.wide(statistics)], 1)
        return self.head(self.dropout(embedding)).float(), embedding.float()


class SharedFrontEnd(nn.Module):
    """Networks with equal front ends, of which one runs for all.

    >>> import torch
    >>> from mmestim.voice.networks import BoundaryNet, SharedFrontEnd
    >>> logits, _ = SharedFrontEnd(BoundaryNet(4), BoundaryNet(2))(torch.randn(2, 16000))
    >>> logits.shape
    torch.Size([2, 6, 101])

    Parameters
    ----------
    *networks : nn.Module
        The networks: each a `BoundaryNet`, or each a `SmallCNN`.

    Notes
    -----
    The forward pass takes the arguments of the networks. It returns their outputs concatenated along the channels: the
    maps, or the logits of whole clips.
    """

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(
        self,
        waveform: torch.Tensor,
        lengths: torch.Tensor | None = None,
        *statistics: torch.Tensor,
        is_scaled: bool = False,
    ) -> Output:
        """Return the concatenated logits and embeddings. The front end does not scale waveforms that `is_scaled`."""
        networks: list[Any] = list(self.networks)
        front_end = networks[0].front_end
        features, frames = front_end(waveform, lengths, is_scaled=is_scaled), front_end.frames(lengths)
        outputs = (network.outputs(features, frames, *statistics) for network in networks)
        logits, embeddings = zip(*outputs, strict=True)
        return torch.cat(logits, 1), torch.cat(embeddings, 1)
