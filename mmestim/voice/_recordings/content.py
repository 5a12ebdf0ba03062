"""Recordings about which nothing can be said: too short, silent, or without speech."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .._audio.reading import is_silent
from .._constants import MIN_SECONDS, RATE
from .._files.paths import AudioError

# Frames of 40 ms every 20 ms, in windows of 50 frames, every 0.5 s.
_FRAME, _HOP, _N_FFT = 640, 320, 2048
_WINDOW = _FRAME + 49 * _HOP
_STEP = 25 * _HOP
# Fewest samples of the only window of a recording, and of its last one.
_MIN_ONLY_WINDOW, _MIN_LAST_WINDOW = _FRAME + 7 * _HOP, _FRAME + 24 * _HOP
_TAPER = np.hanning(_FRAME).astype(np.float32)
_FREQUENCIES = np.fft.rfftfreq(_N_FFT, 1 / RATE)
_IN_BAND = (_FREQUENCIES >= 100) & (_FREQUENCIES <= 3600)
_BAND_STARTS = (np.geomspace(150, 3800, 17) / RATE * _N_FFT).astype(int)
_SHORTEST_PERIOD, _LONGEST_PERIOD = RATE // 400, RATE // 70
# Frames down to 30 dB below the loudest are active. Windows below the second level are empty.
_ACTIVE_DB, _EMPTY_DB = 30.0, -40.0

# The thresholds were chosen on real speech as it is, by telephone, with reverberation, with noise at 5 dB, as MP3, cut
# to 1 to 4 s and edited, and on real noises and synthetic tones, music and drums.
_MIN_MODULATION_DB = 1.5
_MIN_LOG_FLATNESS = -9.0  # below: sines
_MAX_STEADY_CENTS, _MAX_GLIDE_CENTS = 4.0, 150.0
_MAX_STEADY, _MAX_STEADY_EXCESS = 0.3, 0.1  # shares of frames
_MAX_DRUM_ACTIVE, _MAX_DRUM_PERIODICITY = 0.5, 0.25
# Speech has a score above the first; recordings of at most two windows need only the second, since they may begin and
# end anywhere.
_MIN_SCORE, _MIN_SCORE_IF_SHORT, _N_SHORT = 1.7, 1.5, 2


def why_not_judged(blocks: Iterable[np.ndarray]) -> str | None:
    """Return why nothing can be said about a recording; None if it can be judged.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n_samples,)
        Consecutive parts of the recording at 16 kHz, such as an `AudioStream`. Reading ends at the first speech.

    Returns
    -------
    str or None
        Sentence about a recording that is too short, silent (within -80 dBFS of its mean), or without speech.
        In doubt, sound is taken for speech.
    """
    detector, n_samples, lowest, highest = SpeechDetector(), 0, math.inf, -math.inf
    try:
        for block in blocks:
            n_samples += len(block)
            lowest, highest = min(lowest, block.min(initial=math.inf)), max(highest, block.max(initial=-math.inf))
            detector.add(block)
            if detector.has_found_speech:
                return None
    except AudioError:
        if n_samples == 0 or not is_silent(lowest, highest):  # the error of a silent file is a reason, too
            raise
    if n_samples < MIN_SECONDS * RATE:
        return f"It lasts {n_samples / RATE:.2f} s. Recordings below {MIN_SECONDS:g} s are too short."
    if is_silent(lowest, highest):
        return "It is silent."
    if not detector.finish():
        return "No speech was found in it. It sounds like noise, tones or music."
    return None


class SpeechDetector:
    """Light detector of speech anywhere in a recording that comes in blocks.

    Speech is periodic in part, and its spectrum changes all the time. Noise lacks the former, steady sound the latter;
    music holds its pitch for longer, and drums are short.

    Attributes
    ----------
    has_found_speech : bool
        Whether speech was found. Further samples are ignored.
    """

    def __init__(self) -> None:
        self.has_found_speech = False
        self._pending = np.zeros(0, np.float32)
        self._n_windows, self._best_score = 0, -math.inf

    def add(self, block: np.ndarray) -> None:
        """Add the next samples at 16 kHz, of shape (n_samples,)."""
        if self.has_found_speech:
            return
        self._pending = np.concatenate([self._pending, block])
        start = 0
        while start + _WINDOW <= len(self._pending) and not self.has_found_speech:
            self._judge(self._pending[start : start + _WINDOW])
            start += _STEP
        self._pending = self._pending[start:]

    def finish(self) -> bool:
        """Return whether the recording, which ends here, contains speech."""
        if len(self._pending) >= (_MIN_LAST_WINDOW if self._n_windows else _MIN_ONLY_WINDOW):
            self._judge(self._pending)
        is_short_speech = self._n_windows <= _N_SHORT and self._best_score > _MIN_SCORE_IF_SHORT
        return self.has_found_speech or is_short_speech

    def _judge(self, samples: np.ndarray) -> None:
        score, may_be_drums = _speech_score(samples)
        self._n_windows += 1
        self._best_score = max(self._best_score, score)
        self.has_found_speech |= score > _MIN_SCORE and not may_be_drums


def _speech_score(samples: np.ndarray) -> tuple[float, bool]:
    """Return how much a window resembles speech, and whether it may be drums; -inf if it is empty, steady or a tone."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    power = np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * _TAPER, _N_FFT)) ** 2
    levels = 10 * np.log10(power[:, _IN_BAND].sum(axis=1) + 1e-10)
    if levels.max() < _EMPTY_DB:
        return -math.inf, False
    is_active = levels > levels.max() - _ACTIVE_DB
    modulation = np.convolve(np.maximum(levels - levels.max(), -40), np.ones(3) / 3, "valid").std()
    flatness = np.exp(np.log(power[:, _IN_BAND] + 1e-12).mean(axis=1)) / (power[:, _IN_BAND].mean(axis=1) + 1e-12)
    periodicity, pitch = _estimate_pitch(power)
    if (
        modulation < _MIN_MODULATION_DB
        or np.log(flatness[is_active].mean() + 1e-6) < _MIN_LOG_FLATNESS
        or _is_steady(periodicity, pitch, is_active)
    ):
        return -math.inf, False
    # The score of noise is about 1.
    score = np.percentile(periodicity[is_active], 80) / 0.25 + min(_spectral_change(power[is_active]), 5.0) / 2.8
    may_be_drums = is_active.mean() < _MAX_DRUM_ACTIVE and periodicity[is_active].mean() < _MAX_DRUM_PERIODICITY
    return float(score), bool(may_be_drums)


def _estimate_pitch(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the periodicity, from 0 to 1, and the pitch in Hz of each frame from power spectra."""
    correlation = np.fft.irfft(np.sqrt(np.where(_IN_BAND, power, 0)))[:, : _LONGEST_PERIOD + 2]
    correlation /= correlation[:, :1] + 1e-12
    period = correlation[:, _SHORTEST_PERIOD:_LONGEST_PERIOD].argmax(axis=1) + _SHORTEST_PERIOD
    rows = np.arange(len(power))
    before, peak, after = (correlation[rows, period + shift] for shift in (-1, 0, 1))
    # The vertex of a parabola through the peak and its neighbours.
    offset = np.clip(0.5 * (before - after) / (before - 2 * peak + after - 1e-9), -0.5, 0.5)
    return peak, RATE / (period + offset)


def _is_steady(periodicity: np.ndarray, pitch: np.ndarray, is_active: np.ndarray) -> bool:
    """Return whether a window holds its pitch like a tone or an instrument."""
    cents = np.abs(1200 * np.log2(pitch[1:] / pitch[:-1]))
    is_steady, is_gliding = cents < _MAX_STEADY_CENTS, (cents >= _MAX_STEADY_CENTS) & (cents < _MAX_GLIDE_CENTS)

    def share(is_true: np.ndarray, least: float) -> float:
        is_periodic = (periodicity > least) & is_active
        return (is_true & is_periodic[1:] & is_periodic[:-1]).sum() / is_active.sum()

    is_held = share(is_steady, 0.25) >= _MAX_STEADY
    return is_held or share(is_steady, 0.35) > share(is_gliding, 0.35) + _MAX_STEADY_EXCESS


def _spectral_change(power: np.ndarray) -> float:
    """Return the mean change within 60 ms of the shape of power spectra in dB."""
    bands = 10 * np.log10(np.add.reduceat(power, _BAND_STARTS[:-1], axis=1) + 1e-9)
    shape = bands - bands.mean(axis=1, keepdims=True)
    smooth = (shape[2:] + shape[1:-1] + shape[:-2]) / 3
    return float(np.abs(smooth[3:] - smooth[:-3]).mean()) if len(smooth) > 3 else 0.0
