"""Front ends that compute the input features of networks: spectra, phases and cepstra.

A front end is a module, so it runs on the device of its network. It maps ``waveform`` of shape (n, n_samples) to
features of shape (n, n_channels, n_bins, n_frames) in float32. Each clip is first scaled to unit root mean square, so
gain has no effect. Frame ``t`` is centred at sample ``t * hop_length``; samples before the start and past the end of a
clip count as zero. Given ``lengths``, the features of a clip do not depend on its padding, and the frames past its end
are zero.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from ..._utils.torchaudio import torchaudio
from ..._utils.validation import check_number
from .masking import repeat_last_frame, scale_to_unit_rms, zero_padding

__all__ = ["LFCC", "ComplexCQT", "ComplexSTFT", "FrontEnd", "LogSpectrogram", "PhaseDifferences"]

#: Power added before a logarithm: about that of 16-bit rounding in a clip at unit level.
_POWER_FLOOR = 1e-6
Lengths = TypeVar("Lengths", int, torch.Tensor, torch.Tensor | None)


class FrontEnd(nn.Module):
    """Base class of front ends.

    A subclass sets `n_channels` and `n_bins` and defines ``_transform(waveform, frames)``. That method maps waveforms
    of shape (n, n_samples), scaled to unit root mean square, to features of shape (n, n_channels, n_bins, n_frames)
    with ``n_frames = 1 + n_samples // hop_length``.

    Parameters
    ----------
    hop_length : int
        Number of samples between frames.

    Attributes
    ----------
    n_channels, n_bins : int
        Number of channels and of bins of the features.
    """

    n_channels: int
    n_bins: int

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        check_number("hop_length", hop_length, low=1, integer=True)
        self.hop_length = hop_length

    def frames(self, lengths: Lengths) -> Lengths:
        """Return the number of real frames of clips with these numbers of samples."""
        return None if lengths is None else 1 + lengths // self.hop_length

    def forward(
        self, waveform: torch.Tensor, lengths: torch.Tensor | None = None, *, is_scaled: bool = False
    ) -> torch.Tensor:
        """Map waveforms (n, n_samples), which are scaled first if not `is_scaled`, to features."""
        frames = self.frames(lengths)
        with torch.autocast(waveform.device.type, enabled=False):
            scaled = waveform if is_scaled else scale_to_unit_rms(waveform, lengths)
            features = zero_padding(self._transform(scaled, frames), frames)
        # Each network that shares the features would convert them.
        return features.contiguous(memory_format=torch.channels_last)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        raise NotImplementedError


class _STFT(FrontEnd):
    """Base class of front ends on the short-time Fourier transform, with a Hann window and without the bin of 0 Hz.

    Parameters
    ----------
    n_fft : int
        Number of samples per frame, even.
    hop_length : int
        Number of samples between frames.
    """

    window: torch.Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__(hop_length)
        check_number("n_fft", n_fft, low=4, integer=True)
        if n_fft % 2:
            raise ValueError(f"n_fft={n_fft!r} must be even, so that each frame has a middle sample.")
        self.n_fft = n_fft
        self.n_bins = n_fft // 2
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def stft(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the complex spectrum, of shape (n, n_bins, n_frames)."""
        return torch.stft(
            waveform, self.n_fft, self.hop_length, window=self.window, pad_mode="constant", return_complex=True
        )[:, 1:]


def _parts(spectrum: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the real part, the imaginary part and the power of a spectrum, each of shape (n, n_frames, n_bins)."""
    # Bins are contiguous in this order, and real arithmetic takes at most half the time of complex arithmetic.
    real, imaginary = torch.view_as_real(spectrum.transpose(1, 2)).unbind(-1)
    return real, imaginary, real.square().addcmul(imaginary, imaginary)


def _log(power: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the power, scaled so that speech is roughly standard normal."""
    return (power + _POWER_FLOOR).log().add(1).div(4)


def _second_difference(real: torch.Tensor, imaginary: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the cosines of the second differences of the phase along a dimension, from the parts of phasors."""
    real, imaginary = real.movedim(dim, 0), imaginary.movedim(dim, 0)
    cosine = (real[1:] * real[:-1]).addcmul(imaginary[1:], imaginary[:-1])
    sine = (imaginary[1:] * real[:-1]).addcmul(real[1:], imaginary[:-1], value=-1)
    return (cosine[1:] * cosine[:-1]).addcmul(sine[1:], sine[:-1]).movedim(0, dim)


class LogSpectrogram(_STFT):
    """Logarithm of the power spectrum, as one channel.

    >>> import torch
    >>> from mmestim.voice.networks.front_ends import LogSpectrogram
    >>> LogSpectrogram()(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 256, 101])

    Parameters
    ----------
    n_fft : int, default=512
        Number of samples per frame, even. The features have ``n_fft / 2`` bins; the one at 0 Hz is left out.
    hop_length : int, default=160
        Number of samples between frames.
    """

    n_channels = 1

    def __init__(self, n_fft: int = 512, hop_length: int = 160) -> None:
        super().__init__(n_fft, hop_length)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        *_, power = _parts(self.stft(waveform))
        return _log(power).transpose(1, 2)[:, None]


class PhaseDifferences(_STFT):
    """Logarithm of the power spectrum, and cosines of the second differences of the phase.

    >>> import torch
    >>> from mmestim.voice.networks.front_ends import PhaseDifferences
    >>> PhaseDifferences()(torch.randn(2, 16000)).shape
    torch.Size([2, 3, 128, 201])

    Channel 1 is the logarithm of the power. Channel 2 is the cosine of the second difference of the phase along time,
    which is 1 for a steady tone of any frequency. Channel 3 is that cosine along frequency, which is 1 for a click
    anywhere in the frame. Cuts and phase vocoders disturb both.

    Parameters
    ----------
    n_fft : int, default=256
        Number of samples per frame, even. The features have ``n_fft / 2`` bins; the one at 0 Hz is left out.
    hop_length : int, default=80
        Number of samples between frames.

    Notes
    -----
    Let `phi` be the phase of bin `k` in frame `t`. Channel 2 is ``cos(phi[k, t] - 2 phi[k, t-1] + phi[k, t-2])`` and
    channel 3 is ``cos(phi[k+1, t] - 2 phi[k, t] + phi[k-1, t])``. Both are 0 where a neighbour is missing.
    """

    n_channels = 3

    def __init__(self, n_fft: int = 256, hop_length: int = 80) -> None:
        super().__init__(n_fft, hop_length)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        real, imaginary, power = _parts(self.stft(waveform))
        scale = power.clamp(min=_POWER_FLOOR).rsqrt()
        real, imaginary = real * scale, imaginary * scale
        features = power.new_zeros(len(power), 3, *power.shape[1:])
        features[:, 0] = _log(power)
        features[:, 1, 2:] = _second_difference(real, imaginary, dim=1)
        features[:, 2, :, 1:-1] = _second_difference(real, imaginary, dim=2)
        return features.transpose(2, 3)


class LFCC(FrontEnd):
    """Linear-frequency cepstral coefficients with their first and second derivatives over time.

    >>> import torch
    >>> from mmestim.voice.networks.front_ends import LFCC
    >>> LFCC()(torch.randn(2, 16000)).shape
    torch.Size([2, 1, 60, 101])

    The frames last 20 ms and start every 10 ms. Each has 20 coefficients from 20 triangular filters between 0 Hz and
    half the sample rate [1]_.

    Parameters
    ----------
    sample_rate : int, default=16000
        Sample rate of the waveforms in Hz, from 1,000 to 51,200. At 51,200 Hz, 20 ms are 1,024 samples, the length of
        the FFT.

    References
    ----------
    .. [1] M. Sahidullah, T. Kinnunen and C. Hanilci, "A comparison of features for synthetic speech detection",
       Interspeech 2015.
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
        derivatives = [repeat_last_frame(self.cepstrum(waveform), frames)]
        for _ in range(2):
            derivatives.append(repeat_last_frame(torchaudio.functional.compute_deltas(derivatives[-1]), frames))
        return torch.cat(derivatives, 1)[:, None]


class ComplexSTFT(_STFT):
    """Short-time Fourier transform, with the real part as channel 1 and the imaginary part as channel 2.

    >>> import torch
    >>> from mmestim.voice.networks.front_ends import ComplexSTFT
    >>> ComplexSTFT()(torch.randn(2, 16000)).shape
    torch.Size([2, 2, 256, 101])

    Phases refer to the middle of the frame.

    Parameters
    ----------
    n_fft : int, default=512
        Number of samples per frame, even. The features have ``n_fft / 2`` bins; the one at 0 Hz is left out.
    hop_length : int, default=160
        Number of samples between frames.
    """

    n_channels = 2
    sign: torch.Tensor

    def __init__(self, n_fft: int = 512, hop_length: int = 160) -> None:
        super().__init__(n_fft, hop_length)
        # torch.stft refers phases to the start of a frame; for its middle, every other bin changes its sign.
        self.register_buffer("sign", 1.0 - 2.0 * (torch.arange(1, n_fft // 2 + 1) % 2)[:, None], persistent=False)

    def _transform(self, waveform: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        spectrum = self.stft(waveform) * self.sign
        return torch.stack([spectrum.real, spectrum.imag], 1)


class ComplexCQT(FrontEnd):
    """Constant-Q transform [1]_, with the real part as channel 1 and the imaginary part as channel 2.

    >>> import torch
    >>> from mmestim.voice.networks.front_ends import ComplexCQT
    >>> ComplexCQT()(torch.randn(2, 16000)).shape
    torch.Size([2, 2, 84, 101])

    Bins are spaced geometrically, like the notes of a scale. The Hann window of each bin spans the same number of
    periods, so windows are long for low frequencies and short for high ones. A sine of amplitude ``a`` at the frequency
    of a bin has the magnitude ``a`` in that bin, and its phase refers to the middle of the frame.

    Parameters
    ----------
    sample_rate : int, default=16000
        Sample rate of the waveforms in Hz.
    hop_length : int, default=160
        Number of samples between frames.
    n_bins : int, default=84
        Number of bins.
    bins_per_octave : int, default=12
        Number of bins per octave.
    f_min : float, default=62.5
        Frequency of the lowest bin in Hz. With the defaults, the bins span seven octaves up to 8 kHz.

    Raises
    ------
    ValueError
        If the highest bin lies above half the sample rate.

    References
    ----------
    .. [1] J. C. Brown and M. S. Puckette, "An efficient algorithm for the calculation of a constant Q transform",
       The Journal of the Acoustical Society of America 92, 1992.
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
        # One octave at a time, since windows within an octave have similar lengths.
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


def _kernels(frequencies: torch.Tensor, q: float, sample_rate: int) -> torch.Tensor:
    """Return the real and imaginary parts of the conjugate kernels, of shape (2, n_bins, n_taps) with n_taps odd."""
    duration = q / frequencies[:, None]  # seconds
    half = int(duration.max() / 2 * sample_rate)
    t = torch.arange(-half, half + 1, dtype=torch.float64) / sample_rate
    window = torch.cos(torch.pi * t / duration).square() * (t.abs() < duration / 2)
    kernels = torch.polar(window / window.sum(1, keepdim=True) * 2, -2 * torch.pi * frequencies[:, None] * t)
    return torch.stack([kernels.real, kernels.imag])
