"""Waveforms at another rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import gcd

import numpy as np
from scipy.signal import firwin, kaiserord, resample_poly


def resample(waveform: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    """A waveform at another rate, without delay, ``ceil(n * new_rate / old_rate)`` samples.

    Sines below 0.85 of half the lower rate come through to -80 dB, those above all of it stay below -80 dB.
    """
    if old_rate == new_rate:
        return waveform
    up, down = _ratio(old_rate, new_rate)
    return resample_poly(waveform, up, down, window=_low_pass(max(up, down)))


def resample_blocks(blocks: Iterable[np.ndarray], old_rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """What `resample` makes of a waveform that comes in pieces: the same samples, also in pieces."""
    if old_rate == new_rate:
        yield from blocks
        return
    up, down = _ratio(old_rate, new_rate)
    # What the filter reaches on either side; pieces are cut where both rates have a sample.
    reach = len(_low_pass(max(up, down))) // 2 // up + 1
    context = -(-reach // down) * down
    held, before = np.zeros(0, np.float32), 0  # of what is held, so much is only context
    for block in blocks:
        held = np.concatenate([held, block])
        n = (len(held) - before - context) // down * down
        if n > 0:
            end = before + n
            yield resample(held[: end + context], old_rate, new_rate)[before * up // down : end * up // down]
            before = min(context, end)
            held = held[end - before :]
    if len(held):
        yield resample(held, old_rate, new_rate)[before * up // down :]


def _ratio(old_rate, new_rate):
    shared = gcd(old_rate, new_rate)
    return new_rate // shared, old_rate // shared


@lru_cache(maxsize=32)
def _low_pass(factor):
    # scipy's own is shorter: from 8 to 16 kHz it is off by -59 dB.
    n_taps, beta = kaiserord(80, 0.15 / factor)
    return firwin(n_taps | 1, 0.925 / factor, window=("kaiser", beta)).astype(np.float32)
