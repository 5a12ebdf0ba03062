"""Statistics of pitch: its height, its steadiness and its distance from the notes of a keyboard."""

from __future__ import annotations

import numpy as np
from scipy import fft

from .clip_spectra import ClipSpectra, Statistics, decibels, quantile_names, quantiles

_MIN_HZ, _MAX_HZ = 60.0, 500.0
# Upper limit of the spectrum used: above it, noise exceeds the harmonics.
_MAX_HARMONIC_HZ = 2000.0
# A frame is voiced if its autocorrelation peak and its level, relative to the loudest frame, exceed these.
_MIN_VOICED_PEAK, _MIN_VOICED_DB = 0.35, -30.0
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Tolerance for counting a lag as a multiple or a fraction of the period.
_RATIO_TOLERANCE = 0.15
# Largest change of pitch between frames of a steady note, in semitones.
_MAX_STEADY_CHANGE = 0.5


def pitch_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the periodicity of frames and, for voiced frames, the pitch in semitones from A4."""
    periodicity, semitones, other_peak = _track_pitch(clip)
    energy = decibels(clip.long_power.mean(axis=1))
    voiced = (periodicity > _MIN_VOICED_PEAK) & (energy > energy.max() + _MIN_VOICED_DB)
    names = quantile_names(_QUANTILES)
    yield "periodicity", names, quantiles(periodicity, _QUANTILES)
    yield "voiced", ("share",), voiced.mean(keepdims=True)
    yield "pitch", names, _quantiles_or_zeros(semitones[voiced])
    yield "other_pitch", names, _quantiles_or_zeros(other_peak[voiced])
    change = np.abs(np.diff(semitones))[voiced[1:] & voiced[:-1]]
    yield "pitch_change", names, _quantiles_or_zeros(change)
    steady = np.flatnonzero(voiced[1:] & voiced[:-1] & (np.abs(np.diff(semitones)) < _MAX_STEADY_CHANGE))
    # The distance to the nearest note as an angle: one turn per semitone.
    phasors = np.exp(2j * np.pi * semitones[steady])
    mean = phasors.mean() if len(phasors) else 0j
    yield "notes", ("on", "between", "any_tuning"), np.array([mean.real, mean.imag, abs(mean)])


def _quantiles_or_zeros(values: np.ndarray) -> np.ndarray:
    """Return the quantiles, or zeros if there are no values."""
    return quantiles(values, _QUANTILES) if len(values) else np.zeros(len(_QUANTILES))


def _track_pitch(clip: ClipSpectra) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Track the pitch of long frames by the autocorrelation of their magnitude spectra.

    Parameters
    ----------
    clip : ClipSpectra
        The clip.

    Returns
    -------
    periodicity : ndarray of shape (n_frames,)
        Height of the autocorrelation peak, 1 for a periodic signal.
    semitones : ndarray of shape (n_frames,)
        Pitch at that peak, in semitones from A4.
    other_peak : ndarray of shape (n_frames,)
        Height of the highest peak at an unrelated lag, which a second voice causes.
    """
    n_bins = round(_MAX_HARMONIC_HZ / clip.long_bin_hz)
    magnitude = np.sqrt(clip.long_power[:, :n_bins])
    magnitude = np.concatenate([np.zeros_like(magnitude[:, :1]), magnitude], axis=1)
    size = 4 * n_bins
    rate = size * clip.long_bin_hz
    products = fft.irfft(magnitude, size, axis=1)
    shortest, longest = int(rate / _MAX_HZ), int(rate / _MIN_HZ) + 1
    correlation = products[:, : longest + 2] / np.maximum(products[:, :1], 1e-9)
    # The weights favour the period over its multiples, which have peaks of similar height.
    preference = np.linspace(1, 0.85, longest + 1 - shortest)
    lag = shortest + (correlation[:, shortest : longest + 1] * preference).argmax(axis=1)
    before, peak, after = (correlation[np.arange(len(correlation)), lag + step] for step in (-1, 0, 1))
    curvature = np.minimum(before - 2 * peak + after, -1e-6)
    period = lag + np.clip(0.5 * (before - after) / curvature, -1, 1)
    ratio = np.arange(shortest, longest + 1) / period[:, None]
    ratio = np.maximum(ratio, 1 / ratio)
    is_related = np.abs(ratio - np.round(ratio)) < _RATIO_TOLERANCE
    other_peak = np.where(is_related, 0, correlation[:, shortest : longest + 1]).max(axis=1)
    return peak, 12 * np.log2(rate / period / 440), other_peak
