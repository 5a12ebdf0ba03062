"""Edits of the timeline: segments cut out, pasted in, or overlaid with another voice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._utils.validation import check_choice, check_number
from .._audio.reading import AudioError
from ..taxonomy import Between, Either, OneOf, Range
from ..time_map import TimeMap
from .base import EDGE_SECONDS, EMPTY_POOL, AudioPool, Edit, Edited, NoUsableRecording, rise, rms, span_of

# Minimum distance of splice points, and of a pasted segment from its origin: a copy right beside its original would
# have no splice point on that side.
MIN_DISTANCE_SECONDS = 0.1
# Cuts retain half of a clip, and at least this much of it.
_MIN_RETAINED_SECONDS = 1.0
# Distance within which a cut is moved to a pause, and the window over which the energy of a pause is measured.
_PAUSE_SEARCH_SECONDS, _PAUSE_WINDOW_SECONDS = 1.0, 0.02
# Length of the fades of an overlaid voice.
_MIX_FADE_SECONDS = 0.01
# Excerpts are tried at this distance; the first with this fraction of the loudest one's energy is taken.
_EXCERPT_HOP_SECONDS, _EXCERPT_ENERGY_FRACTION = 0.01, 0.25
# The level of pauses would distort an SNR, so the SNR refers to at least this fraction (-20 dB) of the speech level.
_MIN_LEVEL_FRACTION = 0.1
# Recordings that are drawn before giving up on one that is long enough.
_MAX_PICKS = 100


class Cut(Edit):
    """Segments cut out of a clip; the remaining parts are joined by a cross-fade into the removed samples.

    With ``place='pause'`` each cut moves by up to a second, without a change of its length, to where both of its
    borders are quietest.
    `cuts` are then the places where the search starts; the points and the time map are the places that were cut.
    """

    name = "cut"

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return fits(ranges["length"], duration - _retained_seconds(duration))

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        inside = duration - 2 * EDGE_SECONDS
        retained = _retained_seconds(duration)
        removable = duration - retained
        max_cuts = 1 + int((retained - 2 * EDGE_SECONDS) / MIN_DISTANCE_SECONDS + 1e-9)
        lengths: list[float] = []
        for _ in range(min(int(ranges["n_cuts"].draw(rng)), max_cuts)):
            if not lengths or fits(ranges["length"], removable - sum(lengths)):
                lengths.append(up_to(ranges["length"], removable - sum(lengths)).draw(rng))
        lengths = rng.permutation(lengths).tolist()  # The first length tends to be the longest.
        gaps = np.arange(len(lengths)) * MIN_DISTANCE_SECONDS + np.cumsum([0.0, *lengths[:-1]])
        free = inside - sum(lengths) - MIN_DISTANCE_SECONDS * (len(lengths) - 1)
        starts = EDGE_SECONDS + np.sort(rng.uniform(0, max(0.0, free), len(lengths))) + gaps
        return {
            "cuts": [[float(start), float(start + length)] for start, length in zip(starts, lengths, strict=True)],
            "fade": ranges["fade"].draw(rng),
            "place": ranges["place"].draw(rng),
        }

    def apply(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool = EMPTY_POOL,
        *,
        cuts: list[list[float]],
        fade: float,
        place: str,
    ) -> Edited:
        check_number("fade", fade)
        check_choice("place", place, ("any", "pause"))
        borders = _borders(cuts, sample_rate, len(waveform))
        if place == "pause":
            borders = _in_pauses(waveform, sample_rate, borders)
        knots = np.r_[0, borders.ravel(), len(waveform)]
        parts = [waveform[start:end] for start, end in knots.reshape(-1, 2)]
        joins = np.cumsum([len(part) for part in parts])
        edited = np.concatenate(parts)
        # A fade is no longer than any part that is retained or removed, so that fades do not overlap.
        n_fade = min(round(fade * sample_rate), *np.diff(knots))
        if n_fade:
            rising, half = rise(n_fade), n_fade // 2
            for join, (start, end) in zip(joins[:-1] - half, borders - half, strict=True):
                fading_out, fading_in = waveform[start : start + n_fade], waveform[end : end + n_fade]
                edited[join : join + n_fade] = rising[::-1] * fading_out + rising * fading_in
        after = np.r_[0, np.repeat(joins[:-1], 2), joins[-1]]
        return Edited(
            edited, TimeMap(knots / sample_rate, after / sample_rate), [], (joins[:-1] / sample_rate).tolist()
        )

    def duration_after(self, duration: float, **parameters: Any) -> float:
        return duration - sum(end - start for start, end in parameters["cuts"])


class Paste(Edit):
    """Segment pasted in, from elsewhere in the clip or, at the clip's level, from another clip of the speaker."""

    name = "paste"

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        has_room = duration > 2 * EDGE_SECONDS and fits(ranges["length"], duration / 2 - MIN_DISTANCE_SECONDS)
        return has_room and ("speaker" not in ranges["origin"] or pool.has("speaker_voices"))

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        # The segment is short enough to have its origin on at least one side of any point.
        max_length, origin, voice = duration / 2 - MIN_DISTANCE_SECONDS, ranges["origin"].draw(rng), 0
        if origin == "speaker":
            voice, donor = pick_longer(rng, pool, "speaker_voices", min(_lows(ranges["length"])), sample_rate)
            max_length = min(max_length, len(donor) / sample_rate)
        length = up_to(ranges["length"], max_length).draw(rng)
        at = float(rng.uniform(EDGE_SECONDS, duration - EDGE_SECONDS))
        parameters = {"at": at, "length": length, "fade": ranges["fade"].draw(rng), "origin": origin}
        if origin == "speaker":
            return parameters | {"voice": voice, "offset": float(rng.random())}
        before, after = (max(0.0, side - MIN_DISTANCE_SECONDS - length) for side in (at, duration - at))
        start = float(rng.uniform(0, before + after))
        return parameters | {"source": start if start < before else start - before + at + MIN_DISTANCE_SECONDS}

    def apply(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool = EMPTY_POOL,
        *,
        at: float,
        length: float,
        fade: float,
        origin: str,
        source: float = 0.0,
        voice: int = 0,
        offset: float = 0.0,
    ) -> Edited:
        check_choice("origin", origin, ("clip", "speaker"))
        check_number("length", length, closed=False)
        n_samples = max(1, round(length * sample_rate))
        if origin == "speaker":
            piece = match_level(
                excerpt(pool.get("speaker_voices", voice), n_samples, offset, sample_rate), waveform, sample_rate
            )
        else:
            last = len(waveform) - n_samples
            # Previous edits may have rounded the clip's length.
            if last < 0 or not 0 <= source <= (last + 2) / sample_rate:
                raise ValueError(
                    f"source={source!r} and length={length!r} must be a segment of a clip of "
                    f"{len(waveform) / sample_rate:.3f} s."
                )
            first = min(round(source * sample_rate), last)
            piece = waveform[first : first + n_samples]
            edited = insert(piece, waveform, at, fade, sample_rate)
            copied = (first / sample_rate, (first + n_samples) / sample_rate, edited.intervals[0][0])
            return edited._replace(copies=[copied])
        return insert(piece, waveform, at, fade, sample_rate)

    def duration_after(self, duration: float, **parameters: Any) -> float:
        return duration + parameters["length"]


class Mix(Edit):
    """Another voice laid over an interval, at an SNR measured over that interval.

    If the interval is a pause of the clip, the SNR refers to 20 dB below the level of the clip's speech. Over a silent
    clip the voice retains its own level.
    """

    name = "mix"
    needs = ("voices",)

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return fits(ranges["length"], duration - 2 * EDGE_SECONDS) and pool.has("voices")

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        free = duration - 2 * EDGE_SECONDS
        voice, donor = pick_longer(rng, pool, "voices", min(_lows(ranges["length"])), sample_rate)
        length = up_to(ranges["length"], min(free, len(donor) / sample_rate)).draw(rng)
        start = EDGE_SECONDS + float(rng.uniform(0, free - length))
        return {
            "start": start,
            "end": start + length,
            "snr": ranges["snr"].draw(rng),
            "voice": voice,
            "offset": float(rng.random()),
        }

    def apply(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool = EMPTY_POOL,
        *,
        start: float,
        end: float,
        snr: float,
        voice: int,
        offset: float,
    ) -> Edited:
        check_number("snr", snr, low=-100, high=100)
        donor = pool.get("voices", voice)
        first, last = span_of(start, end, len(waveform), sample_rate)
        last = min(last, first + len(donor))  # A shorter voice ends earlier.
        overlay = excerpt(donor, last - first, offset, sample_rate).copy()
        if n_fade := min(round(_MIX_FADE_SECONDS * sample_rate), len(overlay) // 2):
            overlay[:n_fade] *= rise(n_fade)
            overlay[-n_fade:] *= rise(n_fade)[::-1]
        loudness = max(rms(waveform[first:last]), _MIN_LEVEL_FRACTION * speech_level(waveform, sample_rate))
        level = rms(overlay)
        gain = loudness / level * 10 ** (-snr / 20) if loudness > 0 and level > 0 else 1.0
        edited = waveform.copy()
        edited[first:last] += np.float32(gain) * overlay
        interval = (first / sample_rate, last / sample_rate)
        return Edited(edited, TimeMap.identity(len(waveform) / sample_rate), [interval])


# Shared by the edits that bring in other audio ------------------------------------------------------


def fits(values: Range, maximum: float) -> bool:
    """Return whether any value of a range is at most `maximum`."""
    return any(value <= maximum for value in _lows(values))


def up_to(values: Range, maximum: float) -> Between | Either | OneOf:
    """Return the part of a range that is at most `maximum`."""
    if isinstance(values, Between) and fits(values, maximum):
        return Between(values.low, min(values.high, maximum), values.log)
    if isinstance(values, Either) and fits(values, maximum):
        return Either(tuple(Between(p.low, min(p.high, maximum), p.log) for p in values.parts if p.low <= maximum))
    if isinstance(values, OneOf) and fits(values, maximum):
        return OneOf(tuple(value for value in values.values if value <= maximum))
    raise ValueError(f"none of {values} fits into {maximum:.3f} s: check with can_draw that the clip is long enough.")


def read(pool: AudioPool, kind: str, index: int) -> np.ndarray | None:
    """Return one waveform of a pool, or None if it cannot be read and the pool skips such audio."""
    try:
        return pool.get(kind, index)
    except AudioError:
        if not pool.skips_unreadable:
            raise
        return None


def pick_longer(
    rng: np.random.Generator, pool: AudioPool, kind: str, min_seconds: float, sample_rate: int
) -> tuple[int, np.ndarray]:
    """Draw audio of one kind that lasts at least `min_seconds`; return its index and its waveform."""
    tried: set[int] = set()
    for _ in range(_MAX_PICKS):
        index = pool.pick(rng, kind)
        if index in tried:
            continue
        tried.add(index)
        waveform = read(pool, kind, index)
        if waveform is not None and len(waveform) >= min_seconds * sample_rate:
            return index, waveform
    name = "other clips of the speaker" if kind == "speaker_voices" else kind
    raise (NoUsableRecording if pool.skips_unreadable or kind in pool.allowed_indices else ValueError)(
        f"{len(tried)} {name} were tried, and none lasts {min_seconds:g} s. Leave out the short ones, add longer ones, "
        "or remove the edit that needs them from edits."
    )


def excerpt(waveform: np.ndarray, n_samples: int, offset: float, sample_rate: int) -> np.ndarray:
    """Return an excerpt from a relative offset on, or from the next place, cyclically, that is not a pause."""
    start = excerpt_start(waveform, n_samples, offset, sample_rate)
    return waveform[start : start + n_samples].astype(np.float32, copy=False)


def excerpt_start(waveform: np.ndarray, n_samples: int, offset: float, sample_rate: int) -> int:
    """Return the first sample of the excerpt that `excerpt` returns."""
    check_number("offset", offset, high=1.0)
    last_start = len(waveform) - n_samples
    if n_samples <= 0 or last_start < 0:
        raise ValueError(
            f"the plan uses {n_samples / sample_rate:.3f} s of a recording of {len(waveform) / sample_rate:.3f} s. "
            "Apply it with the audio that it was drawn for."
        )
    first, hop = min(int(offset * (last_start + 1)), last_start), max(1, round(_EXCERPT_HOP_SECONDS * sample_rate))
    number, phase = divmod(first, hop)
    frames = waveform[phase:][: (len(waveform) - phase) // hop * hop].reshape(-1, hop)
    energy = np.r_[0.0, np.cumsum(np.einsum("ij,ij->i", frames, frames, dtype=np.float64))]
    n_starts, n_frames = (last_start - phase) // hop + 1, n_samples // hop
    energies = energy[n_frames : n_frames + n_starts] - energy[:n_starts]
    is_loud = np.roll(energies >= _EXCERPT_ENERGY_FRACTION * energies.max(), -number)
    return phase + (number + int(np.argmax(is_loud))) % n_starts * hop


def speech_level(waveform: np.ndarray, sample_rate: int) -> float:
    """Return the RMS of the 20 ms frames that are at most 10 dB below the mean, which excludes pauses."""
    n = max(1, round(0.02 * sample_rate))
    frames = waveform[: len(waveform) // n * n].reshape(-1, n)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1) if len(frames) else np.array([rms(waveform) ** 2])
    return float(np.sqrt(power[power >= 0.1 * power.mean()].mean()))


def match_level(piece: np.ndarray, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return a piece scaled to the speech level of a clip; unchanged if either is silent."""
    level, target = speech_level(piece, sample_rate), speech_level(waveform, sample_rate)
    return piece * np.float32(target / level) if level > 0 and target > 0 else piece


def insert(piece: np.ndarray, waveform: np.ndarray, at: float, fade: float, sample_rate: int) -> Edited:
    """Insert a piece into a clip; the piece is cross-faded, within its length, with the clip around that moment."""
    check_number("at", at, high=len(waveform) / sample_rate)
    check_number("fade", fade)
    first = round(at * sample_rate)
    last = first + len(piece)
    edited = np.concatenate([waveform[:first], piece, waveform[first:]])
    n_fade = min(round(fade * sample_rate), len(piece) // 2, first, len(waveform) - first)
    if n_fade:
        rising, falling = rise(n_fade), rise(n_fade)[::-1]
        edited[first : first + n_fade] = rising * piece[:n_fade] + falling * waveform[first : first + n_fade]
        edited[last - n_fade : last] = falling * piece[-n_fade:] + rising * waveform[first - n_fade : first]
    time_map = TimeMap(
        np.array([0, first, first, len(waveform)]) / sample_rate, np.array([0, first, last, len(edited)]) / sample_rate
    )
    return Edited(edited, time_map, [(first / sample_rate, last / sample_rate)])


# Private helpers -----------------------------------------------------------------------------------


def _lows(values: Range) -> list[float]:
    """Return the lowest value of each part of a range."""
    parts = values.parts if isinstance(values, Either) else [values]
    return [low for part in parts for low in ([part.low] if isinstance(part, Between) else getattr(part, "values", ()))]


def _retained_seconds(duration: float) -> float:
    """Return the seconds of a clip that cuts retain."""
    return max(duration / 2, _MIN_RETAINED_SECONDS)


def _borders(cuts: list[list[float]], sample_rate: int, n_samples: int) -> np.ndarray:
    """Return the first sample of each cut and the one after its last, without accumulating rounding errors."""
    seconds = np.asarray(cuts, dtype=np.float64)
    if seconds.ndim != 2 or seconds.shape[1] != 2 or not len(seconds):
        raise ValueError(f"cuts={cuts!r} must be pairs of start and end, in seconds.")
    starts = np.round(seconds[:, 0] * sample_rate)
    lengths = np.diff(np.round(np.cumsum(seconds[:, 1] - seconds[:, 0]) * sample_rate), prepend=0.0)
    borders = np.column_stack([starts, starts + lengths])
    if not (np.diff(np.r_[0, borders.ravel()]) >= 0).all() or (lengths < 1).any() or borders[-1, 1] > n_samples:
        raise ValueError(
            f"cuts={cuts!r} must be pairs of start and end, in order, within the "
            f"{n_samples / sample_rate:.3f} s of the clip."
        )
    if lengths.sum() >= n_samples:
        raise ValueError(f"cuts={cuts!r} leave nothing of the clip: cut out less.")
    return borders.astype(np.int64)


def _in_pauses(waveform: np.ndarray, sample_rate: int, borders: np.ndarray) -> np.ndarray:
    """Move each cut, with the same length and order, to where the louder of its two borders is quietest."""
    search, edge, distance = (
        round(t * sample_rate) for t in (_PAUSE_SEARCH_SECONDS, EDGE_SECONDS, MIN_DISTANCE_SECONDS)
    )
    half = max(1, round(_PAUSE_WINDOW_SECONDS * sample_rate / 2))
    energy = np.r_[0.0, np.cumsum(np.square(waveform, dtype=np.float64))]
    moved, lowest = [], edge
    following = [*(borders[1:, 0] - distance), len(waveform) - edge]
    for (start, end), highest in zip(borders, following, strict=True):
        shifts = np.arange(max(-search, min(0, lowest - start)), min(search, max(0, highest - end)) + 1)
        shifts = shifts[np.argsort(np.abs(shifts), kind="stable")]  # Ties go to the nearest.
        middles = np.stack([start + shifts, end + shifts])
        around = [np.clip(middles + side, 0, len(waveform)) for side in (-half, half)]
        shift = shifts[np.argmin((energy[around[1]] - energy[around[0]]).max(axis=0))]
        moved.append((start + shift, end + shift))
        lowest = end + shift + distance
    return np.array(moved)
