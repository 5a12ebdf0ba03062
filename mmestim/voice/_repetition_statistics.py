"""Statistics of what comes twice: echoes, passages put in from elsewhere, samples that are copies."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from scipy import fft

from ._clip import Clip, Rows

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
    parts = [coefficients[low:high] for low, high in zip(ends[:-1], ends[1:], strict=True)]
    names = [f"{1000 * low:.0f}_{1000 * high:.0f}ms" for low, high in zip(_QUEFRENCIES, _QUEFRENCIES[1:], strict=False)]
    yield "cepstrum_level", names, np.array([np.log10(_rms(part) + 1e-2) for part in parts])
    yield "cepstrum_peak", names, np.array([np.log10(part.max(initial=0) + 1e-1) for part in parts])
    late = coefficients[round(0.02 * clip.sample_rate) : ends[-1]]
    highest = np.argpartition(-late, range(_PEAKS))[:_PEAKS]
    yield "cepstrum_highest", [f"peak{n}" for n in range(_PEAKS)], np.log10(np.maximum(late[highest], 0) + 1e-1)
    yield "cepstrum_highest", ("ms",), 20 + 1000 * highest[:1] / clip.sample_rate


_PASSAGE, _APART = 0.16, 0.25  # seconds
_CANDIDATES = 4
_BLOCK = 1024  # frames: passages are looked for up to 8 s apart


def repeats(clip: Clip) -> Rows:
    """How alike the passages of 0.16 s are that are most alike, first by their levels, then by their waveforms."""
    likeness, first, second = _most_alike(clip)
    hop = round(clip.hop_seconds * clip.sample_rate)
    length = round(_PASSAGE * clip.sample_rate)
    found = [_alignment(clip.residual, hop * i, hop * j, length, hop) for i, j in zip(first, second, strict=True)]
    same = np.zeros(_CANDIDATES)
    same[: len(found)] = np.sort(found)[::-1]
    padded = np.zeros(_CANDIDATES)
    padded[: len(likeness)] = likeness
    numbers = [f"passage{n}" for n in range(_CANDIDATES)]
    yield "repeat_likeness", numbers, padded
    # By digits: 1 for 0.9, 2 for 0.99.
    yield "repeat_waveform", numbers, -np.log10(1.00001 - np.clip(same, 0, 1))
    yield "repeat", ("seconds",), np.array([clip.hop_seconds * (second[0] - first[0]) if len(first) else 0.0])


def _most_alike(clip):
    """Likenesses of passages to later ones, the highest first, and the frames where both start."""
    level = clip.levels
    energy = level.mean(axis=1)
    shape = level - level.mean(axis=0)
    shape -= shape.mean(axis=1, keepdims=True)
    shape /= np.sqrt(np.sum(np.square(shape), axis=1, keepdims=True)) + np.float32(1e-3)
    shape[energy < np.median(energy)] = 0  # pauses are alike by nature
    width, apart = round(_PASSAGE / clip.hop_seconds), round(_APART / clip.hop_seconds)
    n_starts = len(shape) - width + 1 - apart
    parts = [_part_alike(shape, start, width, apart) for start in range(0, n_starts, _BLOCK)]
    if not parts:
        return np.zeros(0), [], []
    likeness, first, second = np.concatenate(parts, axis=1)
    best = np.argsort(-likeness, kind="stable")[:_CANDIDATES]
    return likeness[best], first[best].astype(int), second[best].astype(int)


def _part_alike(shape, start, width, apart):
    """Likeness of passages that start in one block to later ones, the highest of each half passage."""
    rows = shape[start : start + _BLOCK + width - 1]
    n_starts = min(_BLOCK, len(shape) - start - width + 1 - apart)
    n_lags = min(_BLOCK, len(shape) - start - width + 1 - apart)
    columns = shape[start + apart : start + apart + n_lags + len(rows) - 1]
    # Row by frame and column by lag: each row begins one further.
    products = np.zeros((len(rows), n_lags + len(rows)), np.float32)
    np.matmul(rows, columns.T, out=products[:, : len(columns)])
    step = products.itemsize
    by_lag = as_strided(products, (len(rows), n_lags), (products.strides[0] + step, step))
    sums = np.cumsum(by_lag, axis=0)
    alike = sums[width - 1 :][:n_starts] - np.concatenate([np.zeros_like(sums[:1]), sums])[:n_starts]
    best = alike.argmax(axis=1)
    height = alike[np.arange(n_starts), best] / width
    halves = np.array_split(np.arange(n_starts), -(-2 * n_starts // width))
    first = np.array([part[height[part].argmax()] for part in halves])
    return height[first], start + first, start + first + apart + best[first]


def _alignment(waveform, first, second, length, most):
    """Highest correlation of a passage with another that may start up to `most` samples off."""
    passage = waveform[first : first + length]
    low, high = max(0, second - most), min(len(waveform), second + most + length)
    region = waveform[low:high]
    size = fft.next_fast_len(len(region), real=True)
    products = fft.irfft(fft.rfft(region, size) * fft.rfft(passage, size).conj(), size)[: len(region) - length + 1]
    sums = np.concatenate([[0], np.cumsum(np.square(region, dtype=np.float64))])
    energies = (sums[length:] - sums[:-length]) * np.sum(np.square(passage, dtype=np.float64))
    return np.max(products / np.sqrt(energies + 1e-9))


_RUN = 64  # samples
_FACTOR = np.array([0x9E3779B97F4A7C15], np.uint64)  # an array, as scalars warn when they overflow


def copies(clip: Clip) -> Rows:
    """Share of the samples that begin a run of 64 that comes a second time exactly, log10."""
    codes = (clip.raw + np.float32(0)).view(np.uint32).astype(np.uint64)
    moved = np.concatenate([[0], np.cumsum(codes[1:] != codes[:-1])])
    length, factor = 1, _FACTOR
    while length < _RUN:  # a run's code is made of those of its halves
        codes = codes[:-length] * factor + codes[length:]
        length, factor = 2 * length, factor * factor
    # Runs that move at all: silence is the same everywhere.
    codes = np.sort(codes[moved[_RUN - 1 :] - moved[: len(codes)] >= _RUN // 4])
    n_copies = np.count_nonzero(codes[1:] == codes[:-1])
    yield "copied", ("share",), np.log10([n_copies / len(clip.raw) + 1e-5])


def _rms(values):
    return np.sqrt(np.mean(np.square(values))) if len(values) else 0.0
