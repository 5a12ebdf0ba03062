"""RawNet2: a residual network on the waveform."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from ..._utils.torchaudio import torchaudio
from .layers import Block, Output, check_sizes, run_blocks, run_recurrent
from .masking import masked_mean, scale_to_unit_rms, zero_padding


class RawNet2(nn.Module):
    """Residual network on the waveform, with a fixed band-pass filter bank as its first layer.

    >>> import torch
    >>> from mmestim.voice.networks import RawNet2
    >>> logits, embedding = RawNet2(21, width=32)(torch.randn(2, 16000))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 32]))

    This is the baseline of ASVspoof 2021 [1]_: 20 filters of 1,025 taps, six residual blocks with filter-wise feature
    map scaling, and three GRU layers. The last GRU state represents the clip.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    sample_rate : int, default=16000
        Sample rate of the waveforms in Hz.
    width : int, default=1024
        Number of units of each GRU layer, and length of the embedding.

    Notes
    -----
    The forward pass returns logits of shape (n_clips, n_outputs) and embeddings of shape (n_clips, width).

    References
    ----------
    .. [1] H. Tak, J. Patino, M. Todisco, A. Nautsch, N. Evans and A. Larcher, "End-to-end anti-spoofing with RawNet2",
       ICASSP 2021.
    """

    filters: torch.Tensor

    def __init__(self, n_outputs: int, *, sample_rate: int = 16000, width: int = 1024) -> None:
        super().__init__()
        check_sizes(n_outputs=n_outputs, sample_rate=sample_rate, width=width)
        self.register_buffer("filters", _mel_bandpass(20, 1025, sample_rate), persistent=False)
        self.first = Block(nn.MaxPool1d(3), nn.BatchNorm1d(20), nn.SELU(), stride=3, pools=True)
        channels = (20, 20, 20, 128, 128, 128, 128)
        self.blocks = nn.ModuleList(
            _Residual(n_in, n_out, is_first=i == 0) for i, (n_in, n_out) in enumerate(pairwise(channels))
        )
        self.last = nn.Sequential(nn.BatchNorm1d(128), nn.SELU())
        self.gru = nn.GRU(128, width, num_layers=3, batch_first=True)
        self.embed = nn.Linear(width, width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> Output:
        """Return logits (n_clips, n_outputs) and embeddings (n_clips, width)."""
        waveform = scale_to_unit_rms(waveform, lengths)
        with torch.autocast(waveform.device.type, enabled=False):  # bfloat16 would round the traces of edits away
            x = torchaudio.functional.fftconvolve(waveform[:, None], self.filters, mode="valid").abs()
        x, frames = self.first(x, None if lengths is None else lengths - self.filters.shape[-1] + 1)
        x, frames = run_blocks(self.blocks, x, frames)
        states = run_recurrent(self.gru, self.last(x).mT, frames)
        last_state = states[:, -1] if frames is None else states[torch.arange(len(x), device=x.device), frames - 1]
        embedding = self.embed(last_state)
        return self.head(embedding).float(), embedding.float()


class _Residual(nn.Module):
    """Residual block: two convolutions with a shortcut, pooling over three frames, and feature map scaling.

    Parameters
    ----------
    n_in, n_out : int
        Number of channels of the input and of the output.
    is_first : bool
        Whether the block follows the first layer, which ends with normalisation and activation itself.
    """

    def __init__(self, n_in: int, n_out: int, *, is_first: bool) -> None:
        super().__init__()
        self.pre = nn.Identity() if is_first else nn.Sequential(nn.BatchNorm1d(n_in), nn.LeakyReLU(0.3))
        self.conv1 = Block(nn.Conv1d(n_in, n_out, 3, padding=1), nn.BatchNorm1d(n_out), nn.LeakyReLU(0.3))
        self.conv2 = nn.Conv1d(n_out, n_out, 3, padding=1)
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv1d(n_in, n_out, 3, padding=1)
        self.pool = Block(nn.MaxPool1d(3), stride=3, pools=True)
        self.weigh = nn.Linear(n_out, n_out)

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (n, n_in, n_frames) to (n, n_out, n_frames // 3), and its numbers of real frames."""
        inner, _ = self.conv1(zero_padding(self.pre(x), frames), frames)
        x, frames = self.pool(self.conv2(inner) + self.shortcut(x), frames)
        weights = self.weigh(masked_mean(x.float(), frames)).sigmoid()[..., None]
        return x * weights + zero_padding(weights.expand_as(x), frames), frames


def _mel_bandpass(n_filters: int, n_taps: int, sample_rate: int) -> torch.Tensor:
    """Return adjacent band-pass filters, equally wide on the mel scale, of shape (1, n_filters, n_taps)."""
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    mel = torch.linspace(0, 1, n_filters + 1, dtype=torch.float64) * top
    edges = 700 * (10 ** (mel / 2595) - 1) / sample_rate  # cycles per sample
    t = torch.arange(n_taps, dtype=torch.float64) - n_taps // 2
    low_pass = 2 * edges[:, None] * torch.sinc(2 * edges[:, None] * t)
    window = torch.hamming_window(n_taps, periodic=False, dtype=torch.float64)
    return (low_pass.diff(dim=0) * window)[None].float()
