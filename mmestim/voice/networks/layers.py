"""Layers that the networks share: they know where a clip ends, and compute alike in float32 and bfloat16."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..._utils.validation import check_number
from .masking import mean_max_deviation, silence, silence_

Output = tuple[torch.Tensor, torch.Tensor]


class Block(nn.Sequential):
    """Layers in a row; frames past the end of a clip are silenced behind them, so that they reach no other frame.

    Parameters
    ----------
    *layers : nn.Module
        The layers.
    stride : int
        Frames that become one.
    pools : bool
        Whether they become one by pooling, which drops an incomplete last frame, and not by a padded convolution.
    """

    def __init__(self, *layers: nn.Module, stride: int = 1, pools: bool = False) -> None:
        super().__init__(*layers)
        self.stride, self.pools = stride, pools

    def frames(self, frames: torch.Tensor | None) -> torch.Tensor | None:
        """Numbers of real frames behind the block."""
        if frames is None:
            return None
        return ((frames if self.pools else frames + self.stride - 1) // self.stride).clamp(min=1)

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, frames: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        frames = self.frames(frames)
        if not isinstance(self[-1], nn.ReLU):
            return silence(super().forward(x), frames), frames
        for layer in list(self)[:-1]:
            x = layer(x)
        # A ReLU lets no gradient through where it gets zeros, so these can be put there without a copy.
        with torch.no_grad():
            silence_(x, frames)
        return self[-1](x), frames


def run_blocks(
    blocks: nn.ModuleList, x: torch.Tensor, frames: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Output of the blocks one after the other, and its numbers of real frames."""
    for block in blocks:
        x, frames = block(x, frames)
    return x, frames


def run_recurrent(rnn: nn.LSTM | nn.GRU, x: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
    """Outputs (n, n_frames, n_features), in float32; a second direction starts where the clip ends."""
    with torch.autocast(x.device.type, enabled=False):
        if frames is None or not rnn.bidirectional:
            return rnn(x.float())[0]
        packed = pack_padded_sequence(x.float(), frames.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class ClipHead(nn.Module):
    """From features over time to an embedding of the clip: mean, maximum and deviation of mixed channels.

    Parameters
    ----------
    n_features : int
        Channels times bins that come in.
    embedding_dim : int
        Length of the embedding.
    """

    def __init__(self, n_features: int, embedding_dim: int) -> None:
        super().__init__()
        n_mixed = 192
        self.mix = Block(nn.Conv1d(n_features, n_mixed, 1, bias=False), nn.BatchNorm1d(n_mixed), nn.ReLU())
        self.embed = nn.Sequential(nn.Linear(3 * n_mixed, embedding_dim), nn.ReLU())

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        x, frames = self.mix(x.flatten(1, -2), frames)
        return self.embed(mean_max_deviation(x.float(), frames))


class MaxFeatureMap(nn.Module):
    """The larger of two halves of the channels, at each place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, 1)
        return torch.where(first > second, first, second)  # whose gradient is cheaper than that of maximum


def conv_stack(front_end, widths, strides):
    """Convolutions with batch normalisation and ReLU, the first over 5 bins; and channels times bins behind them."""
    blocks, n_in, n_bins = [], front_end.n_channels, front_end.n_bins
    for n_out, stride, n_rows in zip(widths, strides, (5, *(3,) * len(widths)), strict=False):
        conv = nn.Conv2d(n_in, n_out, (n_rows, 3), stride, padding=(n_rows // 2, 1), bias=False)
        blocks.append(Block(conv, nn.BatchNorm2d(n_out), nn.ReLU(), stride=stride[1]))
        n_in, n_bins = n_out, -(-n_bins // stride[0])
    return channels_last(blocks), n_in * n_bins


def channels_last(blocks):
    """The blocks with weights in the memory format that makes few channels a quarter faster."""
    return nn.ModuleList(blocks).to(memory_format=torch.channels_last)


def check_sizes(**sizes):
    for name, value in sizes.items():
        check_number(name, value, low=1, integer=True)
