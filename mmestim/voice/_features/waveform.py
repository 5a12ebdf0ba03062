"""Statistics of the waveform: amplitudes, crest factors, clicks and the error of a linear predictor."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage, signal

from .clip_spectra import (
    N_BANDS,
    ClipSpectra,
    Statistics,
    decibels,
    half_second_extremes,
    largest,
    quantile_names,
    quantiles,
)

# Edges of amplitude ranges, relative to the peak.
_AMPLITUDE_EDGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
_AMPLITUDE_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
# Added to fractions and amplitudes before the logarithm.
_LOG_FLOOR = 1e-5
# Largest change between samples of a flat section, relative to the peak.
_MAX_FLAT_CHANGE = 1e-3
_CREST_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CLICK_SECONDS = 0.004
# Edges of the bands for clicks, relative to half the sample rate.
_CLICK_BAND_EDGES = (0, 0.25, 0.5, 1)
_TOP_RANKS = (1, 4, 16)


def amplitude_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the distribution of amplitudes, the fractions of constant and flat samples, and the number of values.

    Clipping and coarse quantisation change them.
    """
    relative, (values, counts) = clip.relative, clip.distinct
    order = np.argsort(np.abs(values), kind="stable")
    amplitudes, n_up_to = np.abs(values[order]), np.append(0, np.cumsum(counts[order]))
    ranks = n_up_to[np.searchsorted(amplitudes, _AMPLITUDE_EDGES)]
    fractions = np.diff(np.append(ranks[:-1], len(relative))) / len(relative)
    yield "share_of_peak", [f"{low:g}_{high:g}" for low, high in pairwise(_AMPLITUDE_EDGES)], _log10(fractions)
    level = np.sqrt(np.mean(np.square(relative)))
    positions = np.round(np.multiply(_AMPLITUDE_QUANTILES, len(relative) - 1))
    reached = amplitudes[[*np.searchsorted(n_up_to[1:], positions, side="right"), -1]]
    relative_quantiles = (reached + _LOG_FLOOR) / (level + _LOG_FLOOR)
    yield "amplitude", (*quantile_names(_AMPLITUDE_QUANTILES), "peak"), np.log10(relative_quantiles)
    change = np.abs(np.diff(relative))
    is_loud = np.abs(relative[1:]) > 0.3
    is_constant, is_flat = change == 0, (change < _MAX_FLAT_CHANGE) & is_loud
    logarithms = [_log10(flags.mean()) for flags in (is_constant, is_constant & is_loud, is_flat)]
    logarithms.append(np.log10(1 + _longest_run(is_flat)))
    yield "flat", ("still", "loud_still", "loud", "longest"), np.array(logarithms)
    gap = np.median(np.diff(values)) if len(values) > 1 else 1.0
    yield "values", ("distinct", "bits"), np.array([np.log10(len(values) / len(relative)), np.log2(1 / gap)])


def crest_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the crest factor of short frames and the weight of their tails, which overdriving lowers."""
    length = 2 * N_BANDS * clip.bins_per_band
    frames = sliding_window_view(clip.waveform, length)[:: length // 4]
    power = np.square(frames)
    mean = power.mean(axis=1) + np.float32(1e-8)
    tracks = {
        "crest": np.sqrt(power.max(axis=1) / mean),
        "tails": np.log(np.square(power).mean(axis=1) / np.square(mean) + np.float32(1e-3)),
    }
    energy = np.log(mean)
    is_loud = energy > np.median(energy)
    for name, track in tracks.items():
        loud_track = track[is_loud] if is_loud.any() else track
        yield name, quantile_names(_CREST_QUANTILES), quantiles(loud_track, _CREST_QUANTILES)
        yield from half_second_extremes(name, (track * is_loud)[:, None], clip)


def click_statistics(clip: ClipSpectra) -> Statistics:
    """Yield how far the loudest frames of 4 ms exceed the 40 ms around them, in dB, in three bands."""
    half = max(4, round(_CLICK_SECONDS * clip.sample_rate / 2))
    frames = sliding_window_view(clip.waveform, 2 * half)[::half]
    power = np.square(np.abs(fft.rfft(frames * signal.get_window("hann", 2 * half).astype(np.float32), axis=1)))
    ends = np.round(np.multiply(_CLICK_BAND_EDGES, half)).astype(np.intp) + 1
    for low, high, name in zip(ends[:-1], ends[1:], ("low", "middle", "high"), strict=True):
        level = decibels(power[:, low:high].sum(axis=1) + np.float32(1e-4))
        excess = level - ndimage.uniform_filter1d(level, 21, mode="nearest")
        yield f"click_{name}", _top_names(), _top_values(excess)
        yield f"click_{name}", ("kurtosis",), _log_kurtosis(excess)


def residual_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the largest errors of a linear predictor, relative to the errors around them, and their kurtosis."""
    error = clip.residual
    relative = error / np.sqrt(clip.residual_power + np.float32(1e-8))
    yield "residual", _top_names(), _top_values(np.abs(relative))
    yield "residual", ("kurtosis", "kurtosis_around"), np.r_[_log_kurtosis(error), _log_kurtosis(relative)]
    yield "residual", ("level_db",), 10 * np.log10(np.square(error).mean(keepdims=True, dtype=np.float64) + 1e-8)


def _log10(fractions: np.ndarray) -> np.ndarray:
    """Return log10 of fractions, finite for 0."""
    return np.log10(np.add(fractions, _LOG_FLOOR))


def _longest_run(flags: np.ndarray) -> int:
    """Return the length of the longest run of true flags."""
    gaps = np.flatnonzero(np.concatenate([[True], ~flags, [True]]))
    return np.diff(gaps).max() - 1


def _top_names() -> tuple[str, ...]:
    """Return the names of `_top_values`."""
    return tuple(f"top{rank}" for rank in _TOP_RANKS)


def _top_values(values: np.ndarray) -> np.ndarray:
    """Return the largest, the fourth largest and the sixteenth largest value."""
    return largest(values, _TOP_RANKS[-1])[np.subtract(_TOP_RANKS, 1)]


def _log_kurtosis(values: np.ndarray) -> np.ndarray:
    """Return log10 of the kurtosis, of shape (1,); 0 if all values are equal."""
    centred = values - values.mean()
    peak = np.abs(centred).max()
    if not peak > 0:
        return np.zeros(1)
    # The fourth powers of small values would underflow.
    squares = np.square(centred / peak)
    return np.log10(np.mean(np.square(squares), keepdims=True) / squares.mean() ** 2)
