"""Statistics of the pitch: how high, how steady, how near to the notes of a keyboard."""

from __future__ import annotations

import numpy as np
from scipy import fft

from .clip_spectra import Clip, Rows, decibels, percents, quantiles

_LOWEST, _HIGHEST = 60.0, 500.0  # Hz
_BELOW = 2000.0  # Hz; above it there is more noise than harmonics
_VOICED, _QUIET_DB = 0.35, -30.0
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_RELATED = 0.15  # a lag is a multiple of another, or a part of it, if it is this near
_STEADY = 0.5  # semitones from frame to frame


def pitch(clip: Clip) -> Rows:
    """Of frames how periodic they are, and of voiced ones the pitch in semitones from A4."""
    strength, semitones, other = _track(clip)
    energy = decibels(clip.long_power.mean(axis=1))
    voiced = (strength > _VOICED) & (energy > energy.max() + _QUIET_DB)
    names = percents(_QUANTILES)
    yield "periodicity", names, quantiles(strength, _QUANTILES)
    yield "voiced", ("share",), voiced.mean(keepdims=True)
    yield "pitch", names, _of_some(semitones[voiced])
    yield "other_pitch", names, _of_some(other[voiced])
    change = np.abs(np.diff(semitones))[voiced[1:] & voiced[:-1]]
    yield "pitch_change", names, _of_some(change)
    steady = np.flatnonzero(voiced[1:] & voiced[:-1] & (np.abs(np.diff(semitones)) < _STEADY))
    # As far from the nearest note as an angle.
    turn = np.exp(2j * np.pi * semitones[steady])
    mean = turn.mean() if len(turn) else 0j
    yield "notes", ("on", "between", "any_tuning"), np.array([mean.real, mean.imag, abs(mean)])


def _of_some(values):
    return quantiles(values, _QUANTILES) if len(values) else np.zeros(len(_QUANTILES))


def _track(clip):
    """Of long frames the height of the autocorrelation's peak, 1 for a period without end, and the pitch there.

    And the height of the highest peak that has nothing to do with this one, which another voice makes.
    """
    n_bins = round(_BELOW / clip.long_bin_hz)
    magnitude = np.sqrt(clip.long_power[:, :n_bins])
    magnitude = np.concatenate([np.zeros_like(magnitude[:, :1]), magnitude], axis=1)
    size = 4 * n_bins
    rate = size * clip.long_bin_hz
    products = fft.irfft(magnitude, size, axis=1)
    shortest, longest = int(rate / _HIGHEST), int(rate / _LOWEST) + 1
    seen = products[:, : longest + 2] / np.maximum(products[:, :1], 1e-9)
    # Of lags that are multiples of the period, the shortest.
    lag = shortest + (seen[:, shortest : longest + 1] * np.linspace(1, 0.85, longest + 1 - shortest)).argmax(axis=1)
    before, at, after = (seen[np.arange(len(seen)), lag + step] for step in (-1, 0, 1))
    bend = np.minimum(before - 2 * at + after, -1e-6)
    exact = lag + np.clip(0.5 * (before - after) / bend, -1, 1)
    ratio = np.arange(shortest, longest + 1) / exact[:, None]
    ratio = np.maximum(ratio, 1 / ratio)
    related = np.abs(ratio - np.round(ratio)) < _RELATED
    other = np.where(related, 0, seen[:, shortest : longest + 1]).max(axis=1)
    return at, 12 * np.log2(rate / exact / 440), other
