"""Resampling of waveforms, whole or block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import gcd

import numpy as np
from scipy.signal import firwin, kaiserord, resample_poly


def resample(waveform: np.ndarray, old_rate: int, new_rate: int) -> np.ndarray:
    """Resample a waveform without delay.

    Frequencies below 0.85 times the lower Nyquist frequency are kept with an error below -80 dB. Frequencies above the
    lower Nyquist frequency are attenuated by 80 dB or more.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        The waveform.
    old_rate, new_rate : int
        Sample rates in Hz.

    Returns
    -------
    ndarray of shape (ceil(n_samples * new_rate / old_rate),)
        The resampled waveform.
    """
    if old_rate == new_rate:
        return waveform
    up, down = rate_ratio(old_rate, new_rate)
    return resample_poly(waveform, up, down, window=_low_pass(max(up, down)))


def resample_blocks(blocks: Iterable[np.ndarray], old_rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Resample a waveform that comes in blocks to the same samples as `resample` of the whole waveform.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n_samples,)
        Consecutive parts of the waveform, of any length.
    old_rate, new_rate : int
        Sample rates in Hz.

    Yields
    ------
    block : ndarray of shape (n_samples,)
        Consecutive parts of the resampled waveform.
    """
    if old_rate == new_rate:
        yield from blocks
        return
    up, down = rate_ratio(old_rate, new_rate)
    # Samples on either side that the filter reaches, rounded up so that both rates have a sample at each cut.
    reach = len(_low_pass(max(up, down))) // 2 // up + 1
    context = -(-reach // down) * down
    pending, n_before = np.zeros(0, np.float32), 0  # n_before: samples at the start that are only context
    for block in blocks:
        pending = np.concatenate([pending, block])
        n_ready = (len(pending) - n_before - context) // down * down
        if n_ready > 0:
            end = n_before + n_ready
            yield resample(pending[: end + context], old_rate, new_rate)[n_before * up // down : end * up // down]
            n_before = min(context, end)
            pending = pending[end - n_before :]
    if len(pending):
        yield resample(pending, old_rate, new_rate)[n_before * up // down :]


def rate_ratio(old_rate: int, new_rate: int) -> tuple[int, int]:
    """Return the smallest factors to upsample and downsample by."""
    divisor = gcd(old_rate, new_rate)
    return new_rate // divisor, old_rate // divisor


@lru_cache(maxsize=32)
def _low_pass(factor: int) -> np.ndarray:
    """Return the taps of the anti-aliasing filter."""
    # The default filter of scipy is shorter: from 8 to 16 kHz its error is -59 dB.
    n_taps, beta = kaiserord(80, 0.15 / factor)
    return firwin(n_taps | 1, 0.925 / factor, window=("kaiser", beta)).astype(np.float32)
