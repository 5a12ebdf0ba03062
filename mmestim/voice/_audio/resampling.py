"""Resampling of waveforms, whole or block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import firwin, kaiserord, resample_poly

# Larger factors would need a matrix of more than some megabytes.
_MAX_MATRIX_FACTOR = 1000
# Resampled samples of a block, at least, and blocks of a product, at most.
_MIN_BLOCK, _MAX_BLOCKS = 128, 1000


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
    if old_rate == new_rate or len(waveform) == 0:
        return waveform
    up, down = rate_ratio(old_rate, new_rate)
    if max(up, down) > _MAX_MATRIX_FACTOR:
        return resample_poly(waveform, up, down, window=_low_pass(max(up, down)))
    # The filter of a block of samples as one matrix takes an eighth of the time.
    matrix, n_before = _filter_matrix(up, down)
    n_in, n_out, n_resampled = len(matrix), matrix.shape[1], -(-len(waveform) * up // down)
    hop, n_blocks = n_out * down // up, -(-n_resampled // n_out)
    n_after = (n_blocks - 1) * hop + n_in - n_before - len(waveform)
    blocks = sliding_window_view(np.pad(waveform, (n_before, n_after)), n_in)[::hop]
    # A product copies its blocks, which overlap, so that a long waveform takes several.
    products = [blocks[first : first + _MAX_BLOCKS] @ matrix for first in range(0, n_blocks, _MAX_BLOCKS)]
    return np.concatenate(products).ravel()[:n_resampled]


def resample_blocks(blocks: Iterable[np.ndarray], old_rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Resample a waveform that comes in blocks to the samples of `resample`, up to rounding errors.

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
def _filter_matrix(up: int, down: int) -> tuple[np.ndarray, int]:
    """Return the matrix that resamples a block of samples, and the number of samples before it that it needs."""
    taps = _low_pass(max(up, down)) * np.float32(up)
    half = len(taps) // 2
    n_out = -(-_MIN_BLOCK // up) * up  # Blocks start at a sample of both rates.
    n_before = half // up
    times_in = np.arange(-n_before, (n_out - 1) * down // up + n_before + 2) * up
    places = np.arange(n_out) * down - times_in[:, None] + half
    is_reached = (places >= 0) & (places < len(taps))
    return np.where(is_reached, taps[places.clip(0, len(taps) - 1)], np.float32(0)), n_before


@lru_cache(maxsize=32)
def _low_pass(factor: int) -> np.ndarray:
    """Return the taps of the anti-aliasing filter."""
    # The default filter of scipy is shorter: from 8 to 16 kHz its error is -59 dB.
    n_taps, beta = kaiserord(80, 0.15 / factor)
    return firwin(n_taps | 1, 0.925 / factor, window=("kaiser", beta)).astype(np.float32)
