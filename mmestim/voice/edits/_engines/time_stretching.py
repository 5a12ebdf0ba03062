"""Change of time and pitch, together or apart, by two engines each."""

from __future__ import annotations

from fractions import Fraction
from importlib import import_module
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import maximum_filter1d
from scipy.signal import firwin, resample_poly

from ...._utils.validation import check_choice

STRETCHERS = ("signalsmith", "phase_vocoder")
RESAMPLERS = ("polyphase", "soxr")

# Block and interval of Signalsmith Stretch in seconds. Its defaults of 0.12 and 0.03 displace clicks by up to 1.15 ms,
# these values by up to 0.75 ms. Smaller values blur the harmonics of low voices.
_BLOCK_SECONDS, _INTERVAL_SECONDS = 0.108, 0.027
# Hop of our phase vocoder in seconds, a quarter of a frame: frames of 64 ms resolve the harmonics of a low voice.
_HOP_SECONDS = 0.016
# Frames that the phase vocoder processes at once: few enough for the cache.
_N_FRAMES = 64
# A peak of the spectrum starts with new phases if its power grows by more than this factor in one hop.
_ONSET_RATIO = 10.0
# Zero crossings of the resampling sinc on either side, and its Kaiser window, for a rejection of 70 dB.
_N_CROSSINGS, _BETA, _STOP_DB = 40, 6.8, 70.0


def stretch(waveform: np.ndarray, sample_rate: int, rate: float, engine: str) -> np.ndarray:
    """Play a waveform at `rate` times its speed and at the same pitch, in ``round(n / rate)`` samples."""
    check_choice("engine", engine, STRETCHERS)
    n_samples = round(len(waveform) / rate)
    stretcher = _signalsmith if engine == "signalsmith" else _phase_vocoder
    return stretcher(waveform, sample_rate, rate, n_samples) if n_samples else waveform[:0].copy()


def shift_pitch(waveform: np.ndarray, sample_rate: int, semitones: float, engine: str) -> np.ndarray:
    """Shift the pitch of a waveform; speed and length stay the same."""
    # Signalsmith's own transposition shifts low harmonics by up to 30 cents too much; resampling is exact.
    check_choice("engine", engine, STRETCHERS)
    faster = resample(waveform, sample_rate, 2 ** (semitones / 12), "polyphase")
    return stretch(faster, sample_rate, len(faster) / len(waveform), engine) if len(faster) else waveform.copy()


def resample(waveform: np.ndarray, sample_rate: int, rate: float, engine: str) -> np.ndarray:
    """Play a waveform at `rate` times its speed and pitch, in ``round(n / rate)`` samples."""
    check_choice("engine", engine, RESAMPLERS)
    n_samples = round(len(waveform) / rate)
    if not n_samples:
        return waveform[:0].copy()
    if engine == "soxr":
        return _fit(_optional("soxr").resample(waveform, rate, 1.0), n_samples)
    # The error is below a quarter of a millisecond at the end of the clip, and below a third of a cent.
    ratio = _ratio(rate, min(2e-4, 0.25e-3 * sample_rate / len(waveform)))
    longest = max(ratio.numerator, ratio.denominator)
    transition = (_STOP_DB - 7.95) / (2.285 * np.pi * 2 * _N_CROSSINGS)
    # The stop band starts at the new Nyquist frequency; scipy's own filter is only 6 dB down there and aliases.
    n_taps = 2 * _N_CROSSINGS * longest + 1
    taps = firwin(n_taps, (1 - transition / 2) / longest, window=("kaiser", _BETA)).astype(np.float32)
    return _fit(resample_poly(waveform, ratio.denominator, ratio.numerator, window=taps), n_samples)


def _signalsmith(waveform: np.ndarray, sample_rate: int, rate: float, n_samples: int) -> np.ndarray:
    """Stretch a waveform by Signalsmith Stretch."""
    engine = _optional("python_stretch").Signalsmith.Stretch(0)
    engine.configure(1, round(_BLOCK_SECONDS * sample_rate), round(_INTERVAL_SECONDS * sample_rate))
    engine.timeFactor = rate
    # The ends of a clip lose energy unless there is silence around it.
    n_around = round(_BLOCK_SECONDS * sample_rate / 2)
    stretched = engine.process(np.pad(waveform, n_around)[np.newaxis])[0]
    return _fit(stretched[round(n_around / rate) :], n_samples)


def _phase_vocoder(waveform: np.ndarray, sample_rate: int, rate: float, n_samples: int) -> np.ndarray:
    """Stretch a waveform by a phase vocoder with locked phases."""
    # Laroche and Dolson (1999): the phases of spectral peaks continue, and the bins around a peak turn with it, which
    # locks their phases. A second spectrum, one hop earlier (Puckette, 1995), gives the phase advance without
    # unwrapping. Ours: an event off the centre of a frame, such as a click, is moved to its place at the new rate by
    # a slope of the phases around its peaks, and starts with the phases of that place.
    hop = next_fast_len(round(_HOP_SECONDS * sample_rate), real=True)
    size = 4 * hop
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    bins = np.arange(size // 2 + 1)
    centres = hop * np.arange(-1, -(-n_samples // hop) + 2)
    starts = np.round(centres * rate).astype(np.int64) - size // 2
    n_before = hop - starts[0]
    padded = np.pad(waveform, (n_before, max(0, starts[-1] + size - len(waveform))))
    frames = sliding_window_view(padded, size)
    starts += n_before
    # Rows are hops; each frame is added to four rows.
    output = np.zeros((len(starts) + 3, hop), np.float32)
    turn = np.ones(len(bins), np.complex64)
    last = None
    for first in range(0, len(starts), _N_FRAMES):
        now = starts[first : first + _N_FRAMES]
        spectra, earlier = rfft(frames[now] * window), rfft(frames[now - hop] * window)
        previous = np.concatenate([earlier[:1] if last is None else last, spectra[:-1]])
        last = spectra[-1:].copy()
        owners, starting, advances, slopes = _phases(spectra, earlier, previous, bins, rate)
        for row in range(len(now)):
            turn = (turn * advances[row] + starting[row])[owners[row]] * slopes[row]
            spectra[row] *= turn
        # Four squared Hann windows add up to 1.5.
        parts = irfft(spectra, n=size) * (window / 1.5)
        for quarter in range(4):
            output[first + quarter : first + quarter + len(now)] += parts[:, quarter * hop : (quarter + 1) * hop]
    return output.ravel()[size // 2 + hop :][:n_samples].copy()


def _phases(
    spectra: np.ndarray, earlier: np.ndarray, previous: np.ndarray, bins: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, for every frame and bin, the peak that owns it, starting phases, phase advances, and slopes."""
    half = len(bins) - 1
    power = spectra.real**2 + spectra.imag**2
    is_peak = power == maximum_filter1d(power, 5, axis=1)
    below = np.maximum.accumulate(np.where(is_peak, bins, 0), axis=1)
    above = np.minimum.accumulate(np.where(is_peak, bins, half)[:, ::-1], axis=1)[:, ::-1]
    owners = np.where(2 * bins <= below + above, below, above)
    advances = previous * earlier.conj()
    sizes = np.abs(advances)
    advances = np.where(sizes > 0, advances / np.maximum(sizes, np.float32(1e-38)), np.complex64(1))

    # The slope of the phases gives the place of a peak's energy in its frame, in samples from the centre.
    rows, peaks = np.nonzero(is_peak)
    products = spectra[:, 1:] * spectra[:, :-1].conj()
    around = np.zeros_like(spectra)
    around[:, :-1] -= products
    around[:, 1:] -= products
    places = -np.angle(around[rows, peaks]) * (half / np.pi)
    moves = np.clip(places / rate, -half, half) - places
    slope = np.zeros_like(power)
    slope[rows, peaks] = moves * (-np.pi / half)
    slopes = _phasors(np.take_along_axis(slope, owners, axis=1) * (bins - owners).astype(np.float32))

    before = earlier[rows, peaks]
    is_onset = (power[rows, peaks] > _ONSET_RATIO * (before.real**2 + before.imag**2)) & (places > half / 4)
    rows, peaks = rows[is_onset], peaks[is_onset]
    starting = np.zeros_like(spectra)
    starting[rows, peaks] = _phasors(slope[rows, peaks] * peaks)
    advances[rows, peaks] = 0
    return owners, starting, advances, slopes


def _phasors(angles: np.ndarray) -> np.ndarray:
    """Return complex numbers of magnitude 1 at these angles."""
    phasors = np.empty(angles.shape, np.complex64)
    phasors.real, phasors.imag = np.cos(angles), np.sin(angles)
    return phasors


def _ratio(rate: float, tolerance: float) -> Fraction:
    """Return a simple fraction with a relative error of at most `tolerance`."""
    limit = 16
    while abs((ratio := Fraction(rate).limit_denominator(limit)) - rate) > tolerance * rate:
        limit *= 2
    return ratio


def _fit(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Return the first samples, padded with zeros if there are too few."""
    return np.pad(waveform[:n_samples], (0, max(0, n_samples - len(waveform))))


def _optional(package: str) -> Any:
    """Import a package of the extra `engines`."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f'this engine needs the package {package}: pip install "mmestim[engines]", or use another engine.'
        ) from error
