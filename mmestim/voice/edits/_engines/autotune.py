"""Pitch correction: tracking by YIN, correction to the notes of a scale by pitch-synchronous overlap-add.

A. de Cheveigné, H. Kawahara. YIN, a fundamental frequency estimator for speech and music. JASA 2002.
E. Moulines, F. Charpentier. Pitch-synchronous waveform processing techniques. Speech Communication 1990.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage, signal

#: Notes of each scale, in semitones above the root.
SCALES = {
    "chromatic": tuple(range(12)),
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "pentatonic": (0, 2, 4, 7, 9),
}

_MIN_PITCH_HZ, _MAX_PITCH_HZ = 60.0, 550.0
_HOP_SECONDS, _WINDOW_SECONDS = 0.01, 0.025
# Above this frequency there is more noise than periodicity.
_SMOOTHING_HZ = 900.0
# A frame is voiced if YIN's aperiodicity is below this threshold,
_MAX_APERIODICITY = 0.35
# if its energy is above this fraction of the highest energy,
_MIN_ENERGY_FRACTION = 1e-4
# and if it belongs to a segment of at least 5 frames, without gaps of over 3 frames or leaps of over 2 semitones.
_MIN_FRAMES, _MAX_GAP_FRAMES, _MAX_LEAP_SEMITONES = 5, 3, 2.0
# The period is the shortest one with an aperiodicity of at most this, else the one with the lowest aperiodicity.
_PERIODIC = 0.15
# The note is the nearest to the median pitch of this many frames.
_N_MEDIAN_FRAMES = 7
# Frames and samples per block. Without blocks a long clip would take 25 times its own memory.
_N_BLOCK_FRAMES, _N_BLOCK_SAMPLES = 512, 1 << 16
# Periods move by whole samples of a waveform that is oversampled by this factor.
_OVERSAMPLING = 4
_C0_HZ = 440 * 2 ** (-57 / 12)


def tune(
    waveform: np.ndarray, sample_rate: int, scale: tuple[int, ...], root: int, strength: float, glide: float
) -> np.ndarray:
    """Correct the pitch of a waveform to the notes of a scale.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        Waveform; it is not modified.
    sample_rate : int
        Sample rate in Hz.
    scale : tuple of int
        Notes in semitones above the root, from 0 to 11.
    root : int
        First note of the scale, in semitones above C.
    strength : float
        Fraction of the distance to the note by which the pitch changes.
    glide : float
        Seconds over which the change is smoothed.

    Returns
    -------
    ndarray of shape (n_samples,)
        Corrected waveform, equal to the input where there is no pitch.
    """
    marks, shifts = [np.zeros(1)], [np.zeros(1)]
    for seconds, f0 in track(waveform, sample_rate):
        semitones = 12 * np.log2(f0 / _C0_HZ)
        # The median prevents notes from flickering.
        note = _nearest(ndimage.median_filter(semitones, _N_MEDIAN_FRAMES, mode="nearest"), scale, root)
        change = strength * (note - semitones)
        change = ndimage.uniform_filter1d(change, 1 + round(glide / _HOP_SECONDS), mode="nearest")
        epochs = _epochs(waveform, sample_rate, seconds, f0)
        if len(epochs) > 2:
            placed, shift = _respace(epochs, 2 ** (np.interp(epochs / sample_rate, seconds, change) / 12))
            marks.append(placed)
            shifts.append(shift)
    n = len(waveform)
    at = np.minimum(np.maximum.accumulate(np.concatenate([*marks, [n]])), n)
    shift = np.concatenate([*shifts, [0.0]]).astype(np.intp)
    return _overlap_add(waveform, at, shift)


# Pitch tracking -----------------------------------------------------------------------------------


def track(waveform: np.ndarray, sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the voiced segments: times in seconds, about every 10 ms, and the pitch in Hz at these times."""
    step = max(1, sample_rate // 16000)
    rate = sample_rate / step
    hop, window, longest = round(_HOP_SECONDS * rate), round(_WINDOW_SECONDS * rate), int(rate / _MIN_PITCH_HZ) + 1
    if len(waveform) < step * (window + longest):
        return []
    smooth = signal.butter(2, _SMOOTHING_HZ, fs=sample_rate, output="sos")
    x = signal.sosfiltfilt(smooth, waveform)[::step].astype(np.float32)
    frames = sliding_window_view(x, window + longest)[::hop]
    sums = np.concatenate([[0], np.cumsum(np.square(x, dtype=np.float64))])
    energies = sliding_window_view(sums[window:] - sums[:-window], longest + 1)[::hop]
    blocks = [slice(start, start + _N_BLOCK_FRAMES) for start in range(0, len(frames), _N_BLOCK_FRAMES)]
    periods = [_periods(frames[block], energies[block], window, int(rate / _MAX_PITCH_HZ)) for block in blocks]
    lag, aperiodic = (np.concatenate(parts) for parts in zip(*periods, strict=True))
    energy = energies[:, 0]
    frame = np.flatnonzero((aperiodic < _MAX_APERIODICITY) & (energy > _MIN_ENERGY_FRACTION * energy.max()))
    f0, seconds = (rate / lag)[frame], (hop * frame + (window + lag[frame]) / 2) / rate
    ends = (np.diff(frame) > _MAX_GAP_FRAMES) | (np.abs(np.diff(np.log2(f0))) > _MAX_LEAP_SEMITONES / 12)
    segments = np.split(np.arange(len(frame)), 1 + np.flatnonzero(ends))
    return [(seconds[part], f0[part]) for part in segments if len(part) >= _MIN_FRAMES]


def _periods(frames: np.ndarray, energies: np.ndarray, window: int, shortest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the period of each frame in samples, and its aperiodicity.

    `energies` are those of a frame's window and of the windows that start 1, 2, ... samples later.
    """
    longest = energies.shape[1] - 1
    size = fft.next_fast_len(frames.shape[1], real=True)
    products = fft.irfft(fft.rfft(frames[:, :window], size).conj() * fft.rfft(frames, size), size)
    # Energy of the difference between a window and the window some samples later.
    difference = np.maximum(energies[:, :1] + energies[:, 1:] - 2 * products[:, 1 : longest + 1], 0)
    # YIN's aperiodicity by lag, from 1 on: the difference relative to its mean over all shorter lags.
    aperiodic = difference * np.arange(1, longest + 1) / np.maximum(np.cumsum(difference, axis=1), 1e-12)
    middle = aperiodic[:, 1:-1]
    dips = (middle < aperiodic[:, :-2]) & (middle <= aperiodic[:, 2:])
    dips[:, : shortest - 2] = False
    least = np.min(middle, axis=1, where=dips, initial=1, keepdims=True)
    first = 1 + (dips & (middle <= np.maximum(least, _PERIODIC))).argmax(axis=1)
    before, at, after = (difference[np.arange(len(difference)), first + k] for k in (-1, 0, 1))
    # The minimum of the parabola through three neighbouring lags.
    lag = 1 + first + 0.5 * (before - after) / np.maximum(before - 2 * at + after, 1e-12)
    return lag, least[:, 0]


def _nearest(semitones: np.ndarray, scale: tuple[int, ...], root: int) -> np.ndarray:
    """Return the nearest notes of a scale, in semitones above C0."""
    notes = np.array([12 * octave + root + note for octave in range(-1, 10) for note in scale])
    return notes[np.searchsorted((notes[1:] + notes[:-1]) / 2, semitones)]


# Pitch change --------------------------------------------------------------------------------------


def _epochs(x: np.ndarray, sample_rate: int, seconds: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """Return the peaks of a waveform in samples, one per period."""
    first, last = (
        max(0, min(len(x), round(t * sample_rate))) for t in seconds[[0, -1]] + [-_HOP_SECONDS / 2, _HOP_SECONDS / 2]
    )
    at = np.arange(first, last)
    cycles = np.cumsum(np.interp(at / sample_rate, seconds, f0)) / sample_rate
    # Phase of the larger peaks within a cycle, smoothed over about three cycles so that it does not jump.
    peaks = np.maximum(x[first:last] * np.sign(np.sum(x[first:last] ** 3)), 0) ** 2
    phasors = peaks * np.exp(-2j * np.pi * cycles)
    width = round(3 * sample_rate / np.median(f0))
    smooth = ndimage.uniform_filter1d(phasors.real, width) + 1j * ndimage.uniform_filter1d(phasors.imag, width)
    cycles = np.maximum.accumulate(cycles + np.unwrap(np.angle(smooth)) / (2 * np.pi))
    return np.interp(np.arange(np.ceil(cycles[0]), np.floor(cycles[-1]) + 1), cycles, at)


def _respace(epochs: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return new places of periods whose pitch changes by a ratio, and the oversampled distance that each moves."""
    cycles = np.concatenate([[0], np.cumsum((ratio[1:] + ratio[:-1]) / 2)])
    placed = np.interp(np.arange(int(cycles[-1]) + 1), cycles, epochs)
    source = epochs[np.searchsorted((epochs[1:] + epochs[:-1]) / 2, placed)]
    # One more place, from which on the waveform is unchanged.
    return np.append(placed, 2 * placed[-1] - placed[-2]), np.append(np.round(_OVERSAMPLING * (placed - source)), 0)


def _overlap_add(x: np.ndarray, marks: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move periods to their marks; between two marks one period fades into the next by a raised cosine."""
    oversampled = signal.resample_poly(x, _OVERSAMPLING, 1)
    oversampled[::_OVERSAMPLING] = x
    added = np.empty_like(x)
    for at in np.array_split(np.arange(len(x)), 1 + len(x) // _N_BLOCK_SAMPLES):
        period = np.searchsorted(marks, at, side="right") - 1
        place = (at - marks[period]) / (marks[period + 1] - marks[period])
        current, following = (
            oversampled[np.clip(_OVERSAMPLING * at - shifts[period + k], 0, len(oversampled) - 1)] for k in (0, 1)
        )
        fade = (0.5 - 0.5 * np.cos(np.pi * place)).astype(np.float32)
        added[at[0] : at[0] + len(at)] = current + fade * (following - current)
    return added
