"""RawNet2."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from ..._utils.torchaudio import torchaudio
from .layers import Block, Output, check_sizes, run_blocks, run_recurrent
from .masking import mean, silence, unit_level


class RawNet2(nn.Module):
    """Residual network on the waveform itself, behind a fixed bank of band-pass filters.

    The baseline of ASVspoof 2021: 20 filters of 1,025 taps, six residual blocks, each weighted filter by filter, three
    GRU layers whose last state is the clip's.

    Parameters
    ----------
    n_outputs : int
        Number of logits.
    sample_rate : int, default=16000
        Of the waveforms, in Hz.
    width : int, default=1024
        Units of each GRU layer and length of the embedding.

    References
    ----------
    .. [1] H. Tak, J. Patino, M. Todisco, A. Nautsch, N. Evans and A. Larcher, "End-to-end anti-spoofing with RawNet2",
       ICASSP 2021.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.networks import RawNet2
    >>> logits, embedding = RawNet2(21, width=32)(torch.randn(2, 16000))
    >>> logits.shape, embedding.shape
    (torch.Size([2, 21]), torch.Size([2, 32]))
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
        waveform = unit_level(waveform, lengths)
        with torch.autocast(waveform.device.type, enabled=False):  # bfloat16 would round away what edits leave
            x = torchaudio.functional.fftconvolve(waveform[:, None], self.filters, mode="valid").abs()
        x, frames = self.first(x, None if lengths is None else lengths - self.filters.shape[-1] + 1)
        x, frames = run_blocks(self.blocks, x, frames)
        states = run_recurrent(self.gru, self.last(x).mT, frames)
        last = states[:, -1] if frames is None else states[torch.arange(len(x), device=x.device), frames - 1]
        embedding = self.embed(last)
        return self.head(embedding).float(), embedding.float()


class _Residual(nn.Module):
    """Two convolutions beside a short cut, a pooling of three frames, and the weighing of filters."""

    def __init__(self, n_in: int, n_out: int, *, is_first: bool) -> None:
        super().__init__()
        self.pre = nn.Identity() if is_first else nn.Sequential(nn.BatchNorm1d(n_in), nn.LeakyReLU(0.3))
        self.conv1 = Block(nn.Conv1d(n_in, n_out, 3, padding=1), nn.BatchNorm1d(n_out), nn.LeakyReLU(0.3))
        self.conv2 = nn.Conv1d(n_out, n_out, 3, padding=1)
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv1d(n_in, n_out, 3, padding=1)
        self.pool = Block(nn.MaxPool1d(3), stride=3, pools=True)
        self.weigh = nn.Linear(n_out, n_out)

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        inner, _ = self.conv1(silence(self.pre(x), frames), frames)
        x, frames = self.pool(self.conv2(inner) + self.shortcut(x), frames)
        weights = self.weigh(mean(x.float(), frames)).sigmoid()[..., None]
        return x * weights + silence(weights.expand_as(x), frames), frames


def _mel_bandpass(n_filters, n_taps, sample_rate):
    """Band-pass filters side by side on the mel scale, of shape (1, n_filters, n_taps)."""
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    mel = torch.linspace(0, 1, n_filters + 1, dtype=torch.float64) * top
    edges = 700 * (10 ** (mel / 2595) - 1) / sample_rate  # cycles per sample
    t = torch.arange(n_taps, dtype=torch.float64) - n_taps // 2
    low_pass = 2 * edges[:, None] * torch.sinc(2 * edges[:, None] * t)
    window = torch.hamming_window(n_taps, periodic=False, dtype=torch.float64)
    return (low_pass.diff(dim=0) * window)[None].float()
