"""The complex network and its layers."""

from __future__ import annotations

import torch
from torch import nn

from .front_ends import ComplexCQT, FrontEnd
from .layers import Block, ClipHead, Output, check_sizes, run_blocks


class ComplexNet(nn.Module):
    """Four complex convolutions of a complex spectrum, which keep its phases to the end.

    Each is followed by a normalisation of magnitudes and by modReLU [1]_, which leave phases alone, so a phase that the
    whole recording shares does not matter, only how phases differ over time and frequency. That complex networks on
    the constant-Q transform tell real voices from made ones is the finding of [2]_; the layers are ours.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    widths : tuple of int, default=(16, 32, 48, 64)
        Number of complex channels of each convolution.
    embedding_dim : int, default=128
        Length of the embedding.
    front_end : FrontEnd or None, default=None
        ``ComplexCQT`` or ``ComplexSTFT`` of :mod:`mmestim.voice.front_ends`. `None` is ``ComplexCQT()``, for 16 kHz.

    References
    ----------
    .. [1] M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.
    .. [2] N. M. Müller, P. Sperl and K. Böttinger, "Complex-valued neural networks for voice anti-spoofing",
       Interspeech 2023.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.networks import ComplexNet
    >>> logits, embedding = ComplexNet(21)(torch.randn(2, 16000))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 128]))
    """

    def __init__(
        self,
        n_outputs: int,
        *,
        widths: tuple[int, ...] = (16, 32, 48, 64),
        embedding_dim: int = 128,
        front_end: FrontEnd | None = None,
    ) -> None:
        super().__init__()
        check_sizes(n_outputs=n_outputs, embedding_dim=embedding_dim)
        self.front_end = ComplexCQT() if front_end is None else front_end
        if self.front_end.n_channels != 2:
            raise ValueError(
                f"front_end={type(self.front_end).__name__} has no complex spectrum. Use ComplexCQT or ComplexSTFT."
            )
        self.blocks = nn.ModuleList()
        n_in, n_bins = 1, self.front_end.n_bins
        for n_out in widths:
            layers = ComplexConv2d(n_in, n_out, 3, stride=2), MagnitudeNorm(n_out), ModReLU(n_out)
            self.blocks.append(Block(*layers, stride=2))
            n_in, n_bins = n_out, (n_bins + 1) // 2
        self.embed = ClipHead(n_in * n_bins, embedding_dim)
        self.head = nn.Linear(embedding_dim, n_outputs)

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        x, frames = self.front_end(waveform, lengths), self.front_end.frames(lengths)
        # Magnitudes to the power of .3, as loudness is heard: a spectrum spans many decades.
        x = x * (x.square().sum(1, keepdim=True) + 1e-8).pow(-0.35)
        x, frames = run_blocks(self.blocks, x, frames)
        embedding = self.embed(magnitude(x), frames)
        return self.head(embedding).float(), embedding.float()


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
