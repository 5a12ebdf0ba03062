"""Layers that the networks share: they know where a clip ends, and compute alike in float32 and bfloat16."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .masking import mean_max_deviation, silence, silence_


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


# Complex layers: (n, 2 * channels, n_bins, n_frames), all real parts before all imaginary parts -----------------------


class ComplexConv2d(nn.Module):
    """A complex convolution without bias, as one real convolution that bfloat16 can do too."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, kernel_size // 2
        shape = n_out, n_in, kernel_size, kernel_size
        # He's variance: magnitudes by Rayleigh's distribution, phases anywhere, so both parts are normal.
        deviation = (n_in * kernel_size**2) ** -0.5
        self.real = nn.Parameter(torch.randn(shape) * deviation)
        self.imag = nn.Parameter(torch.randn(shape) * deviation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        to_real, to_imag = torch.cat([self.real, -self.imag], 1), torch.cat([self.imag, self.real], 1)
        return nn.functional.conv2d(x, torch.cat([to_real, to_imag]), None, self.stride, self.padding)


class MagnitudeNorm(nn.Module):
    """Batch normalisation that keeps phases: each channel over its root mean square, times a learned scale."""

    mean_square: torch.Tensor

    def __init__(self, n_channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.scale = nn.Parameter(torch.ones(n_channels))
        self.register_buffer("mean_square", torch.ones(n_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean_square = self.mean_square
        if self.training:
            mean_square = x.float().square().mean((0, 2, 3)).unflatten(0, (2, -1)).sum(0)
            with torch.no_grad():
                self.mean_square.lerp_(mean_square, self.momentum)
        gain = self.scale * (mean_square + self.eps).rsqrt()
        return x * gain.repeat(2)[:, None, None]


class ModReLU(nn.Module):
    """Magnitudes shifted by a learned threshold and cut at 0; phases stay."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        # At 0 it would be the identity: some must fall below the threshold from the start.
        self.bias = nn.Parameter(torch.full((n_channels,), -0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.float().unflatten(1, (2, -1))
        magnitude = (parts.square().sum(1, keepdim=True) + 1e-8).sqrt()
        return (parts * (1 + self.bias[:, None, None] / magnitude).relu()).flatten(1, 2)


def magnitude(x: torch.Tensor) -> torch.Tensor:
    """(n, channels, n_bins, n_frames) from complex channels."""
    return (x.float().unflatten(1, (2, -1)).square().sum(1) + 1e-8).sqrt()
