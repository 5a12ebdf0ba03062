"""Statistics of the spectrum: levels, tone, holes, edges, how it moves."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

from .clip_spectra import N_BANDS, Clip, Rows, decibels, numbered, percents, pooled, quantiles, stretches

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def levels(clip: Clip) -> Rows:
    """Of each band the level in dB, how it spreads, its floor, and what it changes by from frame to frame."""
    bands = numbered("band", N_BANDS)
    level = clip.levels
    yield "level_std", bands, level.std(axis=0)
    for name, curve in (("level_mean", level.mean(axis=0)), ("level_floor", quantiles(level, (0.05,))[0])):
        yield name, bands, curve
        yield f"{name}_step", bands[1:], np.diff(curve)  # trees cannot subtract
    yield "change_std", bands, np.sqrt(np.square(np.diff(level, axis=0)).mean(axis=0))
    yield from stretches("level", pooled(level, 16), clip)


_TONE_BANDS, _TONE_LOWEST = 24, 80.0  # Hz


def tone(clip: Clip) -> Rows:
    """Of bands of equal musical width the level, its floor and its top, and how each bends from band to band.

    A tone control bends what a voice says, and the noise behind it, alike.
    """
    edges = np.geomspace(_TONE_LOWEST, clip.sample_rate / 2, _TONE_BANDS + 1) / clip.long_bin_hz
    starts = np.minimum(edges.astype(np.intp), clip.long_power.shape[1] - 1)
    widths = np.maximum(1, np.diff(starts))
    level = decibels(np.add.reduceat(clip.long_power, starts[:-1], axis=1) / widths)
    bands = numbered("band", _TONE_BANDS)
    floor, top = quantiles(level, (0.1, 0.9))
    bends = {}
    for name, curve in (("mean", level.mean(axis=0)), ("floor", floor), ("top", top)):
        bends[name] = np.diff(curve, 2)
        yield f"tone_{name}", bands, curve
        yield f"tone_{name}_slope", bands[4:], curve[4:] - curve[:-4]  # over 1.1 octaves at 16 kHz
        yield f"tone_{name}_bend", bands[1:-1], bends[name]
    alike = [_correlation(bends["floor"], bends[name]) for name in ("mean", "top")]
    yield "tone_floor_bends_as", ("mean", "top"), np.array(alike)


_HOLE_BANDS = 32


def holes(clip: Clip) -> Rows:
    """Of each band how rough the spectrum is, and the share of bins that a codec may have left out.

    These are bins 12 dB below their band, and bins 60 dB below the clip.
    """
    bands = numbered("band", _HOLE_BANDS)
    level = clip.bin_levels
    rough = np.abs(np.diff(level, axis=1, append=level[:, -1:]))
    below = level < np.repeat(clip.levels, clip.bins_per_band, axis=1) - 12
    for name, found in (("roughness", rough), ("below_band", below), ("empty", level < -60)):
        yield name, bands, pooled(found.mean(axis=0, dtype=np.float32), _HOLE_BANDS)


def frames(clip: Clip) -> Rows:
    """Of frames the distribution of energy and of flatness; and of the quietest ones the levels."""
    names = percents(_QUANTILES)
    energy = decibels(clip.band_power.mean(axis=1))
    yield "energy", names, quantiles(energy, _QUANTILES)
    flatness = clip.bin_levels.mean(axis=1) - energy
    yield "flatness", names, quantiles(flatness, _QUANTILES)
    yield from stretches("flatness", flatness[:, None], clip)
    # Pauses: where the voice is not, what is behind it is heard.
    quietest = np.argsort(energy, kind="stable")[: max(1, len(energy) // 10)]
    pause = clip.levels[quietest]
    yield "pause_level", numbered("band", 16), pooled(pause, 16).mean(axis=0)
    yield (
        "pause",
        ("flatness", "roughness", "std"),
        np.array([flatness[quietest].mean(), np.abs(np.diff(pause, axis=1)).mean(), pause.std(axis=0).mean()]),
    )


_MODULATION_HZ = (0.5, 1, 2, 4, 8, 16, 32, 62.5)
_LEAST_SHARE = 1e-4


def modulation(clip: Clip) -> Rows:
    """Of eight bands the share of each range of modulation frequencies, log10."""
    level = pooled(clip.levels, 8)
    level = (level - level.mean(axis=0)) * signal.get_window("hann", len(level)).astype(np.float32)[:, None]
    power = np.square(np.abs(fft.rfft(level, axis=0)))
    ends = np.searchsorted(fft.rfftfreq(len(level), clip.hop_seconds), _MODULATION_HZ)
    below = np.concatenate([np.zeros((1, 8), np.float32), np.cumsum(power, axis=0)])[ends]
    shares = np.log10(np.diff(below, axis=0) / (power.sum(axis=0) + 1e-6) + _LEAST_SHARE)
    for low, high, share in zip(_MODULATION_HZ[:-1], _MODULATION_HZ[1:], shares, strict=True):
        yield f"modulation_{low:g}_{high:g}hz", numbered("band", 8), share


_SLOPE_SECONDS = 0.04
_SLOPE_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def slopes(clip: Clip) -> Rows:
    """How fast the level rises and falls over 40 ms, in all and in four bands: rooms let it fall slowly."""
    steps = max(1, round(_SLOPE_SECONDS / clip.hop_seconds))
    power = np.column_stack([clip.band_power.mean(axis=1), pooled(clip.band_power, 4)])
    level = decibels(power)
    found = quantiles(level[steps:] - level[:-steps], _SLOPE_QUANTILES)
    for name, column in zip(("all", *numbered("band", 4)), found.T, strict=True):
        yield f"slope_{name}", percents(_SLOPE_QUANTILES), column


def edges(clip: Clip) -> Rows:
    """Where the spectrum ends, and where and how steeply it falls and rises."""
    frequencies = np.linspace(0, 0.5 * clip.sample_rate / 1000, clip.bin_levels.shape[1])
    mean, top = clip.bin_levels.mean(axis=0), quantiles(clip.bin_levels, (0.95,))[0]
    for name, curve in (("mean", mean), ("top", top)):
        depths = (20, 30, 40, 50, 60)
        above = [np.flatnonzero(curve >= curve.max() - depth)[[0, -1]] for depth in depths]
        yield f"{name}_lowest_khz", [f"{depth}db" for depth in depths], frequencies[[first for first, _ in above]]
        yield f"{name}_highest_khz", [f"{depth}db" for depth in depths], frequencies[[last for _, last in above]]
        for bands in (1, 4):
            width = bands * clip.bins_per_band
            sums = np.concatenate([[0], np.cumsum(curve, dtype=np.float64)])
            means = (sums[width:] - sums[:-width]) / width
            rise = means[width:] - means[:-width]
            at = [rise.argmin(), rise.argmax()]
            yield f"{name}_steepest_{bands}", ("fall_db", "rise_db"), rise[at]
            yield f"{name}_steepest_{bands}", ("fall_khz", "rise_khz"), frequencies[np.add(at, width)]


def _correlation(x, y):
    x, y = x - x.mean(), y - y.mean()
    return np.sum(x * y) / (np.sqrt(np.sum(x * x) * np.sum(y * y)) + 1e-6)
