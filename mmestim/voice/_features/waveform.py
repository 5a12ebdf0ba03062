"""Statistics of the waveform: amplitudes, clicks, what a linear predictor leaves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage, signal

from .clip_spectra import N_BANDS, Clip, Rows, decibels, percents, quantiles, stretches

_SIZES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
_SIZE_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
_LEAST = 1e-5
_FLAT = 1e-3  # of the peak


def amplitudes(clip: Clip) -> Rows:
    """How samples are spread below the peak, stay where they are, and how many values they have."""
    relative = clip.relative
    sizes = np.sort(np.abs(relative))
    ranks = np.searchsorted(sizes, _SIZES)
    shares = np.diff(np.append(ranks[:-1], len(sizes))) / len(sizes)
    yield "share_of_peak", [f"{low:g}_{high:g}" for low, high in pairwise(_SIZES)], _log(shares)
    level = np.sqrt(np.mean(np.square(sizes)))
    at = np.round(np.multiply(_SIZE_QUANTILES, len(sizes) - 1)).astype(np.intp)
    yield "amplitude", (*percents(_SIZE_QUANTILES), "peak"), np.log10((sizes[[*at, -1]] + _LEAST) / (level + _LEAST))
    change = np.abs(np.diff(relative))
    loud = np.abs(relative[1:]) > 0.3
    still, flat = change == 0, (change < _FLAT) & loud
    yield (
        "flat",
        ("still", "loud_still", "loud", "longest"),
        np.array(
            [
                _log(still.mean()),
                _log((still & loud).mean()),
                _log(flat.mean()),
                np.log10(1 + _longest(flat)),
            ]
        ),
    )
    values = np.unique(relative)
    gap = np.median(np.diff(values)) if len(values) > 1 else 1.0
    yield (
        "values",
        ("distinct", "bits"),
        np.array(
            [
                np.log10(len(values) / len(relative)),
                np.log2(1 / gap),
            ]
        ),
    )


_CREST_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def crests(clip: Clip) -> Rows:
    """Of short frames how far the peak is above the RMS, and how heavy the tails are: overdriving lowers both."""
    length = 2 * N_BANDS * clip.bins_per_band
    pieces = sliding_window_view(clip.waveform, length)[:: length // 4]
    power = np.square(pieces)
    mean = power.mean(axis=1) + np.float32(1e-8)
    tracks = {
        "crest": np.sqrt(power.max(axis=1) / mean),
        "tails": np.log(np.square(power).mean(axis=1) / np.square(mean) + np.float32(1e-3)),
    }
    energy = np.log(mean)
    loud = energy > np.median(energy)
    for name, track in tracks.items():
        yield name, percents(_CREST_QUANTILES), quantiles(track[loud] if loud.any() else track, _CREST_QUANTILES)
        yield from stretches(name, (track * loud)[:, None], clip)


_CLICK_SECONDS = 0.004
_CLICK_BANDS = (0, 0.25, 0.5, 1)  # of half the sample rate
_TOPS = (1, 4, 16)


def clicks(clip: Clip) -> Rows:
    """In three bands how far the loudest 4 ms stand out of the 40 ms around them, in dB."""
    half = max(4, round(_CLICK_SECONDS * clip.sample_rate / 2))
    pieces = sliding_window_view(clip.waveform, 2 * half)[::half]
    power = np.square(np.abs(fft.rfft(pieces * signal.get_window("hann", 2 * half).astype(np.float32), axis=1)))
    ends = np.round(np.multiply(_CLICK_BANDS, half)).astype(np.intp) + 1
    for low, high, name in zip(ends[:-1], ends[1:], ("low", "middle", "high"), strict=True):
        level = decibels(power[:, low:high].sum(axis=1) + np.float32(1e-4))
        above = level - ndimage.uniform_filter1d(level, 21, mode="nearest")
        yield f"click_{name}", _top_names(), _tops(above)
        yield f"click_{name}", ("kurtosis",), _kurtosis(above)


def residual(clip: Clip) -> Rows:
    """How far the largest errors of a linear predictor stand out, and how heavy their tails are."""
    error = clip.residual
    power = np.square(error)
    width = 1 + round(0.02 * clip.sample_rate)
    around = np.sqrt(ndimage.uniform_filter1d(power, width, mode="nearest") + np.float32(1e-8))
    relative = np.abs(error) / around
    yield "residual", _top_names(), _tops(relative)
    yield "residual", ("kurtosis", "kurtosis_around"), np.r_[_kurtosis(error), _kurtosis(error / around)]
    yield "residual", ("level_db",), 10 * np.log10(power.mean(keepdims=True, dtype=np.float64) + 1e-8)


def _log(shares):
    return np.log10(np.add(shares, _LEAST))


def _longest(flags):
    """Most flags in a row."""
    gaps = np.flatnonzero(np.concatenate([[True], ~flags, [True]]))
    return np.diff(gaps).max() - 1


def _top_names():
    return tuple(f"top{count}" for count in _TOPS)


def _tops(values):
    """The first, fourth and sixteenth largest."""
    return np.sort(np.partition(values, -_TOPS[-1])[-_TOPS[-1] :])[[-count for count in _TOPS]]


def _kurtosis(values):
    """Log10 of it; 0 where all are equal."""
    squares = np.square(values - values.mean(), dtype=np.float64)
    spread = squares.mean()
    return np.log10(np.mean(np.square(squares), keepdims=True) / spread**2) if spread > 0 else np.zeros(1)
