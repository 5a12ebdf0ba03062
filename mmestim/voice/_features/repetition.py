"""Statistics of repetition: echoes and repeated segments."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import fft

from .clip_spectra import ClipSpectra, Statistics, largest

_QUEFRENCY_EDGES = np.geomspace(0.002, 2.0, 15)  # seconds
_N_PEAKS = 3
_MIN_LAG_SECONDS, _SEGMENT_SECONDS, _STEP_SECONDS = 0.25, 0.16, 0.01
# Neighbouring lags within a block of this length count as one lag.
_LAG_BLOCK_SECONDS = 0.005
_N_LAGS = 3


def cepstrum_statistics(clip: ClipSpectra) -> Statistics:
    """Yield the level and the peak of the cepstrum of the clip in ranges of quefrency, and its highest peaks.

    An echo causes a peak at its delay; the louder the echo, the higher the peak.
    """
    size = fft.next_fast_len(len(clip.waveform), real=True)
    spectrum = fft.rfft(clip.waveform, size)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    # White noise at the level of the clip has the power `size`.
    coefficients = fft.irfft(np.log(power + np.float32(1e-8 * size)), size)
    coefficients = coefficients[: size // 2] * np.sqrt(np.float32(size) / 2)
    ends = np.round(_QUEFRENCY_EDGES * clip.sample_rate).astype(np.intp)
    parts = [coefficients[low:high] for low, high in pairwise(ends)]
    names = [f"{1000 * low:.0f}_{1000 * high:.0f}ms" for low, high in pairwise(_QUEFRENCY_EDGES)]
    yield "cepstrum_level", names, np.array([np.log10(_rms(part) + 1e-2) for part in parts])
    yield "cepstrum_peak", names, np.array([np.log10(part.max(initial=0) + 1e-1) for part in parts])
    late = coefficients[round(0.02 * clip.sample_rate) : ends[-1]]
    peaks = np.log10(np.maximum(largest(late, _N_PEAKS), 0) + 1e-1)
    yield "cepstrum_highest", [f"peak{n}" for n in range(_N_PEAKS)], peaks
    yield "cepstrum_highest", ("ms",), 20 + 1000 * late.argmax(keepdims=True) / clip.sample_rate


def repeat_statistics(clip: ClipSpectra) -> Statistics:
    """Yield how similar the clip is to itself at the best lags of 0.25 s or more.

    For each lag there are two values: the autocorrelation of the whole clip, in standard deviations, and the highest
    correlation of any segment of 0.16 s.
    """
    rate = clip.sample_rate
    # Otherwise, loud syllables would dominate.
    error = clip.residual / np.sqrt(clip.residual_power + np.float32(1e-6))
    size = fft.next_fast_len(2 * len(error), real=True)
    shortest, longest = round(_MIN_LAG_SECONDS * rate), len(error) - round(_SEGMENT_SECONDS * rate)
    correlation = fft.irfft(np.abs(fft.rfft(error, size)), size)[shortest:longest]
    width = round(_LAG_BLOCK_SECONDS * rate)
    blocks = correlation[: len(correlation) // width * width].reshape(-1, width)
    heights, segment_correlations, seconds = np.zeros(_N_LAGS), np.zeros(_N_LAGS), 0.0
    if len(blocks) >= _N_LAGS:
        best = blocks.argmax(axis=1)
        block_heights = blocks[np.arange(len(blocks)), best] / (correlation.std() + 1e-9)
        order = np.argsort(-block_heights, kind="stable")[:_N_LAGS]
        lags = shortest + width * order + best[order]
        heights = block_heights[order]
        segment_correlations = np.sort([_max_segment_correlation(error[:-lag], error[lag:], rate) for lag in lags])
        segment_correlations = segment_correlations[::-1]
        seconds = lags[0] / rate
    yield "repeat_likeness", [f"lag{n}" for n in range(_N_LAGS)], np.log10(np.maximum(heights, 0.1))
    # The number of nines: 1 for 0.9, 2 for 0.99.
    nines = -np.log10(1.00001 - np.clip(segment_correlations, 0, 1))
    yield "repeat_passage", [f"lag{n}" for n in range(_N_LAGS)], nines
    yield "repeat", ("seconds",), np.array([seconds])


def _max_segment_correlation(first: np.ndarray, second: np.ndarray, rate: int) -> float:
    """Return the highest correlation of two signals over any segment of 0.16 s, in steps of 10 ms."""
    step, n_steps = round(_STEP_SECONDS * rate), round(_SEGMENT_SECONDS / _STEP_SECONDS)
    count = len(first) // step

    first, second = (x[: count * step].reshape(count, step) for x in (first, second))

    def segment_sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.convolve(np.einsum("ij,ij->i", x, y), np.ones(n_steps), "valid")

    energies = segment_sums(first, first) * segment_sums(second, second)
    return np.max(segment_sums(first, second) / np.sqrt(energies + 1e-6))


def _rms(values: np.ndarray) -> float:
    """Return the root mean square, or 0 if there are no values."""
    return np.sqrt(np.mean(np.square(values))) if len(values) else 0.0
