"""Statistics of the spectrum: its levels, tone, holes and edges, and how it changes."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

from .clip_spectra import (
    N_BANDS,
    ClipSpectra,
    Statistics,
    band_means,
    decibels,
    half_second_extremes,
    numbered_names,
    quantile_names,
    quantiles,
)

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_N_TONE_BANDS, _MIN_TONE_HZ = 24, 80.0
_N_HOLE_BANDS = 32
_MODULATION_HZ = (0.5, 1, 2, 4, 8, 16, 32, 62.5)
# Added to fractions before the logarithm.
_FRACTION_FLOOR = 1e-4
_SLOPE_SECONDS = 0.04
_SLOPE_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_EDGE_DEPTHS_DB = (20, 30, 40, 50, 60)


def level_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the level of each band in dB: its mean, spread and floor, and its change between frames."""
    bands = numbered_names("band", N_BANDS)
    level = clip.levels
    yield "level_std", bands, level.std(axis=0)
    for name, curve in (("level_mean", level.mean(axis=0)), ("level_floor", quantiles(level, (0.05,))[0])):
        yield name, bands, curve
        yield f"{name}_step", bands[1:], np.diff(curve)  # decision trees cannot subtract columns
    yield "change_std", bands, np.sqrt(np.square(np.diff(level, axis=0)).mean(axis=0))
    yield from half_second_extremes("level", band_means(level, 16), clip)


def tone_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the level of bands of equal musical width, its floor and its top, with slopes and bends over bands.

    A tone control bends the spectra of the voice and of the background noise alike.
    """
    edges = np.geomspace(_MIN_TONE_HZ, clip.sample_rate / 2, _N_TONE_BANDS + 1) / clip.long_bin_hz
    starts = np.minimum(edges.astype(np.intp), clip.long_power.shape[1] - 1)
    widths = np.maximum(1, np.diff(starts))
    level = decibels(np.add.reduceat(clip.long_power, starts[:-1], axis=1) / widths)
    bands = numbered_names("band", _N_TONE_BANDS)
    floor, top = quantiles(level, (0.1, 0.9))
    bends = {}
    for name, curve in (("mean", level.mean(axis=0)), ("floor", floor), ("top", top)):
        bends[name] = np.diff(curve, 2)
        yield f"tone_{name}", bands, curve
        yield f"tone_{name}_slope", bands[4:], curve[4:] - curve[:-4]  # over 1.1 octaves at 16 kHz
        yield f"tone_{name}_bend", bands[1:-1], bends[name]
    correlations = [_correlation(bends["floor"], bends[name]) for name in ("mean", "top")]
    yield "tone_floor_bends_as", ("mean", "top"), np.array(correlations)


def hole_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the roughness of the spectrum in each band, and the fractions of bins that a codec may have removed.

    These are bins 12 dB below the level of their band, and bins 60 dB below the level of the clip.
    """
    bands = numbered_names("band", _N_HOLE_BANDS)
    level = clip.bin_levels
    roughness = np.abs(np.diff(level, axis=1, append=level[:, -1:]))
    is_below_band = level < np.repeat(clip.levels, clip.bins_per_band, axis=1) - 12
    for name, values in (("roughness", roughness), ("below_band", is_below_band), ("empty", level < -60)):
        yield name, bands, band_means(values.mean(axis=0, dtype=np.float32), _N_HOLE_BANDS)


def frame_statistics(clip: ClipSpectra) -> Statistics:
    """Yield quantiles of the energy and the flatness of frames, and the levels of the quietest 10 % of frames."""
    names = quantile_names(_QUANTILES)
    energy = decibels(clip.band_power.mean(axis=1))
    yield "energy", names, quantiles(energy, _QUANTILES)
    flatness = clip.bin_levels.mean(axis=1) - energy
    yield "flatness", names, quantiles(flatness, _QUANTILES)
    yield from half_second_extremes("flatness", flatness[:, None], clip)
    # Background noise is exposed in pauses.
    quietest = np.argsort(energy, kind="stable")[: max(1, len(energy) // 10)]
    pause = clip.levels[quietest]
    yield "pause_level", numbered_names("band", 16), band_means(pause, 16).mean(axis=0)
    roughness = np.abs(np.diff(pause, axis=1)).mean()
    values = np.array([flatness[quietest].mean(), roughness, pause.std(axis=0).mean()])
    yield "pause", ("flatness", "roughness", "std"), values


def modulation_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the fraction of modulation power in ranges of modulation frequency, for eight bands, as log10."""
    level = band_means(clip.levels, 8)
    level = (level - level.mean(axis=0)) * signal.get_window("hann", len(level)).astype(np.float32)[:, None]
    power = np.square(np.abs(fft.rfft(level, axis=0)))
    ends = np.searchsorted(fft.rfftfreq(len(level), clip.hop_seconds), _MODULATION_HZ)
    cumulative = np.concatenate([np.zeros((1, 8), np.float32), np.cumsum(power, axis=0)])[ends]
    fractions = np.log10(np.diff(cumulative, axis=0) / (power.sum(axis=0) + 1e-6) + _FRACTION_FLOOR)
    for low, high, values in zip(_MODULATION_HZ[:-1], _MODULATION_HZ[1:], fractions, strict=True):
        yield f"modulation_{low:g}_{high:g}hz", numbered_names("band", 8), values


def slope_statistics(clip: ClipSpectra) -> Statistics:
    """Yield quantiles of the level change over 40 ms, in the whole band and in four bands.

    In a reverberant room, the level falls slowly.
    """
    steps = max(1, round(_SLOPE_SECONDS / clip.hop_seconds))
    power = np.column_stack([clip.band_power.mean(axis=1), band_means(clip.band_power, 4)])
    level = decibels(power)
    changes = quantiles(level[steps:] - level[:-steps], _SLOPE_QUANTILES)
    for name, column in zip(("all", *numbered_names("band", 4)), changes.T, strict=True):
        yield f"slope_{name}", quantile_names(_SLOPE_QUANTILES), column


def edge_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the frequencies where the spectrum ends, and the place and size of its steepest fall and rise."""
    frequencies = np.linspace(0, 0.5 * clip.sample_rate / 1000, clip.bin_levels.shape[1])
    mean, top = clip.bin_levels.mean(axis=0), quantiles(clip.bin_levels, (0.95,))[0]
    for name, curve in (("mean", mean), ("top", top)):
        ends = [np.flatnonzero(curve >= curve.max() - depth)[[0, -1]] for depth in _EDGE_DEPTHS_DB]
        depths = [f"{depth}db" for depth in _EDGE_DEPTHS_DB]
        yield f"{name}_lowest_khz", depths, frequencies[[first for first, _ in ends]]
        yield f"{name}_highest_khz", depths, frequencies[[last for _, last in ends]]
        for bands in (1, 4):
            width = bands * clip.bins_per_band
            sums = np.concatenate([[0], np.cumsum(curve, dtype=np.float64)])
            means = (sums[width:] - sums[:-width]) / width
            rise = means[width:] - means[:-width]
            steepest = [rise.argmin(), rise.argmax()]
            yield f"{name}_steepest_{bands}", ("fall_db", "rise_db"), rise[steepest]
            yield f"{name}_steepest_{bands}", ("fall_khz", "rise_khz"), frequencies[np.add(steepest, width)]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation; 0 if either is constant."""
    x, y = x - x.mean(), y - y.mean()
    return np.sum(x * y) / (np.sqrt(np.sum(x * x) * np.sum(y * y)) + 1e-6)
