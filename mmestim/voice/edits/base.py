"""Base classes of the edits: parameters that are drawn, and a pure function of a waveform and these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..taxonomy import INTERVAL_SECONDS, TAXONOMY, EditInfo, Range
from ..time_map import TimeMap

Interval = tuple[float, float]

# Probability that an edit acts on an interval, if it can act on a whole clip as well.
_INTERVAL_PROBABILITY = 0.3
# An edited interval is cross-faded with its surroundings, so that the join itself does not reveal the edit.
_CROSSFADE_SECONDS = 0.01
# Intervals are at least this far from the ends of a clip, so that cropping does not remove them.
EDGE_SECONDS = 0.3


@dataclass(frozen=True)
class AudioPool:
    """Audio that edits bring in: sequences of waveforms at the rate of the clip, read on access."""

    tts: Sequence[np.ndarray] = ()
    vc: Sequence[np.ndarray] = ()
    voices: Sequence[np.ndarray] = ()
    speaker_voices: Sequence[np.ndarray] = ()  # Other recordings of the clip's speaker.
    noises: Sequence[np.ndarray] = ()
    impulse_responses: Sequence[np.ndarray] = ()
    # Indices that a clip may use, for the kinds of which it may not use all.
    allowed_indices: Mapping[str, Sequence[int]] = field(default_factory=dict)
    # Numbers of the recordings' speakers by kind; all unknown speakers have the same one.
    speakers: Mapping[str, Sequence[int] | np.ndarray] = field(default_factory=dict)
    # Whether audio that cannot be read is skipped.
    skips_unreadable: bool = False

    def pick(self, rng: np.random.Generator, kind: str) -> int:
        """Draw the index of a waveform of one kind."""
        indices = self.indices(kind)
        return int(indices[int(rng.integers(len(indices)))])

    def get(self, kind: str, index: int) -> np.ndarray:
        """Return one waveform; raise a ValueError if the pool does not have it."""
        items = getattr(self, kind)
        if not 0 <= index < len(items):
            raise ValueError(
                f"the plan uses number {index} of {kind}, and there are {len(items)}. Apply it with the audio that it "
                "was drawn for."
            )
        return items[index]

    def has(self, kind: str) -> bool:
        """Return whether the clip may use any waveform of one kind."""
        return len(self.indices(kind)) > 0

    def indices(self, kind: str) -> Sequence[int]:
        """Return the indices of one kind that the clip may use."""
        return self.allowed_indices.get(kind, range(len(getattr(self, kind))))

    def following(self, kind: str, index: int) -> Iterator[int]:
        """Yield the indices after one, cyclically, that have its speaker where speakers are known."""
        indices, speakers = list(self.indices(kind)), self.speakers.get(kind)
        place = indices.index(index)
        for other in indices[place + 1 :] + indices[:place]:
            if speakers is None or speakers[other] == speakers[index]:
                yield int(other)


EMPTY_POOL = AudioPool()


class NoUsableRecording(ValueError):
    """Error of an edit for which no recording is long enough; ``can_draw`` does not read recordings to check."""


class Edited(NamedTuple):
    """Result of an edit."""

    waveform: np.ndarray  # float32 of shape (n_samples,)
    time_map: TimeMap
    # In seconds of the output. A whole clip is one interval.
    intervals: list[Interval] = []  # noqa: RUF012
    points: list[float] = []  # noqa: RUF012
    # Parts of the clip that occur twice: start and end in seconds before the edit, start of the copy after it.
    copies: list[tuple[float, float, float]] = []  # noqa: RUF012


class Edit:
    """Base class of the edits; each has the name of one row of the taxonomy.

    >>> import numpy as np
    >>> from mmestim.voice import EDITS
    >>> tone = np.sin(np.arange(16000) / 10).astype(np.float32)
    >>> EDITS["speed_change"].apply(tone, 16000, rate=0.8, engine="polyphase").waveform.shape
    (20000,)
    """

    name: ClassVar[str]
    # Kinds of audio that the edit cannot do without.
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def info(self) -> EditInfo:
        """Row of the taxonomy."""
        return TAXONOMY[self.name]

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        """Return whether a clip of this duration is long enough, and the pool has the audio that the edit needs."""
        return all(pool.has(kind) for kind in self.needs)

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        """Draw the parameters for a clip of `duration` seconds: one value of each range, as JSON can hold it."""
        return {name: values.draw(rng) for name, values in ranges.items()}

    def apply(
        self, waveform: np.ndarray, sample_rate: int, pool: AudioPool = EMPTY_POOL, *args: Any, **parameters: Any
    ) -> Edited:
        """Edit a clip; the input waveform is not modified."""
        raise NotImplementedError

    def duration_after(self, duration: float, **parameters: Any) -> float:
        """Return the duration of the edited clip in seconds, from the parameters alone."""
        return duration


class Effect(Edit):
    """Base class of the edits that process a whole clip, or an interval of it, by one function of a waveform."""

    def rate(self, **parameters: Any) -> float:
        """Return the seconds of input per second of output; 1 unless the edit changes time."""
        return 1.0

    def process(
        self, waveform: np.ndarray, sample_rate: int, pool: AudioPool, *args: Any, **parameters: Any
    ) -> np.ndarray:
        """Return the edited waveform, float32, ``round(n / rate)`` samples; the input is not modified."""
        raise NotImplementedError

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        """Draw the parameters, and for some clips an interval that the edit acts on."""
        parameters = super().draw(rng, duration, sample_rate, ranges, pool)
        free = duration - 2 * EDGE_SECONDS
        wants_interval = rng.random() < _INTERVAL_PROBABILITY
        if "interval" in self.info.scopes and wants_interval and free >= INTERVAL_SECONDS.low:
            length = min(INTERVAL_SECONDS.draw(rng), free)
            start = EDGE_SECONDS + float(rng.uniform(0, free - length))
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
        """Edit a whole clip, or the interval from `start` to `end` seconds; the input is not modified."""
        if (start is None) != (end is None):
            raise ValueError(f"start={start!r} and end={end!r} must both be given, or neither for the whole clip.")
        if start is None or end is None:
            edited = self.process(waveform, sample_rate, pool, **parameters)
            duration = len(edited) / sample_rate
            return Edited(edited, TimeMap([0, len(waveform) / sample_rate], [0, duration]), [(0.0, duration)])
        first, last = span_of(start, end, len(waveform), sample_rate)
        part = self.process(waveform[first:last], sample_rate, pool, **parameters).copy()
        n_fade = min(round(_CROSSFADE_SECONDS * sample_rate), len(part) // 2, (last - first) // 2)
        if n_fade:
            fade = rise(n_fade)
            part[:n_fade] = fade * part[:n_fade] + fade[::-1] * waveform[first : first + n_fade]
            part[-n_fade:] = fade[::-1] * part[-n_fade:] + fade * waveform[last - n_fade : last]
        edited = np.concatenate([waveform[:first], part, waveform[last:]])
        before = np.array([0, first, last, len(waveform)]) / sample_rate
        after = np.array([0, first, first + len(part), len(edited)]) / sample_rate
        return Edited(edited, TimeMap(before, after), [(float(after[1]), float(after[2]))])

    def duration_after(self, duration: float, **parameters: Any) -> float:
        """Return the duration of the edited clip in seconds, from the parameters alone."""
        start, end = parameters.pop("start", 0.0), parameters.pop("end", duration)
        return duration + (end - start) * (1 / self.rate(**parameters) - 1)


def span_of(start: float, end: float, n_samples: int, sample_rate: int) -> tuple[int, int]:
    """Return the first sample of an interval of a clip, and the one after its last."""
    first, last = (min(round(t * sample_rate), n_samples) for t in (start, end))
    if not 0 <= first < last:
        raise ValueError(
            f"start={start!r} and end={end!r} must be seconds of a clip of {n_samples / sample_rate:.3f} s, the end "
            "after the start."
        )
    return first, last


def rise(n_samples: int) -> np.ndarray:
    """Return a raised-cosine fade from 0 to 1, float32; the fade and its reverse add up to 1."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(n_samples) + 0.5) / n_samples)).astype(np.float32)


def rms(waveform: np.ndarray) -> float:
    """Return the root mean square; 0 if there are no samples."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0
