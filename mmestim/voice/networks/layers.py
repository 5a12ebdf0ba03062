"""Layers that the networks share.

They keep track of where each clip of a padded batch ends, and give the same results in float32 and, to rounding, in
bfloat16. ``frames`` is the number of real frames of each clip, an integer tensor of shape (n,), or None if no clip is
padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..._utils.validation import check_number
from .front_ends import FrontEnd
from .masking import mean_max_std, zero_padding, zero_padding_

#: Logits and embeddings.
Output = tuple[torch.Tensor, torch.Tensor]

_FOLDABLE = {(nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d)}


class Block(nn.Sequential):
    """Sequence of layers that zeroes the frames past the end of each clip, so that padding reaches no real frame.

    Parameters
    ----------
    *layers : nn.Module
        The layers.
    stride : int, default=1
        Factor by which the layers reduce the number of frames.
    pools : bool, default=False
        Whether the reduction is a pooling, which drops an incomplete last frame, and not a padded convolution.
    """

    def __init__(self, *layers: nn.Module, stride: int = 1, pools: bool = False) -> None:
        super().__init__(*layers)
        self.stride, self.pools = stride, pools

    def frames(self, frames: torch.Tensor | None) -> torch.Tensor | None:
        """Return the number of real frames of each clip in the output."""
        if frames is None:
            return None
        return ((frames if self.pools else frames + self.stride - 1) // self.stride).clamp(min=1)

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, frames: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the output of the layers, zero in the padding, and its number of real frames."""
        frames, layers = self.frames(frames), list(self)
        if not self.training and not torch.is_grad_enabled() and _can_fold(layers):
            x, layers = _folded(layers[0], layers[1], x), layers[2:]
        is_rectified = bool(layers) and isinstance(layers[-1], nn.ReLU)
        for layer in layers[:-1] if is_rectified else layers:
            x = layer(x)
        if not is_rectified:
            return zero_padding(x, frames), frames
        # A ReLU passes no gradient where its input is zero, so the input can be masked in place, without a copy.
        with torch.no_grad():
            zero_padding_(x, frames)
        return x.relu_(), frames


def _can_fold(layers: Sequence[nn.Module]) -> bool:
    """Return whether the first two layers are a convolution and its batch normalisation."""
    if len(layers) < 2 or (type(layers[0]), type(layers[1])) not in _FOLDABLE:
        return False
    return bool(layers[1].track_running_stats)


def _folded(conv: Any, norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply a convolution and its batch normalisation in evaluation as one convolution, up to rounding errors."""
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return conv._conv_forward(x, weight, bias)


def run_blocks(
    blocks: nn.ModuleList, x: torch.Tensor, frames: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Apply blocks one after the other and return the last output and its numbers of real frames."""
    for block in blocks:
        x, frames = block(x, frames)
    return x, frames


def run_recurrent(rnn: nn.LSTM | nn.GRU, x: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
    """Run a recurrent network so that its backward direction starts at the end of the clip, not of the padding.

    Parameters
    ----------
    rnn : nn.LSTM or nn.GRU
        The network.
    x : Tensor of shape (n, n_frames, n_inputs)
        Its input.
    frames : int Tensor of shape (n,) or None
        Number of real frames of each clip.

    Returns
    -------
    float32 Tensor of shape (n, n_frames, n_features)
        Its outputs.
    """
    with torch.autocast(x.device.type, enabled=False):
        if frames is None or not rnn.bidirectional:
            return rnn(x.float())[0]
        packed = pack_padded_sequence(x.float(), frames.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class ClipHead(nn.Module):
    """Head that pools features over time into an embedding of the clip.

    A 1x1 convolution mixes the channels; their means, maxima and standard deviations over time enter a linear layer
    with ReLU.

    Parameters
    ----------
    n_features : int
        Number of input channels times number of bins.
    embedding_dim : int
        Length of the embedding.
    """

    def __init__(self, n_features: int, embedding_dim: int) -> None:
        super().__init__()
        n_mixed = 192
        self.mix = Block(nn.Conv1d(n_features, n_mixed, 1, bias=False), nn.BatchNorm1d(n_mixed), nn.ReLU())
        self.embed = nn.Sequential(nn.Linear(3 * n_mixed, embedding_dim), nn.ReLU())

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        """Map features (n, ..., n_frames) to embeddings (n, embedding_dim)."""
        x, frames = self.mix(x.flatten(1, -2), frames)
        return self.embed(mean_max_std(x.float(), frames))


class MaxFeatureMap(nn.Module):
    """Max-feature-map activation: the elementwise maximum of the two halves of the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 2 * channels, ...) to (n, channels, ...)."""
        first, second = x.chunk(2, 1)
        return torch.where(first > second, first, second)  # its gradient is cheaper than that of torch.maximum


def conv_stack(
    front_end: FrontEnd, widths: Sequence[int], strides: Sequence[tuple[int, int]]
) -> tuple[nn.ModuleList, int]:
    """Build convolutions with batch normalisation and ReLU for the features of a front end.

    Parameters
    ----------
    front_end : FrontEnd
        Source of the features.
    widths : sequence of int
        Number of output channels of each convolution. The first kernel covers 5 bins, the others 3; all cover 3 frames.
    strides : sequence of (int, int)
        Strides of each convolution over bins and frames.

    Returns
    -------
    blocks : ModuleList
        The convolutions.
    n_features : int
        Number of channels times number of bins of the output.
    """
    blocks, n_in, n_bins = [], front_end.n_channels, front_end.n_bins
    for n_out, stride, n_rows in zip(widths, strides, (5, *(3,) * len(widths)), strict=False):
        conv = nn.Conv2d(n_in, n_out, (n_rows, 3), stride, padding=(n_rows // 2, 1), bias=False)
        blocks.append(Block(conv, nn.BatchNorm2d(n_out), nn.ReLU(), stride=stride[1]))
        n_in, n_bins = n_out, -(-n_bins // stride[0])
    return channels_last(blocks), n_in * n_bins


def channels_last(blocks: Iterable[Block]) -> nn.ModuleList:
    """Store the weights of blocks channels-last, which makes convolutions of few channels about 25 % faster."""
    modules = nn.ModuleList(blocks)
    return modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs


def check_sizes(**sizes: int) -> None:
    """Raise unless every keyword is an integer of 1 or more."""
    for name, value in sizes.items():
        check_number(name, value, low=1, integer=True)
