"""Statistics of what comes twice: echoes, passages put in from elsewhere, samples that are copies."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import fft, ndimage

from .clip_spectra import Clip, Rows

_QUEFRENCIES = np.geomspace(0.002, 2.0, 15)  # seconds
_PEAKS = 3


def cepstrum(clip: Clip) -> Rows:
    """Of the cepstrum of all of the clip the level and the peak in ranges of quefrency, and the highest peaks.

    An echo is a peak at its delay, as high as the echo is loud.
    """
    size = fft.next_fast_len(len(clip.waveform), real=True)
    spectrum = fft.rfft(clip.waveform, size)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    # Where white noise of the clip's level would have a power of `size`.
    coefficients = fft.irfft(np.log(power + np.float32(1e-8 * size)), size)
    coefficients = coefficients[: size // 2] * np.sqrt(np.float32(size) / 2)
    ends = np.round(_QUEFRENCIES * clip.sample_rate).astype(np.intp)
    parts = [coefficients[low:high] for low, high in pairwise(ends)]
    names = [f"{1000 * low:.0f}_{1000 * high:.0f}ms" for low, high in pairwise(_QUEFRENCIES)]
    yield "cepstrum_level", names, np.array([np.log10(_rms(part) + 1e-2) for part in parts])
    yield "cepstrum_peak", names, np.array([np.log10(part.max(initial=0) + 1e-1) for part in parts])
    late = coefficients[round(0.02 * clip.sample_rate) : ends[-1]]
    highest = np.argpartition(-late, range(_PEAKS))[:_PEAKS]
    yield "cepstrum_highest", [f"peak{n}" for n in range(_PEAKS)], np.log10(np.maximum(late[highest], 0) + 1e-1)
    yield "cepstrum_highest", ("ms",), 20 + 1000 * highest[:1] / clip.sample_rate


_APART, _PASSAGE, _PIECE = 0.25, 0.16, 0.01  # seconds
_LAG_BLOCK = 0.005  # seconds: a lag and those beside it are one
_LAGS = 3


def repeats(clip: Clip) -> Rows:
    """How far the clip is like itself a quarter of a second or more later, at the best lags and in all.

    At each lag it is the correlation of all of the clip, in standard deviations, and the highest of 0.16 s.
    """
    rate, error = clip.sample_rate, clip.residual
    around = ndimage.uniform_filter1d(np.square(error), 1 + round(0.02 * rate), mode="nearest")
    error = error / np.sqrt(around + np.float32(1e-6))  # so that loud syllables do not count more
    size = fft.next_fast_len(2 * len(error), real=True)
    shortest, longest = round(_APART * rate), len(error) - round(_PASSAGE * rate)
    likeness = fft.irfft(np.abs(fft.rfft(error, size)), size)[shortest:longest]
    width = round(_LAG_BLOCK * rate)
    blocks = likeness[: len(likeness) // width * width].reshape(-1, width)
    heights, passages, seconds = np.zeros(_LAGS), np.zeros(_LAGS), 0.0
    if len(blocks) >= _LAGS:
        best = blocks.argmax(axis=1)
        height = blocks[np.arange(len(blocks)), best] / (likeness.std() + 1e-9)
        order = np.argsort(-height, kind="stable")[:_LAGS]
        lags = shortest + width * order + best[order]
        heights = height[order]
        passages = np.sort([_best_passage(error[:-lag], error[lag:], rate) for lag in lags])[::-1]
        seconds = lags[0] / rate
    yield "repeat_likeness", [f"lag{n}" for n in range(_LAGS)], np.log10(np.maximum(heights, 0.1))
    # By digits: 1 for 0.9, 2 for 0.99.
    yield "repeat_passage", [f"lag{n}" for n in range(_LAGS)], -np.log10(1.00001 - np.clip(passages, 0, 1))
    yield "repeat", ("seconds",), np.array([seconds])


def _best_passage(first, second, rate):
    """Highest correlation of any 0.16 s, in steps of 10 ms."""
    step, pieces = round(_PIECE * rate), round(_PASSAGE / _PIECE)
    count = len(first) // step

    def sums(products):
        return np.convolve(products[: count * step].reshape(count, step).sum(axis=1), np.ones(pieces), "valid")

    energies = sums(np.square(first)) * sums(np.square(second))
    return np.max(sums(first * second) / np.sqrt(energies + 1e-6))


_RUN = 64  # samples
_FACTOR = np.array([0x9E3779B97F4A7C15], np.uint64)  # an array, as scalars warn when they overflow


def copies(clip: Clip) -> Rows:
    """Share of the samples that begin a run of 64 that comes a second time exactly, log10."""
    # Zeros have one code, be they +0 or -0.
    codes = (clip.relative + np.float32(0)).view(np.uint32).astype(np.uint64)
    moved = np.concatenate([[0], np.cumsum(codes[1:] != codes[:-1])])
    length, factor = 1, _FACTOR
    while length < _RUN:  # a run's code is made of those of its halves
        codes = codes[:-length] * factor + codes[length:]
        length, factor = 2 * length, factor * factor
    # Runs that move at all: silence is the same everywhere.
    codes = np.sort(codes[moved[_RUN - 1 :] - moved[: len(codes)] >= _RUN // 4])
    n_copies = np.count_nonzero(codes[1:] == codes[:-1])
    yield "copied", ("share",), np.log10([n_copies / len(clip.relative) + 1e-5])


def _rms(values):
    return np.sqrt(np.mean(np.square(values))) if len(values) else 0.0
