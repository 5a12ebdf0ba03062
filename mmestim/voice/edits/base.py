"""What an edit is: parameters that are drawn, and a pure function of a waveform and these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..taxonomy import INTERVAL_SECONDS, TAXONOMY, EditInfo, Range
from ..time_map import TimeMap

Interval = tuple[float, float]

# Of edits that can act on a part of a clip as well as on all of it, how many act on a part.
_INTERVAL_SHARE = 0.3
# Edited and other parts meet in a fade: the join itself must not be what gives the edit away.
_JOIN_SECONDS = 0.01
# Spans keep this far from the ends of a clip, so that cropping leaves them in.
EDGE_SECONDS = 0.3


@dataclass(frozen=True)
class AudioPool:
    """Audio that edits bring in: sequences of waveforms at the rate of the clip, read when they are indexed."""

    tts: Sequence[np.ndarray] = ()
    vc: Sequence[np.ndarray] = ()
    voices: Sequence[np.ndarray] = ()
    speaker_voices: Sequence[np.ndarray] = ()  # other recordings of the clip's speaker
    noises: Sequence[np.ndarray] = ()
    impulse_responses: Sequence[np.ndarray] = ()
    # Numbers of those of a kind that a clip may get, where it may not get all.
    allowed_indices: Mapping[str, Sequence[int]] = field(default_factory=dict)
    # Whether what cannot be read is passed over.
    skips_unreadable: bool = False

    def pick(self, rng: np.random.Generator, kind: str) -> int:
        """Index of one of a kind, at random."""
        numbers = self.indices(kind)
        return int(numbers[int(rng.integers(len(numbers)))])

    def get(self, kind: str, index: int) -> np.ndarray:
        """One waveform, checked."""
        items = getattr(self, kind)
        if not 0 <= index < len(items):
            raise ValueError(
                f"the plan asks for number {index} of {kind}, and there are {len(items)}. Apply it with the audio that "
                "it was drawn for."
            )
        return items[index]

    def has(self, kind: str) -> bool:
        """Whether there is any of a kind."""
        return len(self.indices(kind)) > 0

    def indices(self, kind: str) -> Sequence[int]:
        """Indices of those of a kind that may be picked."""
        return self.allowed_indices.get(kind, range(len(getattr(self, kind))))


EMPTY_POOL = AudioPool()


class NoUsableRecording(ValueError):
    """No recording that a clip may get is long enough for an edit; ``can_draw`` does not read them to find out."""


class Edited(NamedTuple):
    """What an edit makes of a clip."""

    waveform: np.ndarray  # float32 of shape (n_samples,)
    time_map: TimeMap
    # Seconds in the output. A whole clip is one interval.
    intervals: list[Interval] = []  # noqa: RUF012
    points: list[float] = []  # noqa: RUF012
    # What of the clip is there a second time: its start and end before, and where it starts after.
    copies: list[tuple[float, float, float]] = []  # noqa: RUF012


class Edit:
    """Base of the edits; one subclass has the name of one row of the taxonomy."""

    name: ClassVar[str]
    # Kinds in the pool without which it cannot be.
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def info(self) -> EditInfo:
        """Its row of the taxonomy."""
        return TAXONOMY[self.name]

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        """Whether a clip of so many seconds, and the pool, have what the edit needs."""
        return all(pool.has(kind) for kind in self.needs)

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        """Parameters for a clip of `duration` seconds, ready for JSON: one value of each range."""
        return {name: values.draw(rng) for name, values in ranges.items()}

    def apply(
        self, waveform: np.ndarray, sample_rate: int, pool: AudioPool = EMPTY_POOL, *args: Any, **parameters: Any
    ) -> Edited:
        """The edited clip; the waveform that comes in is left as it is."""
        raise NotImplementedError

    def duration_after(self, duration: float, **parameters: Any) -> float:
        """Seconds of the edited clip, known from the parameters alone."""
        return duration


class Effect(Edit):
    """An edit of all samples of a clip, or of those of an interval, by one function of a stretch of waveform."""

    # Rate at which the processed stretch plays; other edits leave time alone.
    def rate(self, **parameters: Any) -> float:
        """Seconds before per second after."""
        return 1.0

    def process(
        self, waveform: np.ndarray, sample_rate: int, pool: AudioPool, *args: Any, **parameters: Any
    ) -> np.ndarray:
        """The stretch after the edit, float32, ``round(n / rate)`` samples; the input is left as it is."""
        raise NotImplementedError

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        parameters = super().draw(rng, duration, sample_rate, ranges, pool)
        room = duration - 2 * EDGE_SECONDS
        wants_interval = rng.random() < _INTERVAL_SHARE
        if "interval" in self.info.scopes and wants_interval and room >= INTERVAL_SECONDS.low:
            length = min(INTERVAL_SECONDS.draw(rng), room)
            start = EDGE_SECONDS + float(rng.uniform(0, room - length))
            parameters |= {"start": start, "end": start + length}
        return parameters

    def apply(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool = EMPTY_POOL,
        *,
        start: float | None = None,
        end: float | None = None,
        **parameters: Any,
    ) -> Edited:
        if (start is None) != (end is None):
            raise ValueError(f"start={start!r} and end={end!r} must both be given, or neither for the whole clip.")
        if start is None or end is None:
            edited = self.process(waveform, sample_rate, pool, **parameters)
            duration = len(edited) / sample_rate
            return Edited(edited, TimeMap([0, len(waveform) / sample_rate], [0, duration]), [(0.0, duration)])
        first, last = span_of(start, end, len(waveform), sample_rate)
        part = self.process(waveform[first:last], sample_rate, pool, **parameters).copy()
        n_fade = min(round(_JOIN_SECONDS * sample_rate), len(part) // 2, (last - first) // 2)
        if n_fade:
            fade = rise(n_fade)
            part[:n_fade] = fade * part[:n_fade] + fade[::-1] * waveform[first : first + n_fade]
            part[-n_fade:] = fade[::-1] * part[-n_fade:] + fade * waveform[last - n_fade : last]
        edited = np.concatenate([waveform[:first], part, waveform[last:]])
        before = np.array([0, first, last, len(waveform)]) / sample_rate
        after = np.array([0, first, first + len(part), len(edited)]) / sample_rate
        return Edited(edited, TimeMap(before, after), [(float(after[1]), float(after[2]))])

    def duration_after(self, duration: float, **parameters: Any) -> float:
        start, end = parameters.pop("start", 0.0), parameters.pop("end", duration)
        return duration + (end - start) * (1 / self.rate(**parameters) - 1)


def span_of(start: float, end: float, n_samples: int, sample_rate: int) -> tuple[int, int]:
    """First sample of a part of a clip, and the one after its last."""
    first, last = (min(round(t * sample_rate), n_samples) for t in (start, end))
    if not 0 <= first < last:
        raise ValueError(
            f"start={start!r} and end={end!r} must be seconds of a clip of {n_samples / sample_rate:.3f} s, the end "
            "after the start."
        )
    return first, last


def rise(n_samples: int) -> np.ndarray:
    """From 0 to 1 by a raised cosine, float32; with its reverse it adds up to 1."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(n_samples) + 0.5) / n_samples)).astype(np.float32)


def rms(waveform: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0
