"""Normalised waveform of a clip and its spectra, each computed once and shared by the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage, signal
from scipy.linalg import solve_toeplitz

from .._audio.filtering import apply_filter

#: Statistics of a group: a name, the suffixes that distinguish its values, and the values.
Statistics = Iterable[tuple[str, Sequence[str], np.ndarray]]

N_BANDS = 64
_FRAME_SECONDS, _LONG_FRAME_SECONDS = 0.032, 0.064
_HALF_OF_SEGMENT_SECONDS = 0.25
# Power added to each bin, relative to white noise at the level of the clip. It hides the rounding to 16 bits.
_POWER_FLOOR = 1e-8
# Standard deviation relative to the peak below which a clip is treated as silent.
_MIN_RELATIVE_LEVEL = 1e-6
_RESIDUAL_SECONDS = 0.02


class ClipSpectra:
    """Waveform of mean 0 and RMS 1, with the spectra that several groups of statistics need.

    Short frames last 32 ms and start every 8 ms; their bins form 64 bands of equal width up to half the sample rate.
    Long frames last 64 ms and start every 16 ms; they resolve the harmonics of a voice.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        The clip.
    sample_rate : int
        Its sample rate in Hz.

    Attributes
    ----------
    relative : float32 ndarray of shape (n_samples,)
        The clip divided by its peak, with its offset. Clipping and rounding are visible in it.
    waveform : float32 ndarray of shape (n_samples,)
        The clip at mean 0 and RMS 1; zeros if the clip is silent.
    bins_per_band : int
        Number of bins of a short frame in each band.
    """

    def __init__(self, waveform: np.ndarray, sample_rate: int) -> None:
        self._samples = waveform.astype(np.float64)
        self._peak = np.abs(self._samples).max() or 1.0
        relative = self._samples / self._peak
        self.relative = relative.astype(np.float32)
        self.sample_rate = sample_rate
        centred = relative - relative.mean()
        level = np.sqrt(np.mean(np.square(centred)))
        is_silent = not level > _MIN_RELATIVE_LEVEL
        self.waveform = (np.zeros(len(centred)) if is_silent else centred / level).astype(np.float32)
        self.bins_per_band = max(1, round(_FRAME_SECONDS * sample_rate / (2 * N_BANDS)))

    @property
    def hop_seconds(self) -> float:
        """Seconds between the starts of short frames."""
        return self.bins_per_band * N_BANDS / 2 / self.sample_rate

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Complex spectra of short frames, of shape (n_frames, n_bins), without the bin at 0 Hz."""
        return _spectra(self.waveform, 2 * N_BANDS * self.bins_per_band)

    @cached_property
    def power(self) -> np.ndarray:
        """Power of short frames, of shape (n_frames, n_bins); 1 for white noise at the level of the clip."""
        return np.square(self.spectrum.real) + np.square(self.spectrum.imag) + np.float32(_POWER_FLOOR)

    @cached_property
    def bin_levels(self) -> np.ndarray:
        """`power` in dB, of shape (n_frames, n_bins)."""
        return decibels(self.power)

    @cached_property
    def band_power(self) -> np.ndarray:
        """Mean `power` of each band, of shape (n_frames, 64)."""
        return band_means(self.power, N_BANDS)

    @cached_property
    def levels(self) -> np.ndarray:
        """`band_power` in dB, of shape (n_frames, 64)."""
        return decibels(self.band_power)

    @cached_property
    def long_power(self) -> np.ndarray:
        """Power of long frames, of shape (n_long_frames, n_long_bins)."""
        length = 256 * max(1, round(_LONG_FRAME_SECONDS * self.sample_rate / 256))
        spectra = _spectra(self.waveform, length)
        return np.square(spectra.real) + np.square(spectra.imag) + np.float32(_POWER_FLOOR)

    @property
    def long_bin_hz(self) -> float:
        """Distance between the bins of long frames in Hz."""
        return self.sample_rate / 2 / self.long_power.shape[1]

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct values of `relative` in ascending order, and how often each occurs."""
        steps = self._samples * 32768
        is_16_bit = np.abs(steps).max() < 32768 and (steps == np.rint(steps)).all()
        if not is_16_bit:
            return np.unique(self.relative, return_counts=True)
        # Counting takes a tenth of the time of sorting.
        counts = np.bincount(steps.astype(np.intp) + 32768)
        values = np.flatnonzero(counts)
        return ((values - 32768) / 32768 / self._peak).astype(np.float32), counts[values]

    @cached_property
    def residual(self) -> np.ndarray:
        """Error of a linear predictor with 24 coefficients, of shape (n_samples,); its spectrum is nearly flat."""
        order, x = 24, self.waveform
        products = np.array([np.vdot(x[: len(x) - lag], x[lag:]) for lag in range(order + 1)], dtype=np.float64)
        products[0] += 1e-6 * products[0] + 1e-9
        taps = -solve_toeplitz(products[:-1], products[1:])
        return apply_filter(x, np.append(1, taps).astype(np.float32))

    @cached_property
    def residual_power(self) -> np.ndarray:
        """Mean square of `residual` over 20 ms around each sample, of shape (n_samples,)."""
        width = 1 + round(_RESIDUAL_SECONDS * self.sample_rate)
        return ndimage.uniform_filter1d(np.square(self.residual), width, mode="nearest")


def decibels(power: np.ndarray) -> np.ndarray:
    """Convert power to dB."""
    return np.float32(10 / np.log(10)) * np.log(power)


def band_means(values: np.ndarray, n_bands: int) -> np.ndarray:
    """Average the last axis over bands of equal width; values beyond the last whole band are ignored."""
    width = values.shape[-1] // n_bands
    total = values[..., 0 : n_bands * width : width].copy()
    for start in range(1, width):
        total += values[..., start : n_bands * width : width]
    return total / np.float32(width)


def quantiles(values: np.ndarray, probabilities: Sequence[float]) -> np.ndarray:
    """Return quantiles over the first axis without interpolation, of shape (n_probabilities, ...)."""
    # Rows that are contiguous are sorted in half the time.
    ordered = np.sort(np.ascontiguousarray(values.T), axis=-1).T
    return ordered[np.round(np.multiply(probabilities, len(values) - 1)).astype(np.intp)]


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` largest values in descending order."""
    block = 64
    maxima = values[: len(values) // block * block].reshape(-1, block).max(axis=1)
    if len(maxima) > count:  # at least `count` values reach the least of the largest maxima
        values = values[values >= np.partition(maxima, -count)[-count]]
    return np.sort(values)[::-1][:count]


def numbered_names(name: str, count: int) -> tuple[str, ...]:
    """Return the suffixes name00, name01, ..."""
    return tuple(f"{name}{number:02d}" for number in range(count))


def quantile_names(probabilities: Sequence[float]) -> tuple[str, ...]:
    """Return the suffixes of quantiles, such as q05 for 0.05."""
    return tuple(f"q{100 * probability:04.1f}".replace(".0", "").replace(".", "_") for probability in probabilities)


def half_second_extremes(name: str, track: np.ndarray, clip: ClipSpectra) -> Statistics:
    """Yield the largest deviations of half-second means from the mean of the clip.

    These statistics reveal edits of a part of the clip. Successive half seconds overlap by a half.

    Parameters
    ----------
    name : str
        Name of the track.
    track : ndarray of shape (n_frames, n_bands)
        Values of short frames.
    clip : ClipSpectra
        The clip.

    Yields
    ------
    name : str
        ``stretch_{name}_least`` for the lowest deviation, ``stretch_{name}_most`` for the highest.
    suffixes : sequence of str
        Names of the bands.
    values : ndarray of shape (n_bands,)
        Deviations.
    """
    half = round(_HALF_OF_SEGMENT_SECONDS / clip.hop_seconds)
    count = max(1, len(track) // half)
    half_means = track[: count * half].reshape(count, -1, track.shape[1]).mean(axis=1)
    means = (half_means[1:] + half_means[:-1]) / 2 if count > 1 else half_means
    deviations = means - track.mean(axis=0)
    bands = numbered_names("band", track.shape[1])
    yield f"stretch_{name}_least", bands, deviations.min(axis=0)
    yield f"stretch_{name}_most", bands, deviations.max(axis=0)


def _spectra(waveform: np.ndarray, length: int) -> np.ndarray:
    """Return spectra of Hann-windowed frames with a hop of a quarter frame, without the bin at 0 Hz."""
    window = signal.get_window("hann", length)
    window = (window / np.sqrt(np.sum(window**2))).astype(np.float32)
    frames = sliding_window_view(waveform, length)[:: length // 4]
    return fft.rfft(frames * window, axis=1)[:, 1:]
