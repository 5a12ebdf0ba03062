"""Complex-valued network and its layers.

Complex tensors have shape (n, 2 * channels, n_bins, n_frames): all real parts come before all imaginary parts.
"""

from __future__ import annotations

import torch
from torch import nn

from .front_ends import ComplexCQT, FrontEnd
from .layers import Block, ClipHead, Output, check_sizes, run_blocks


class ComplexNet(nn.Module):
    """Network of complex convolutions on a complex spectrum, four by default, that preserves phases.

    >>> import torch
    >>> from mmestim.voice.networks import ComplexNet
    >>> logits, embedding = ComplexNet(21)(torch.randn(2, 16000))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 128]))

    Each convolution is followed by a normalisation of magnitudes and by modReLU [1]_. Both leave phases unchanged, so a
    phase offset common to the whole recording has no effect; only phase differences over time and frequency matter.
    Müller et al. [2]_ show that complex networks on the constant-Q transform separate real from synthetic voices. The
    architecture is ours; no paper describes it.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    widths : tuple of int, default=(16, 32, 48, 64)
        Number of complex channels of each convolution.
    embedding_dim : int, default=128
        Length of the embedding.
    front_end : FrontEnd or None, default=None
        ``ComplexCQT`` or ``ComplexSTFT`` from :mod:`mmestim.voice.networks.front_ends`. `None` is ``ComplexCQT()``,
        which is meant for 16 kHz.

    Notes
    -----
    The forward pass returns logits of shape (n_clips, n_outputs) and embeddings of shape (n_clips, embedding_dim).

    References
    ----------
    .. [1] M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.
    .. [2] N. M. Müller, P. Sperl and K. Böttinger, "Complex-valued neural networks for voice anti-spoofing",
       Interspeech 2023.
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
        """Return logits (n_clips, n_outputs) and embeddings (n_clips, embedding_dim)."""
        x, frames = self.front_end(waveform, lengths), self.front_end.frames(lengths)
        # Magnitudes span many decades. A power of 0.3, close to the law of perceived loudness, compresses them.
        x = x * (x.square().sum(1, keepdim=True) + 1e-8).pow(-0.35)
        x, frames = run_blocks(self.blocks, x, frames)
        embedding = self.embed(magnitude(x), frames)
        return self.head(embedding).float(), embedding.float()


class ComplexConv2d(nn.Module):
    """Complex convolution without bias, computed as one real convolution so that it works in bfloat16.

    Parameters
    ----------
    n_in, n_out : int
        Number of complex channels of the input and of the output.
    kernel_size : int
        Height and width of the kernel, odd; the input is padded with zeros by half of it.
    stride : int
        Stride over bins and frames.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, kernel_size // 2
        shape = n_out, n_in, kernel_size, kernel_size
        # He initialisation: Rayleigh-distributed magnitudes with uniform phases are normal real and imaginary parts.
        deviation = (n_in * kernel_size**2) ** -0.5
        self.real = nn.Parameter(torch.randn(shape) * deviation)
        self.imag = nn.Parameter(torch.randn(shape) * deviation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 2 * n_in, n_bins, n_frames) to (n, 2 * n_out, ...)."""
        to_real, to_imag = torch.cat([self.real, -self.imag], 1), torch.cat([self.imag, self.real], 1)
        return nn.functional.conv2d(x, torch.cat([to_real, to_imag]), None, self.stride, self.padding)


class MagnitudeNorm(nn.Module):
    """Batch normalisation of magnitudes: divides each channel by its root mean square and applies a learned scale.

    Parameters
    ----------
    n_channels : int
        Number of complex channels.
    momentum : float, default=0.1
        Weight of the current batch in the running mean square.
    eps : float, default=1e-5
        Constant added to the mean square, for numerical stability.
    """

    mean_square: torch.Tensor

    def __init__(self, n_channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.scale = nn.Parameter(torch.ones(n_channels))
        self.register_buffer("mean_square", torch.ones(n_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (n, 2 * n_channels, n_bins, n_frames)."""
        mean_square = self.mean_square
        if self.training:
            mean_square = x.float().square().mean((0, 2, 3)).unflatten(0, (2, -1)).sum(0)
            with torch.no_grad():
                self.mean_square.lerp_(mean_square, self.momentum)
        gain = self.scale * (mean_square + self.eps).rsqrt()
        return x * gain.repeat(2)[:, None, None]


class ModReLU(nn.Module):
    """ReLU of magnitudes plus a learned bias; phases are unchanged.

    Parameters
    ----------
    n_channels : int
        Number of complex channels.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        # A bias of 0 would make the layer the identity at the start: a negative one cuts some magnitudes to 0.
        self.bias = nn.Parameter(torch.full((n_channels,), -0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the activation to (n, 2 * n_channels, n_bins, n_frames)."""
        parts = x.float().unflatten(1, (2, -1))
        magnitude = (parts.square().sum(1, keepdim=True) + 1e-8).sqrt()
        return (parts * (1 + self.bias[:, None, None] / magnitude).relu()).flatten(1, 2)


def magnitude(x: torch.Tensor) -> torch.Tensor:
    """Return the magnitudes (n, channels, n_bins, n_frames) of complex channels."""
    return (x.float().unflatten(1, (2, -1)).square().sum(1) + 1e-8).sqrt()
