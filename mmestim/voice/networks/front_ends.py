"""What networks see of a recording: spectra, phases and cepstra, computed on the device with the rest.

Each front end maps ``waveform`` of shape (n, n_samples) to features of shape (n, channels, n_bins, n_frames). It first
brings each clip to unit root mean square, so gain does not matter. Frame ``t`` is centred at sample ``t * hop_length``,
and the clip is silent before its start and past its end: given ``lengths``, the features of a clip are the same numbers
whatever follows it in the batch, and zero in the frames past its end. All is computed in float32.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ..._utils.torchaudio import torchaudio
from ..._utils.validation import check_number
from .masking import hold, silence, unit_level

_FLOOR = 1e-6  # of power: what rounding to 16 bits leaves at unit level
Lengths = TypeVar("Lengths", int, torch.Tensor, torch.Tensor | None)


class FrontEnd(nn.Module):
    """What front ends have in common.

    One of your own sets `n_channels` and `n_bins` and has a method ``_transform(waveform, frames)``, which maps
    waveforms at unit level to features, with one frame more than `hop_length` fits into the samples.

    Parameters
    ----------
    hop_length : int
        Samples from one frame to the next.

    Attributes
    ----------
    n_channels, n_bins : int
        Shape of the features.
    """

    n_channels: int
    n_bins: int

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        check_number("hop_length", hop_length, low=1, integer=True)
        self.hop_length = hop_length

    def frames(self, lengths: Lengths) -> Lengths:
        """Numbers of real frames of clips with these numbers of samples."""
        return None if lengths is None else 1 + lengths // self.hop_length

    def forward(self, waveform: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        frames = self.frames(lengths)
        with torch.autocast(waveform.device.type, enabled=False):
            return silence(self._transform(unit_level(waveform, lengths), frames), frames)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        raise NotImplementedError


class _STFT(FrontEnd):
    """Those made from the short-time Fourier transform, by a Hann window and without the bin of 0 Hz."""

    window: torch.Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__(hop_length)
        check_number("n_fft", n_fft, low=4, integer=True)
        if n_fft % 2:
            raise ValueError(f"n_fft={n_fft!r} must be even, so that frames have a middle sample.")
        self.n_fft = n_fft
        self.n_bins = n_fft // 2
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def stft(self, waveform: torch.Tensor) -> torch.Tensor:
        """Complex (n, n_bins, n_frames)."""
        return torch.stft(
            waveform, self.n_fft, self.hop_length, window=self.window, pad_mode="constant", return_complex=True
        )[:, 1:]


def _log_power(spectrum: torch.Tensor) -> torch.Tensor:
    """Logarithm of the power, scaled so that speech is about standard normal."""
    parts = torch.view_as_real(spectrum)
    return (parts.square().sum(-1) + _FLOOR).log().add(1).div(4)


class LogSpectrogram(_STFT):
    """Logarithm of the power spectrum.

    Parameters
    ----------
    n_fft : int, default=512
        Samples per frame, even. The features have ``n_fft / 2`` bins: all but that of 0 Hz.
    hop_length : int, default=160
        Samples from one frame to the next.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.front_ends import LogSpectrogram
    >>> LogSpectrogram()(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 256, 101])
    """

    n_channels = 1

    def __init__(self, n_fft: int = 512, hop_length: int = 160) -> None:
        super().__init__(n_fft, hop_length)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        return _log_power(self.stft(waveform))[:, None]


class PhaseDifferences(_STFT):
    """Logarithm of the power spectrum, and how steadily the phase runs over time and over frequency.

    Channels two and three are the cosines of second differences of the phase: along time (1 where a steady tone goes
    on, whatever its frequency) and along frequency (1 where a click is, wherever in the frame). Cuts and phase
    vocoders break them.

    Parameters
    ----------
    n_fft : int, default=256
        Samples per frame, even. The features have ``n_fft / 2`` bins: all but that of 0 Hz.
    hop_length : int, default=80
        Samples from one frame to the next.

    Notes
    -----
    A second difference along time is that of its frame and the two before, along frequency that of its bin and the two
    beside; where these do not exist it is 0.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.front_ends import PhaseDifferences
    >>> PhaseDifferences()(torch.randn(2, 16000)).shape
    torch.Size([2, 3, 128, 201])
    """

    n_channels = 3

    def __init__(self, n_fft: int = 256, hop_length: int = 80) -> None:
        super().__init__(n_fft, hop_length)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        spectrum = self.stft(waveform)
        phasor = spectrum / spectrum.abs().clamp(min=_FLOOR**0.5)
        features = phasor.real.new_zeros(len(spectrum), 3, *spectrum.shape[1:])
        features[:, 0] = _log_power(spectrum)
        step = phasor[..., 1:] * phasor[..., :-1].conj()
        features[:, 1, :, 2:] = (step[..., 1:] * step[..., :-1].conj()).real
        step = phasor[:, 1:] * phasor[:, :-1].conj()
        features[:, 2, 1:-1] = (step[:, 1:] * step[:, :-1].conj()).real
        return features


class LFCC(FrontEnd):
    """Linear-frequency cepstral coefficients with their first and second derivatives over time.

    Frames of 20 ms every 10 ms, 20 triangular filters from 0 Hz to half the sample rate, 20 coefficients.

    Parameters
    ----------
    sample_rate : int, default=16000
        Of the waveforms, in Hz; at most 51,200, where 20 ms are 1,024 samples.

    References
    ----------
    .. [1] M. Sahidullah, T. Kinnunen and C. Hanilci, "A comparison of features for synthetic speech detection",
       Interspeech 2015.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.front_ends import LFCC
    >>> LFCC()(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 60, 101])
    """

    n_channels = 1
    n_bins = 60

    def __init__(self, sample_rate: int = 16000) -> None:
        check_number("sample_rate", sample_rate, low=1000, high=51200, integer=True)
        super().__init__(sample_rate // 100)
        self.sample_rate = sample_rate
        self.cepstrum = torchaudio.transforms.LFCC(
            sample_rate,
            n_filter=20,
            n_lfcc=20,
            f_max=sample_rate / 2,
            log_lf=True,
            speckwargs={
                "n_fft": 1024,
                "win_length": sample_rate // 50,
                "hop_length": self.hop_length,
                "pad_mode": "constant",
            },
        )

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        derivatives = [hold(self.cepstrum(waveform), frames)]
        for _ in range(2):
            derivatives.append(hold(torchaudio.functional.compute_deltas(derivatives[-1]), frames))
        return torch.cat(derivatives, 1)[:, None]


class ComplexSTFT(_STFT):
    """The short-time Fourier transform, real parts in channel one and imaginary parts in channel two.

    Phases are those at the middle of the frame.

    Parameters
    ----------
    n_fft : int, default=512
        Samples per frame, even. The features have ``n_fft / 2`` bins: all but that of 0 Hz.
    hop_length : int, default=160
        Samples from one frame to the next.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.front_ends import ComplexSTFT
    >>> ComplexSTFT()(torch.randn(2, 16000)).shape
    torch.Size([2, 2, 256, 101])
    """

    n_channels = 2
    sign: torch.Tensor

    def __init__(self, n_fft: int = 512, hop_length: int = 160) -> None:
        super().__init__(n_fft, hop_length)
        # torch counts phases from the start of the frame: half a frame turns every other bin round.
        self.register_buffer("sign", 1.0 - 2.0 * (torch.arange(1, n_fft // 2 + 1) % 2)[:, None], persistent=False)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        spectrum = self.stft(waveform) * self.sign
        return torch.stack([spectrum.real, spectrum.imag], 1)


class ComplexCQT(FrontEnd):
    """The constant-Q transform, real parts in channel one and imaginary parts in channel two.

    Bins are spaced as the notes of a scale, each seen through a Hann window of as many periods: long for low
    frequencies, short for high ones. A sine of amplitude ``a`` at the frequency of a bin has magnitude ``a`` there, and
    the phase that it has at the middle of the frame.

    Parameters
    ----------
    sample_rate : int, default=16000
        Of the waveforms, in Hz.
    hop_length : int, default=160
        Samples from one frame to the next.
    n_bins : int, default=84
        Number of frequencies.
    bins_per_octave : int, default=12
        Number of them in which frequency doubles.
    f_min : float, default=62.5
        The lowest, in Hz. By default seven octaves end at half of 16 kHz.

    Raises
    ------
    ValueError
        If the highest bin would lie above half the sample rate.

    References
    ----------
    .. [1] J. C. Brown and M. S. Puckette, "An efficient algorithm for the calculation of a constant Q transform",
       The Journal of the Acoustical Society of America 92, 1992.

    Examples
    --------
    >>> import torch
    >>> from mmestim.voice.front_ends import ComplexCQT
    >>> ComplexCQT()(torch.randn(2, 16000)).shape
    torch.Size([2, 2, 84, 101])
    """

    n_channels = 2

    def __init__(
        self,
        sample_rate: int = 16000,
        hop_length: int = 160,
        *,
        n_bins: int = 84,
        bins_per_octave: int = 12,
        f_min: float = 62.5,
    ) -> None:
        super().__init__(hop_length)
        for name, value in [("sample_rate", sample_rate), ("n_bins", n_bins), ("bins_per_octave", bins_per_octave)]:
            check_number(name, value, low=1, integer=True)
        check_number("f_min", f_min, closed=False)
        self.n_bins = n_bins
        frequencies = f_min * 2 ** (torch.arange(n_bins, dtype=torch.float64) / bins_per_octave)
        if frequencies[-1] > sample_rate / 2:
            raise ValueError(
                f"{n_bins} bins from f_min={f_min!r} reach {frequencies[-1]:.0f} Hz, above half of sample_rate="
                f"{sample_rate!r}. Lower f_min or n_bins."
            )
        q = 1 / (2 ** (1 / bins_per_octave) - 1)
        # An octave at a time: within one, windows are of like length.
        octaves = frequencies.split(bins_per_octave)
        self.octaves = [f"octave{i}" for i in range(len(octaves))]
        for name, octave in zip(self.octaves, octaves, strict=True):
            self.register_buffer(name, _kernels(octave, q, sample_rate).float(), persistent=False)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        bins = []
        for kernels in map(self.get_buffer, self.octaves):
            n_taps = kernels.shape[-1]
            padded = nn.functional.pad(waveform, (n_taps // 2, n_taps // 2 + 1))
            bins.append(padded.unfold(-1, n_taps, self.hop_length) @ kernels.flatten(0, 1).T)
        octaves = [x.unflatten(-1, (2, -1)) for x in bins]  # (n, n_frames, 2, n_bins)
        return torch.cat(octaves, -1).permute(0, 2, 3, 1)


def _kernels(frequencies, q, sample_rate):
    """Real and imaginary parts of the conjugate kernels, of shape (2, n_bins, n_taps), n_taps odd."""
    duration = q / frequencies[:, None]  # seconds
    half = int(duration.max() / 2 * sample_rate)
    t = torch.arange(-half, half + 1, dtype=torch.float64) / sample_rate
    window = torch.cos(torch.pi * t / duration).square() * (t.abs() < duration / 2)
    kernels = torch.polar(window / window.sum(1, keepdim=True) * 2, -2 * torch.pi * frequencies[:, None] * t)
    return torch.stack([kernels.real, kernels.imag])
