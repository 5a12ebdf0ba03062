"""Edits of the place: rooms, echoes, and noise around the speaker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import fft, signal

from ..._utils.validation import check_choice, check_number
from ..taxonomy import INTERVAL_SECONDS, OneOf, Range
from ._engines import room_acoustics as _rooms
from .base import AudioPool, Effect, rise, rms

# Reverberation -------------------------------------------------------------------------------------

# Metres: of rooms, and from walls and from each other.
_SMALLEST, _LARGEST, _CLEARANCE = (3.0, 3.0, 2.4), (10.0, 8.0, 4.0), 0.5


class _Kinds(Effect):
    """An effect of several kinds, of which some need audio."""

    # The audio in the pool that a kind needs.
    kinds: Mapping[str, str | None]

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return bool(self._possible(ranges, pool).values)

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        return super().draw(rng, duration, sample_rate, {**ranges, "kind": self._possible(ranges, pool)}, pool)

    def _possible(self, ranges, pool):
        return OneOf(tuple(kind for kind in ranges["kind"].values if not (n := self.kinds.get(kind)) or pool.has(n)))


class Reverb(_Kinds):
    """A room around the speaker: the direct sound stays as it is, and the room follows."""

    name = "reverb"
    kinds = {"image_source": None, "decaying_noise": None, "measured": "impulse_responses"}  # noqa: RUF012

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        parameters = super().draw(rng, duration, sample_rate, ranges, pool)
        if parameters["kind"] == "measured":
            del parameters["rt60"]
            return parameters | {"response": pool.pick(rng, "impulse_responses")}
        parameters["seed"] = int(rng.integers(2**31))
        if parameters["kind"] == "image_source":
            size = rng.uniform(_SMALLEST, _LARGEST)
            half = np.array([size[0] / 2 + _CLEARANCE / 2, *size[1:]])  # one at either end
            source, receiver = (rng.uniform(_CLEARANCE, half - _CLEARANCE) for _ in range(2))
            receiver[0] = size[0] - receiver[0]
            parameters |= {"size": size.tolist(), "source": source.tolist(), "receiver": receiver.tolist()}
        return parameters

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        kind: str,
        direct_ratio: float,
        rt60: float = 0.5,
        seed: int = 0,
        response: int = 0,
        size: list[float] | None = None,
        source: list[float] | None = None,
        receiver: list[float] | None = None,
    ) -> np.ndarray:
        check_choice("kind", kind, self.kinds)
        check_number("direct_ratio", direct_ratio, low=-60, high=60)
        check_number("rt60", rt60, low=0.05)
        if kind == "measured":
            impulse = _rooms.aligned(
                pool.get("impulse_responses", response), f"number {response} of impulse_responses", sample_rate
            )
        elif kind == "image_source":
            if not (size and source and receiver):
                raise ValueError("kind='image_source' needs size, source and receiver: metres along three axes each.")
            impulse = _rooms.image_source(rt60, size, source, receiver, seed, sample_rate)
        else:
            impulse = _rooms.decaying_noise(rt60, seed, sample_rate)
        impulse = _rooms.with_direct_ratio(impulse, direct_ratio, sample_rate)
        n = len(waveform)
        return np.ascontiguousarray(signal.fftconvolve(waveform, impulse[:n].astype(np.float32))[:n])


# Echoes --------------------------------------------------------------------------------------------


class Echo(Effect):
    """Repetitions, each `gain` times the one before."""

    name = "echo"

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return duration >= INTERVAL_SECONDS.low

    def process(
        self, waveform: np.ndarray, sample_rate: int, pool: AudioPool, *, delay: float, gain: float, n_taps: int
    ) -> np.ndarray:
        check_number("delay", delay, closed=False)
        check_number("gain", gain, high=1)
        check_number("n_taps", n_taps, low=1, integer=True)
        n, edited = len(waveform), waveform.copy()
        for tap in range(1, n_taps + 1):
            later = min(n, round(tap * delay * sample_rate))
            edited[later:] += np.float32(gain**tap) * waveform[: n - later]
        return edited


# Noise ---------------------------------------------------------------------------------------------

# Noise in a digital silence is as loud as in speech at the usual level, -26 dB.
_USUAL_RMS = 10 ** (-26 / 20)
_LOWEST_HZ = 50.0  # of pink and brown noise, or all of their energy would be where nobody hears it
_HUM_HZ = 1000.0
# Of fewer, one might be heard as a voice laid over.
_N_VOICES = (4, 7)
_BURSTS_PER_SECOND, _BURST_SECONDS = 8.0, (0.001, 0.03)
_LOOP_FADE = 0.05


class BackgroundNoise(_Kinds):
    """Noise added at a signal-to-noise ratio, in dB over all that is affected."""

    name = "background_noise"
    kinds = {  # noqa: RUF012
        "white": None,
        "pink": None,
        "brown": None,
        "hum": None,
        "impulsive": None,
        "babble": "voices",
        "file": "noises",
    }

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        parameters = super().draw(rng, duration, sample_rate, ranges, pool)
        kind = parameters["kind"]
        if kind == "file":
            return parameters | {"noise": pool.pick(rng, "noises"), "offset": float(rng.random())}
        if kind == "babble":
            others = pool.indices("voices")
            n_voices = int(rng.integers(_N_VOICES[0], min(_N_VOICES[1], len(others)), endpoint=True))
            voices = [int(others[number]) for number in rng.choice(len(others), n_voices, replace=False)]
            return parameters | {"voices": voices, "offsets": rng.random(len(voices)).tolist()}
        if kind == "hum":
            parameters["mains"] = int(rng.choice([50, 60]))
        return parameters | {"seed": int(rng.integers(2**31))}

    def _possible(self, ranges, pool):
        possible = super()._possible(ranges, pool)
        if len(pool.indices("voices")) >= _N_VOICES[0]:
            return possible
        return OneOf(tuple(kind for kind in possible.values if kind != "babble"))

    def process(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool,
        *,
        kind: str,
        snr: float,
        seed: int = 0,
        mains: int = 50,
        voices: list[int] | None = None,
        offsets: list[float] | None = None,
        noise: int = 0,
        offset: float = 0.0,
    ) -> np.ndarray:
        check_choice("kind", kind, self.kinds)
        check_number("snr", snr, low=-60, high=100)
        n, rng = len(waveform), np.random.default_rng(seed)
        if kind == "white":
            added = rng.standard_normal(n, dtype=np.float32)
        elif kind in ("pink", "brown"):
            added = coloured(rng, n, sample_rate, {"pink": 0.5, "brown": 1.0}[kind])
        elif kind == "hum":
            added = _hum(rng, n, sample_rate, mains)
        elif kind == "impulsive":
            added = _bursts(rng, n, sample_rate)
        elif kind == "file":
            added = _excerpt(pool.get("noises", noise), n, offset, sample_rate)
        else:
            if not voices or not offsets or len(voices) != len(offsets):
                raise ValueError("kind='babble' needs voices, and as many offsets.")
            parts = [
                _excerpt(pool.get("voices", v), n, place, sample_rate) for v, place in zip(voices, offsets, strict=True)
            ]
            added = sum(part / np.float32(rms(part)) for part in parts)
        level = (rms(waveform) or _USUAL_RMS) / rms(added) * 10 ** (-snr / 20)
        return waveform + np.float32(level) * added


def coloured(rng: np.random.Generator, n_samples: int, sample_rate: int, power: float) -> np.ndarray:
    """Noise whose amplitude falls with a power of the frequency, from 50 Hz on."""
    size = fft.next_fast_len(max(n_samples, 64), real=True)
    frequencies = fft.rfftfreq(size, 1 / sample_rate)
    shape = np.where(frequencies < _LOWEST_HZ, 0, np.maximum(frequencies, _LOWEST_HZ) ** -power)
    spectrum = rng.standard_normal((len(shape), 2), dtype=np.float32).view(np.complex64)[:, 0]
    return fft.irfft(spectrum * shape.astype(np.float32), size)[:n_samples]


def _hum(rng, n_samples, sample_rate, mains):
    """The mains and their harmonics; a second of them, again and again."""
    check_number("mains", mains, low=1, integer=True)
    lines = np.arange(mains, min(_HUM_HZ, sample_rate / 2), mains, dtype=np.intp)
    spectrum = np.zeros(sample_rate // 2 + 1, dtype=np.complex64)
    phases = np.exp(2j * np.pi * rng.random(len(lines)))
    spectrum[lines] = rng.uniform(0.2, 1, len(lines)) * phases * mains / lines
    return np.resize(fft.irfft(spectrum, sample_rate), n_samples)


def _bursts(rng, n_samples, sample_rate):
    """Clicks and knocks: noise that comes at once and decays."""
    n_bursts = max(1, rng.poisson(_BURSTS_PER_SECOND * n_samples / sample_rate))
    starts = rng.integers(n_samples, size=n_bursts)
    decays = np.exp(rng.uniform(*np.log(_BURST_SECONDS), n_bursts)) / 5 * sample_rate
    levels = 10 ** rng.uniform(-1, 0, n_bursts)
    added = np.zeros(n_samples, dtype=np.float32)
    for start, decay, level in zip(starts, decays, levels, strict=True):
        m = min(n_samples - start, int(5 * decay) + 1)
        added[start : start + m] += level * rng.standard_normal(m) * np.exp(-np.arange(m) / decay)
    return added


def _excerpt(waveform, n_samples, offset, sample_rate):
    """A stretch from some place on, looped where the waveform is too short; from its peak on where it is silent."""
    n = len(waveform)
    if not np.any(waveform):
        raise ValueError("a noise or voice to add is silent. Leave it out.")
    if n < n_samples:
        n_fade = min(round(_LOOP_FADE * sample_rate), n // 2)
        loop = waveform[: n - n_fade].copy()
        if n_fade:
            fade = np.sqrt(rise(n_fade))  # the ends have nothing to do with each other: powers add
            loop[:n_fade] = fade * loop[:n_fade] + fade[::-1] * waveform[n - n_fade :]
        waveform, n = np.resize(loop, n_samples + len(loop)), n_samples + len(loop)
    start = int(offset * (n - n_samples + 1))
    part = waveform[start : start + n_samples]
    if not np.any(part):
        start = min(int(np.argmax(np.abs(waveform))), n - n_samples)
        part = waveform[start : start + n_samples]
    return part
