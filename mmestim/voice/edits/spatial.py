"""Edits of the acoustic surroundings: rooms, echoes and background noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from scipy import fft, signal

from ..._utils.validation import check_choice, check_number
from ..taxonomy import INTERVAL_SECONDS, OneOf, Range
from ._engines import room_acoustics
from .base import AudioPool, Effect, rise, rms

# Reverberation -------------------------------------------------------------------------------------

# Smallest and largest room, and the least distance from walls and between source and receiver, in metres.
_MIN_SIZE, _MAX_SIZE, _CLEARANCE = (3.0, 3.0, 2.4), (10.0, 8.0, 4.0), 0.5


class _EffectWithKinds(Effect):
    """Base class of the effects of several kinds, some of which need audio."""

    # Audio that each kind needs.
    kinds: Mapping[str, str | None]

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return bool(self._available_kinds(ranges, pool).values)

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        return super().draw(rng, duration, sample_rate, {**ranges, "kind": self._available_kinds(ranges, pool)}, pool)

    def _available_kinds(self, ranges: Mapping[str, Range], pool: AudioPool) -> OneOf:
        """Return the kinds in a range whose audio is in the pool."""
        kinds = cast(OneOf, ranges["kind"]).values
        return OneOf(tuple(kind for kind in kinds if not (audio := self.kinds.get(kind)) or pool.has(audio)))


class Reverb(_EffectWithKinds):
    """Reverberation of a room; the direct sound is not changed."""

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
            size = rng.uniform(_MIN_SIZE, _MAX_SIZE)
            # Source and receiver are in opposite halves of the room.
            half = np.array([size[0] / 2 + _CLEARANCE / 2, *size[1:]])
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
            impulse = room_acoustics.aligned(
                pool.get("impulse_responses", response), f"number {response} of impulse_responses", sample_rate
            )
        elif kind == "image_source":
            if not (size and source and receiver):
                raise ValueError("kind='image_source' needs size, source and receiver: metres along three axes each.")
            impulse = room_acoustics.image_source(rt60, size, source, receiver, seed, sample_rate)
        else:
            impulse = room_acoustics.decaying_noise(rt60, seed, sample_rate)
        impulse = room_acoustics.with_direct_ratio(impulse, direct_ratio, sample_rate)
        n = len(waveform)
        return np.ascontiguousarray(signal.fftconvolve(waveform, impulse[:n].astype(np.float32))[:n])


# Echoes --------------------------------------------------------------------------------------------


class Echo(Effect):
    """Repetitions, each `gain` times as loud as the one before."""

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

# In digital silence, noise is as loud as it is in speech at the usual level of -26 dB.
_USUAL_RMS = 10 ** (-26 / 20)
# Pink and brown noise start here, because otherwise nearly all of their energy would be inaudible.
_MIN_NOISE_HZ = 50.0
_MAX_HUM_HZ = 1000.0
# With fewer voices, one of them might be heard as an overlaid voice.
_N_VOICES = (4, 7)
_BURSTS_PER_SECOND, _BURST_SECONDS = 8.0, (0.001, 0.03)
_LOOP_FADE_SECONDS = 0.05


class BackgroundNoise(_EffectWithKinds):
    """Noise at a signal-to-noise ratio in dB, measured over the part that is edited."""

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
            indices = pool.indices("voices")
            n_voices = int(rng.integers(_N_VOICES[0], min(_N_VOICES[1], len(indices)), endpoint=True))
            voices = [int(indices[number]) for number in rng.choice(len(indices), n_voices, replace=False)]
            return parameters | {"voices": voices, "offsets": rng.random(len(voices)).tolist()}
        if kind == "hum":
            parameters["mains"] = int(rng.choice([50, 60]))
        return parameters | {"seed": int(rng.integers(2**31))}

    def _available_kinds(self, ranges: Mapping[str, Range], pool: AudioPool) -> OneOf:
        available = super()._available_kinds(ranges, pool)
        if len(pool.indices("voices")) >= _N_VOICES[0]:
            return available
        return OneOf(tuple(kind for kind in available.values if kind != "babble"))

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
        added: np.ndarray
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
            normalised: list[np.ndarray] = [part / np.float32(rms(part)) for part in parts]
            added = sum(normalised, start=np.zeros(n, np.float32))
        level = (rms(waveform) or _USUAL_RMS) / rms(added) * 10 ** (-snr / 20)
        return waveform + np.float32(level) * added


def coloured(rng: np.random.Generator, n_samples: int, sample_rate: int, power: float) -> np.ndarray:
    """Return noise whose amplitude falls with a power of the frequency, from 50 Hz on."""
    size = fft.next_fast_len(max(n_samples, 64), real=True)
    frequencies = fft.rfftfreq(size, 1 / sample_rate)
    shape = np.where(frequencies < _MIN_NOISE_HZ, 0, np.maximum(frequencies, _MIN_NOISE_HZ) ** -power)
    spectrum = rng.standard_normal((len(shape), 2), dtype=np.float32).view(np.complex64)[:, 0]
    return fft.irfft(spectrum * shape.astype(np.float32), size)[:n_samples]


def _hum(rng: np.random.Generator, n_samples: int, sample_rate: int, mains: int) -> np.ndarray:
    """Return the mains frequency and its harmonics, as one second that is repeated."""
    check_number("mains", mains, low=1, integer=True)
    lines = np.arange(mains, min(_MAX_HUM_HZ, sample_rate / 2), mains, dtype=np.intp)
    spectrum = np.zeros(sample_rate // 2 + 1, dtype=np.complex64)
    phases = np.exp(2j * np.pi * rng.random(len(lines)))
    spectrum[lines] = rng.uniform(0.2, 1, len(lines)) * phases * mains / lines
    return np.resize(fft.irfft(spectrum, sample_rate), n_samples)


def _bursts(rng: np.random.Generator, n_samples: int, sample_rate: int) -> np.ndarray:
    """Return clicks and knocks: noise that starts at full level and decays."""
    n_bursts = max(1, rng.poisson(_BURSTS_PER_SECOND * n_samples / sample_rate))
    starts = rng.integers(n_samples, size=n_bursts)
    shortest, longest = np.log(_BURST_SECONDS)
    decays = np.exp(rng.uniform(shortest, longest, n_bursts)) / 5 * sample_rate
    levels = 10 ** rng.uniform(-1, 0, n_bursts)
    added = np.zeros(n_samples, dtype=np.float32)
    for start, decay, level in zip(starts, decays, levels, strict=True):
        m = min(n_samples - start, int(5 * decay) + 1)
        added[start : start + m] += level * rng.standard_normal(m) * np.exp(-np.arange(m) / decay)
    return added


def _excerpt(waveform: np.ndarray, n_samples: int, offset: float, sample_rate: int) -> np.ndarray:
    """Return an excerpt from a relative offset on; a short waveform is looped, a silent excerpt starts at the peak."""
    n = len(waveform)
    if not np.any(waveform):
        raise ValueError("a noise or voice to add is silent. Leave it out.")
    if n < n_samples:
        n_fade = min(round(_LOOP_FADE_SECONDS * sample_rate), n // 2)
        loop = waveform[: n - n_fade].copy()
        if n_fade:
            fade = np.sqrt(rise(n_fade))  # The two ends are uncorrelated, so their powers add.
            loop[:n_fade] = fade * loop[:n_fade] + fade[::-1] * waveform[n - n_fade :]
        waveform, n = np.resize(loop, n_samples + len(loop)), n_samples + len(loop)
    start = int(offset * (n - n_samples + 1))
    part = waveform[start : start + n_samples]
    if not np.any(part):
        start = min(int(np.argmax(np.abs(waveform))), n - n_samples)
        part = waveform[start : start + n_samples]
    return part
