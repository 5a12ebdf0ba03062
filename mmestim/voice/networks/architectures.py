"""Networks from waveforms to labels: clips of any length from 0.35 s at 16 kHz, padded with anything past their ends.

Each maps ``waveform`` of shape (n, n_samples) and ``lengths``, the number of real samples of each clip as an integer
tensor of shape (n,) or None where all are real, to logits of shape (n, n_outputs) and embeddings of shape
(n, embedding_dim), both float32 under autocast too. Gain does not matter (but see ``SSLNet``). In evaluation mode a
clip gives the same numbers, to rounding, whatever clips and however much padding come with it; while training, batch
normalisation counts the zeros past the ends.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from ..._utils.torchaudio import torchaudio
from ..._utils.validation import check_number
from .._constants import PAST_END_LOGIT
from .front_ends import LFCC, ComplexCQT, FrontEnd, LogSpectrogram, PhaseDifferences
from .layers import (
    Block,
    ClipHead,
    ComplexConv2d,
    MagnitudeNorm,
    MaxFeatureMap,
    ModReLU,
    magnitude,
    run_blocks,
    run_recurrent,
)
from .masking import mean, silence, unit_level, within

Output = tuple[torch.Tensor, torch.Tensor]


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
        self.blocks, n_features = _conv_stack(
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
        _check_sizes(n_outputs=n_outputs, embedding_dim=embedding_dim)
        check_number("n_statistics", n_statistics, integer=True)
        self.front_end = LogSpectrogram() if front_end is None else front_end
        self.blocks, n_features = _conv_stack(
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
        _check_sizes(n_outputs=n_outputs)
        self.front_end = LFCC() if front_end is None else front_end

        def convolve(n_in, n_out, kernel, *, pools=False, normalizes=True):
            layers = [nn.Conv2d(n_in, 2 * n_out, kernel, padding=kernel // 2), MaxFeatureMap()]
            layers += [nn.MaxPool2d(2)] if pools else []
            layers += [nn.BatchNorm2d(n_out, affine=False)] if normalizes else []
            return Block(*layers, stride=2 if pools else 1, pools=pools)

        self.blocks = _channels_last(
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
        _check_sizes(n_outputs=n_outputs, embedding_dim=embedding_dim)
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
        _check_sizes(n_outputs=n_outputs, sample_rate=sample_rate, width=width)
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


def _conv_stack(front_end, widths, strides):
    """Convolutions with batch normalisation and ReLU, the first over 5 bins; and channels times bins behind them."""
    blocks, n_in, n_bins = [], front_end.n_channels, front_end.n_bins
    for n_out, stride, n_rows in zip(widths, strides, (5, *(3,) * len(widths)), strict=False):
        conv = nn.Conv2d(n_in, n_out, (n_rows, 3), stride, padding=(n_rows // 2, 1), bias=False)
        blocks.append(Block(conv, nn.BatchNorm2d(n_out), nn.ReLU(), stride=stride[1]))
        n_in, n_bins = n_out, -(-n_bins // stride[0])
    return _channels_last(blocks), n_in * n_bins


def _channels_last(blocks):
    """The blocks with weights in the memory format that makes few channels a quarter faster."""
    return nn.ModuleList(blocks).to(memory_format=torch.channels_last)


def _mel_bandpass(n_filters, n_taps, sample_rate):
    """Band-pass filters side by side on the mel scale, of shape (1, n_filters, n_taps)."""
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    mel = torch.linspace(0, 1, n_filters + 1, dtype=torch.float64) * top
    edges = 700 * (10 ** (mel / 2595) - 1) / sample_rate  # cycles per sample
    t = torch.arange(n_taps, dtype=torch.float64) - n_taps // 2
    low_pass = 2 * edges[:, None] * torch.sinc(2 * edges[:, None] * t)
    window = torch.hamming_window(n_taps, periodic=False, dtype=torch.float64)
    return (low_pass.diff(dim=0) * window)[None].float()


def _check_sizes(**sizes):
    for name, value in sizes.items():
        check_number(name, value, low=1, integer=True)
