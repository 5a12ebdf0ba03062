"""Statistics of phases: what stretching and shifting leave inconsistent."""

from __future__ import annotations

import numpy as np

from ._clip import Clip, Rows, numbered, pooled, stretches

_BANDS = 32


def phases(clip: Clip) -> Rows:
    """Of each band the mean cosine of second differences of phase over time, frequency, and both.

    A steady tone has 1 over time and an impulse 1 over frequency; where phases are unrelated the mean is 0.
    """
    magnitude = np.sqrt(clip.power)
    unit = clip.spectrum / magnitude
    over_time = unit[1:] * unit[:-1].conj()
    over_frequency = unit[:, 1:] * unit[:, :-1].conj()
    yield from _direction("time", _cosine(over_time[1:], over_time[:-1]), magnitude[1:-1], clip)
    yield from _direction(
        "frequency", _cosine(over_frequency[:, 1:], over_frequency[:, :-1]), magnitude[:, 1:-1], clip
    )
    yield from _direction("mixed", _cosine(over_time[:, 1:], over_time[:, :-1]), magnitude[1:, 1:], clip)


def _cosine(later, earlier):
    return later.real * earlier.real + later.imag * earlier.imag


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
