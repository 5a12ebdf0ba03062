"""One clip as the statistics see it: of one level, and its spectra, each made once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, signal
from scipy.linalg import solve_toeplitz

#: What a group of statistics is: a name, what tells its numbers apart, and the numbers.
Rows = Iterable[tuple[str, Sequence[str], np.ndarray]]

N_BANDS = 64
_FRAME, _LONG_FRAME = 0.032, 0.064  # seconds
# Of one bin, where white noise of the clip's level has 1: below 16 bits for speech, so that rounding does not show.
_LEAST_POWER = 1e-8
_LEAST_LEVEL = 1e-6  # relative to the peak; below it a clip is silent about its mean


class Clip:
    """A waveform at an RMS of 1 about a mean of 0, and what more than one group of statistics needs of it.

    Short frames, of 32 ms every 8 ms, have 64 bands of equally many bins up to half the sample rate; long ones, of
    64 ms every 16, resolve the harmonics of a voice.
    """

    def __init__(self, waveform: np.ndarray, sample_rate: int) -> None:
        given = waveform.astype(np.float64)
        peak = np.abs(given).max()
        relative = given / peak if peak > 0 else given
        self.relative = relative.astype(np.float32)  # to the peak: clipping and rounding show in these
        self.sample_rate = sample_rate
        centred = relative - relative.mean()
        level = np.sqrt(np.mean(np.square(centred)))
        self.waveform = (centred / level if level > _LEAST_LEVEL else np.zeros(len(centred))).astype(np.float32)
        self.bins_per_band = max(1, round(_FRAME * sample_rate / (2 * N_BANDS)))

    @property
    def hop_seconds(self) -> float:
        """Between short frames."""
        return self.bins_per_band * N_BANDS / 2 / self.sample_rate

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Short frames by bins, the one at 0 Hz left out."""
        return _spectra(self.waveform, 2 * N_BANDS * self.bins_per_band)

    @cached_property
    def power(self) -> np.ndarray:
        """Short frames by bins; white noise of the clip's level has 1."""
        return np.square(self.spectrum.real) + np.square(self.spectrum.imag) + np.float32(_LEAST_POWER)

    @cached_property
    def bin_levels(self) -> np.ndarray:
        """Of `power`, in dB."""
        return decibels(self.power)

    @cached_property
    def band_power(self) -> np.ndarray:
        """Short frames by 64 bands."""
        return pooled(self.power, N_BANDS)

    @cached_property
    def levels(self) -> np.ndarray:
        """Of `band_power`, in dB."""
        return decibels(self.band_power)

    @cached_property
    def long_power(self) -> np.ndarray:
        """Long frames by bins."""
        length = 256 * max(1, round(_LONG_FRAME * self.sample_rate / 256))
        spectra = _spectra(self.waveform, length)
        return np.square(spectra.real) + np.square(spectra.imag) + np.float32(_LEAST_POWER)

    @property
    def long_bin_hz(self) -> float:
        """Between bins of long frames."""
        return self.sample_rate / 2 / self.long_power.shape[1]

    @cached_property
    def residual(self) -> np.ndarray:
        """What a linear predictor of 24 coefficients leaves of the waveform: its spectrum is about flat."""
        order, x = 24, self.waveform
        products = np.array([np.vdot(x[: len(x) - lag], x[lag:]) for lag in range(order + 1)], dtype=np.float64)
        products[0] += 1e-6 * products[0] + 1e-9
        taps = -solve_toeplitz(products[:-1], products[1:])
        return signal.lfilter(np.append(1, taps).astype(np.float32), np.float32(1), x)


def decibels(power: np.ndarray) -> np.ndarray:
    """10 log10."""
    return np.float32(10 / np.log(10)) * np.log(power)


def pooled(values: np.ndarray, n_bands: int) -> np.ndarray:
    """Means over bands of equally many neighbours, in the last axis."""
    width = values.shape[-1] // n_bands
    total = values[..., 0 : n_bands * width : width].copy()
    for start in range(1, width):
        total += values[..., start : n_bands * width : width]
    return total / np.float32(width)


def quantiles(values: np.ndarray, probabilities: Sequence[float]) -> np.ndarray:
    """Over the first axis, each the nearest of the values: shape (n_probabilities, ...)."""
    ordered = np.sort(values.T, axis=-1).T
    return ordered[np.round(np.multiply(probabilities, len(values) - 1)).astype(np.intp)]


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Suffixes name00, name01, ..."""
    return tuple(f"{name}{number:02d}" for number in range(count))


def percents(probabilities: Sequence[float]) -> tuple[str, ...]:
    """Suffixes of quantiles, q05 for 0.05."""
    return tuple(f"q{100 * probability:04.1f}".replace(".0", "").replace(".", "_") for probability in probabilities)


_HALF_SECONDS = 0.25


def stretches(name: str, track: np.ndarray, clip: Clip) -> Rows:
    """Of a track, short frames by bands, how far the half seconds of it are from all of it that are farthest.

    What is in a part of a clip only shows there. Each half second is half of the next.
    """
    half = round(_HALF_SECONDS / clip.hop_seconds)
    count = max(1, len(track) // half)
    halves = track[: count * half].reshape(count, -1, track.shape[1]).mean(axis=1)
    means = (halves[1:] + halves[:-1]) / 2 if count > 1 else halves
    apart = means - track.mean(axis=0)
    bands = numbered("band", track.shape[1])
    yield f"stretch_{name}_least", bands, apart.min(axis=0)
    yield f"stretch_{name}_most", bands, apart.max(axis=0)


def _spectra(waveform, length):
    """Hann-windowed frames a quarter of their length apart, by bins without the one at 0 Hz."""
    window = signal.get_window("hann", length)
    window = (window / np.sqrt(np.sum(window**2))).astype(np.float32)
    frames = sliding_window_view(waveform, length)[:: length // 4]
    return fft.rfft(frames * window, axis=1)[:, 1:]
