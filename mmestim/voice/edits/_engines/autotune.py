"""Pitch: tracked by YIN, drawn to the notes of a scale, and changed by pitch-synchronous overlap-add.

A. de Cheveigné, H. Kawahara. YIN, a fundamental frequency estimator for speech and music. JASA 2002.
E. Moulines, F. Charpentier. Pitch-synchronous waveform processing techniques. Speech Communication 1990.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage, signal

#: Semitones above the root.
SCALES = {
    "chromatic": tuple(range(12)),
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "pentatonic": (0, 2, 4, 7, 9),
}

_LOWEST, _HIGHEST = 60.0, 550.0  # Hz
_HOP, _WINDOW = 0.01, 0.025  # seconds
_SMOOTH = 900.0  # Hz; above it there is more noise than period
# There is a pitch where YIN's measure of what no period explains is below this,
_APERIODIC = 0.35
# the energy is not below this share of the most,
_QUIET = 1e-4
# and so many frames go on without a gap of so many or a leap of so many semitones.
_N_FRAMES, _GAP, _LEAP = 5, 3, 2.0
# The period is the shortest that leaves this little, or else the one that leaves least.
_PERIODIC = 0.15
# A note is the one nearest to the middle pitch of so many frames.
_N_HELD = 7
# Frames and samples at a time, or a long clip would take 25 times its own memory.
_BLOCK, _SAMPLES = 512, 1 << 16
# Periods move by whole samples of a waveform sampled so many times as finely.
_FINE = 4
_C0 = 440 * 2 ** (-57 / 12)


def tune(
    waveform: np.ndarray, sample_rate: int, scale: tuple[int, ...], root: int, strength: float, glide: float
) -> np.ndarray:
    """The waveform with its pitch drawn to the notes of a scale.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        Left as it is.
    sample_rate : int
        In Hz.
    scale : tuple of int
        Semitones above the root, from 0 to 11.
    root : int
        The scale's first note, in semitones above C.
    strength : float
        How much of the way to the note the pitch goes.
    glide : float
        Seconds over which the change is smoothed.

    Returns
    -------
    ndarray of shape (n_samples,)
        Where there is no pitch, the waveform itself.
    """
    marks, shifts = [np.zeros(1)], [np.zeros(1)]
    for seconds, f0 in track(waveform, sample_rate):
        semitones = 12 * np.log2(f0 / _C0)
        # Of the middle pitch, lest notes flicker.
        note = _nearest(ndimage.median_filter(semitones, _N_HELD, mode="nearest"), scale, root)
        change = strength * (note - semitones)
        change = ndimage.uniform_filter1d(change, 1 + round(glide / _HOP), mode="nearest")
        epochs = _epochs(waveform, sample_rate, seconds, f0)
        if len(epochs) > 2:
            placed, shift = _respace(epochs, 2 ** (np.interp(epochs / sample_rate, seconds, change) / 12))
            marks.append(placed)
            shifts.append(shift)
    n = len(waveform)
    at = np.minimum(np.maximum.accumulate(np.concatenate([*marks, [n]])), n)
    shift = np.concatenate([*shifts, [0.0]]).astype(np.intp)
    return _overlap_add(waveform, at, shift)


# Where the pitch is --------------------------------------------------------------------------------


def track(waveform: np.ndarray, sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stretches that have a pitch: seconds every 10 ms or so, and Hz there."""
    step = max(1, sample_rate // 16000)
    rate = sample_rate / step
    hop, window, longest = round(_HOP * rate), round(_WINDOW * rate), int(rate / _LOWEST) + 1
    if len(waveform) < step * (window + longest):
        return []
    smooth = signal.butter(2, _SMOOTH, fs=sample_rate, output="sos")
    x = signal.sosfiltfilt(smooth, waveform)[::step].astype(np.float32)
    frames = sliding_window_view(x, window + longest)[::hop]
    sums = np.concatenate([[0], np.cumsum(np.square(x, dtype=np.float64))])
    energies = sliding_window_view(sums[window:] - sums[:-window], longest + 1)[::hop]
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(frames), _BLOCK)]
    found = [_periods(frames[block], energies[block], window, int(rate / _HIGHEST)) for block in blocks]
    lag, aperiodic = (np.concatenate(parts) for parts in zip(*found, strict=True))
    energy = energies[:, 0]
    frame = np.flatnonzero((aperiodic < _APERIODIC) & (energy > _QUIET * energy.max()))
    f0, seconds = (rate / lag)[frame], (hop * frame + (window + lag[frame]) / 2) / rate
    ends = (np.diff(frame) > _GAP) | (np.abs(np.diff(np.log2(f0))) > _LEAP / 12)
    stretches = np.split(np.arange(len(frame)), 1 + np.flatnonzero(ends))
    return [(seconds[part], f0[part]) for part in stretches if len(part) >= _N_FRAMES]


def _periods(frames, energies, window, shortest):
    """Of each frame the period, in samples, and how much it leaves unexplained.

    Energies are those of a frame's window and of the windows 1, 2, ... samples on.
    """
    longest = energies.shape[1] - 1
    size = fft.next_fast_len(frames.shape[1], real=True)
    products = fft.irfft(fft.rfft(frames[:, :window], size).conj() * fft.rfft(frames, size), size)
    # Energy of what differs between a window and the same some samples on.
    left = np.maximum(energies[:, :1] + energies[:, 1:] - 2 * products[:, 1 : longest + 1], 0)
    # YIN's measure, by lag from 1 on: against the mean over all shorter lags.
    aperiodic = left * np.arange(1, longest + 1) / np.maximum(np.cumsum(left, axis=1), 1e-12)
    middle = aperiodic[:, 1:-1]
    dips = (middle < aperiodic[:, :-2]) & (middle <= aperiodic[:, 2:])
    dips[:, : shortest - 2] = False
    least = np.min(middle, axis=1, where=dips, initial=1, keepdims=True)
    first = 1 + (dips & (middle <= np.maximum(least, _PERIODIC))).argmax(axis=1)
    before, at, after = (left[np.arange(len(left)), first + k] for k in (-1, 0, 1))
    lag = 1 + first + 0.5 * (before - after) / np.maximum(before - 2 * at + after, 1e-12)  # of the parabola
    return lag, least[:, 0]


def _nearest(semitones, scale, root):
    """Nearest notes of a scale, in semitones above C0."""
    notes = np.array([12 * octave + root + note for octave in range(-1, 10) for note in scale])
    return notes[np.searchsorted((notes[1:] + notes[:-1]) / 2, semitones)]


# The change of pitch -------------------------------------------------------------------------------


def _epochs(x, sample_rate, seconds, f0):
    """Samples, one a period, where the waveform peaks."""
    first, last = (max(0, min(len(x), round(t * sample_rate))) for t in seconds[[0, -1]] + [-_HOP / 2, _HOP / 2])
    at = np.arange(first, last)
    cycles = np.cumsum(np.interp(at / sample_rate, seconds, f0)) / sample_rate
    # Where in the cycle the larger peaks are, from about three cycles, and so that they stay there.
    peaks = np.maximum(x[first:last] * np.sign(np.sum(x[first:last] ** 3)), 0) ** 2
    turning = peaks * np.exp(-2j * np.pi * cycles)
    width = round(3 * sample_rate / np.median(f0))
    smooth = ndimage.uniform_filter1d(turning.real, width) + 1j * ndimage.uniform_filter1d(turning.imag, width)
    cycles = np.maximum.accumulate(cycles + np.unwrap(np.angle(smooth)) / (2 * np.pi))
    return np.interp(np.arange(np.ceil(cycles[0]), np.floor(cycles[-1]) + 1), cycles, at)


def _respace(epochs, ratio):
    """New places of periods whose pitch changes by a ratio, and by how many samples each moves."""
    cycles = np.concatenate([[0], np.cumsum((ratio[1:] + ratio[:-1]) / 2)])
    placed = np.interp(np.arange(int(cycles[-1]) + 1), cycles, epochs)
    source = epochs[np.searchsorted((epochs[1:] + epochs[:-1]) / 2, placed)]
    # One more, where the waveform is as it was.
    return np.append(placed, 2 * placed[-1] - placed[-2]), np.append(np.round(_FINE * (placed - source)), 0)


def _overlap_add(x, marks, shifts):
    """Periods moved to their marks: between two marks one period gives way to the next by a raised cosine."""
    fine = signal.resample_poly(x, _FINE, 1)
    fine[::_FINE] = x
    added = np.empty_like(x)
    for at in np.array_split(np.arange(len(x)), 1 + len(x) // _SAMPLES):
        period = np.searchsorted(marks, at, side="right") - 1
        place = (at - marks[period]) / (marks[period + 1] - marks[period])
        this, following = (fine[np.clip(_FINE * at - shifts[period + k], 0, len(fine) - 1)] for k in (0, 1))
        fade = (0.5 - 0.5 * np.cos(np.pi * place)).astype(np.float32)
        added[at[0] : at[0] + len(at)] = this + fade * (following - this)
    return added
