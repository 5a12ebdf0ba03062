"""Edits of pitch, speed and waveform, as effect boxes and players make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._utils.validation import check_choice, check_number
from ..taxonomy import Range
from ._engines.time_stretching import resample, shift_pitch, stretch
from .base import AudioPool, Effect, rms

KINDS = {"tanh": "amount", "clip": "percentile", "bit_crush": "bits"}


class PitchShift(Effect):
    """Change of the pitch, formants included, at the same speed."""

    name = "pitch_shift"

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        semitones: float = 2.0,
        engine: str = "phase_vocoder",
    ) -> np.ndarray:
        check_number("semitones", semitones, low=-24, high=24)
        return shift_pitch(waveform, sample_rate, semitones, engine)


class _Speed(Effect):
    """Base class of the edits that play at `rate` times the speed."""

    def rate(self, *, rate: float = 0.8, **parameters: Any) -> float:
        check_number("rate", rate, low=0.25, high=4)
        return rate


class TimeStretch(_Speed):
    """Change of the speed at the same pitch."""

    name = "time_stretch"

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        rate: float = 0.8,
        engine: str = "phase_vocoder",
    ) -> np.ndarray:
        return stretch(waveform, sample_rate, self.rate(rate=rate), engine)


class SpeedChange(_Speed):
    """Change of the speed, and of the pitch with it."""

    name = "speed_change"

    def process(
        self, waveform: np.ndarray, sample_rate: int, pool: AudioPool, *, rate: float = 0.8, engine: str = "polyphase"
    ) -> np.ndarray:
        return resample(waveform, sample_rate, self.rate(rate=rate), engine)


class Distortion(Effect):
    """Distortion of amplitudes, which are saturated (`tanh`), cut off (`clip`) or rounded (`bit_crush`).

    Samples below a tenth of the RMS are pauses and do not count. The fraction `amount` of the other samples is in
    the curved part of the tanh, or `percentile` per cent of them are cut off. `bits` span twice the peak, because
    recordings leave headroom.
    """

    name = "distortion"

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        parameters = super().draw(rng, duration, sample_rate, ranges, pool)
        unused = set(KINDS.values()) - {KINDS[parameters["kind"]]}
        return {name: value for name, value in parameters.items() if name not in unused}

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        kind: str = "tanh",
        amount: float = 0.4,
        percentile: float = 10.0,
        bits: int = 8,
    ) -> np.ndarray:
        check_choice("kind", kind, KINDS)
        if kind == "tanh":
            check_number("amount", amount, high=1)
        elif kind == "clip":
            check_number("percentile", percentile, high=100)
        else:
            check_number("bits", bits, low=2, high=24, integer=True)
        if not waveform.any():
            return waveform.copy()
        if kind == "bit_crush":
            step = max(waveform.max(), -waveform.min()) * np.float32(2.0 ** (2 - bits))
            crushed = waveform / step
            np.round(crushed, out=crushed)
            crushed *= step
            return crushed
        before = rms(waveform)
        if kind == "clip":
            limit = _exceeded_by(waveform, percentile / 100, before)
            return np.clip(waveform, -limit, limit)
        saturated = np.tanh(waveform * (0.5 / _exceeded_by(waveform, amount, before)))
        return saturated * np.float32(before / rms(saturated))


def _exceeded_by(waveform: np.ndarray, fraction: float, level: float) -> np.ndarray:
    """Return the amplitude that a fraction of the samples outside pauses exceed."""
    amplitudes = np.abs(waveform)
    return np.quantile(amplitudes[amplitudes > 0.1 * level], 1 - fraction).astype(np.float32)
