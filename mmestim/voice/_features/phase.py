"""Statistics of phases, which time stretching and pitch shifting make inconsistent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .clip_spectra import ClipSpectra, Statistics, band_means, half_second_extremes, numbered_names

_N_BANDS = 32

#: Real and imaginary parts of unit vectors. Separate arrays are faster than complex numbers.
_Parts = Sequence[np.ndarray]


def phase_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the mean cosine of second phase differences in each band, over time and over frequency.

    Over time, a steady tone has the value 1; over frequency, an impulse has the value 1. Noise has lower values.
    """
    magnitude = np.sqrt(clip.power)
    phasors = clip.spectrum.real / magnitude, clip.spectrum.imag / magnitude
    for axis, name in enumerate(("time", "frequency")):
        weights = magnitude[1:-1] if axis == 0 else magnitude[:, 1:-1]
        differences = _differences(*_neighbours(phasors, axis))
        yield from _direction(name, _cosines(*_neighbours(differences, axis)), weights, clip)


def _neighbours(parts: _Parts, axis: int) -> tuple[_Parts, _Parts]:
    """Return all elements along an axis but the first, and the predecessors of these."""
    later = [part[1:] if axis == 0 else part[:, 1:] for part in parts]
    return later, [part[:-1] if axis == 0 else part[:, :-1] for part in parts]


def _differences(later: _Parts, earlier: _Parts) -> _Parts:
    """Return the unit vectors of the phase differences."""
    (a, b), (c, d) = later, earlier
    return a * c + b * d, b * c - a * d


def _cosines(later: _Parts, earlier: _Parts) -> np.ndarray:
    """Return the cosines of the phase differences."""
    (a, b), (c, d) = later, earlier
    return a * c + b * d


def _direction(name: str, cosines: np.ndarray, weights: np.ndarray, clip: ClipSpectra) -> Statistics:
    """Yield the band means of cosines in one direction, unweighted and weighted by magnitudes."""
    bands = numbered_names("band", _N_BANDS)
    width = -(-cosines.shape[1] // _N_BANDS)
    starts = np.arange(0, _N_BANDS * width, width)
    sizes = np.diff(starts, append=cosines.shape[1]).astype(np.float32)
    track = np.add.reduceat(cosines, starts, axis=1) / sizes
    yield f"phase_{name}", bands, track.mean(axis=0)
    weighted = np.add.reduceat((cosines * weights).sum(axis=0), starts)
    yield f"phase_{name}_weighted", bands, weighted / np.add.reduceat(weights.sum(axis=0), starts)
    yield from half_second_extremes(f"phase_{name}", band_means(track, 8), clip)
