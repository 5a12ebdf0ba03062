"""Statistics of phases: what stretching and shifting leave inconsistent."""

from __future__ import annotations

import numpy as np

from .clip_spectra import Clip, Rows, numbered, pooled, stretches

_BANDS = 32


def phases(clip: Clip) -> Rows:
    """Of each band the mean cosine of second differences of phase over time, and over frequency.

    A steady tone has 1 over time and an impulse 1 over frequency; noise has less.
    """
    magnitude = np.sqrt(clip.power)
    unit = clip.spectrum.real / magnitude, clip.spectrum.imag / magnitude
    for axis, name in enumerate(("time", "frequency")):
        inner = magnitude[1:-1] if axis == 0 else magnitude[:, 1:-1]
        turns = _turns(*_neighbours(unit, axis))
        yield from _direction(name, _cosines(*_neighbours(turns, axis)), inner, clip)


def _neighbours(parts, axis):
    """Along an axis all but the first, and what is before each of them."""
    later = [part[1:] if axis == 0 else part[:, 1:] for part in parts]
    return later, [part[:-1] if axis == 0 else part[:, :-1] for part in parts]


def _turns(later, earlier):
    """From unit vectors to others, as real and imaginary parts: faster than complex numbers."""
    (a, b), (c, d) = later, earlier
    return a * c + b * d, b * c - a * d


def _cosines(later, earlier):
    """Of the angles between them."""
    (a, b), (c, d) = later, earlier
    return a * c + b * d


def _direction(name, cosines, weights, clip):
    bands = numbered("band", _BANDS)
    width = -(-cosines.shape[1] // _BANDS)
    starts = np.arange(0, _BANDS * width, width)
    sizes = np.diff(starts, append=cosines.shape[1]).astype(np.float32)
    track = np.add.reduceat(cosines, starts, axis=1) / sizes
    yield f"phase_{name}", bands, track.mean(axis=0)
    weighted = np.add.reduceat((cosines * weights).sum(axis=0), starts)
    yield f"phase_{name}_weighted", bands, weighted / np.add.reduceat(weights.sum(axis=0), starts)
    yield from stretches(f"phase_{name}", pooled(track, 8), clip)
