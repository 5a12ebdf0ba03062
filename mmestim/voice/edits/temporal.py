"""Edits of the order of things: words taken out, passages put in, voices laid over each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._utils.validation import check_choice, check_number
from .._audio.reading import AudioError
from ..taxonomy import Between, Either, OneOf, Range
from ..time_map import TimeMap
from .base import EDGE_SECONDS, EMPTY_POOL, AudioPool, Edit, Edited, NoUsableRecording, rise, rms, span_of

# Seams are at least this far from each other, and a passage from where it is put: a copy right beside
# its original would show no seam on that side.
APART_SECONDS = 0.1
# Cuts leave half of a clip, at least this.
_LEFT_SECONDS = 1.0
# How far a cut looks for a pause, and over how long a stretch it listens.
_PAUSE_SECONDS, _PAUSE_WINDOW = 1.0, 0.02
# A voice that is laid over comes and goes in this time.
_MIX_FADE = 0.01
# Excerpts are tried this far apart, and the first is good that has this share of the loudest one's energy.
_EXCERPT_HOP, _EXCERPT_SHARE = 0.01, 0.25
# A clip's pauses are no measure of its level: below this share of it, 20 dB, an SNR is over that level.
_PAUSE_SHARE = 0.1
# Recordings are drawn so many times until one is long enough.
_MOST_PICKS = 100


class Cut(Edit):
    """Stretches taken out, and what is left joined with a fade made of what is taken out.

    In ``place`` 'pause' each moves, borders together, to where both are quietest within a second: `cuts` say where it
    looks, the points and the time map where it cuts.
    """

    name = "cut"

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return fits(ranges["length"], duration - _left(duration))

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        inside = duration - 2 * EDGE_SECONDS
        left = _left(duration)
        room, most = duration - left, 1 + int((left - 2 * EDGE_SECONDS) / APART_SECONDS + 1e-9)
        lengths: list[float] = []
        for _ in range(min(int(ranges["n_cuts"].draw(rng)), most)):
            if not lengths or fits(ranges["length"], room - sum(lengths)):
                lengths.append(up_to(ranges["length"], room - sum(lengths)).draw(rng))
        lengths = rng.permutation(lengths).tolist()  # The first is likely to be longest.
        gaps = np.arange(len(lengths)) * APART_SECONDS + np.cumsum([0.0, *lengths[:-1]])
        free = inside - sum(lengths) - APART_SECONDS * (len(lengths) - 1)
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
        kept = [waveform[start:end] for start, end in knots.reshape(-1, 2)]
        joins = np.cumsum([len(part) for part in kept])
        edited = np.concatenate(kept)
        # No longer than any part that is left or taken out, so that fades neither meet nor reach past it.
        n_fade = min(round(fade * sample_rate), *np.diff(knots))
        if n_fade:
            rising, half = rise(n_fade), n_fade // 2
            for join, (start, end) in zip(joins[:-1] - half, borders - half, strict=True):
                out, into = waveform[start : start + n_fade], waveform[end : end + n_fade]
                edited[join : join + n_fade] = rising[::-1] * out + rising * into
        after = np.r_[0, np.repeat(joins[:-1], 2), joins[-1]]
        return Edited(
            edited, TimeMap(knots / sample_rate, after / sample_rate), [], (joins[:-1] / sample_rate).tolist()
        )

    def duration_after(self, duration: float, **parameters: Any) -> float:
        return duration - sum(end - start for start, end in parameters["cuts"])


class Paste(Edit):
    """A passage put in, from elsewhere in the clip or, at its level, from another recording of the speaker."""

    name = "paste"

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        has_room = duration > 2 * EDGE_SECONDS and fits(ranges["length"], duration / 2 - APART_SECONDS)
        return has_room and ("speaker" not in ranges["origin"] or pool.has("speaker_voices"))

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        # So short that there is room for it on one side at least of any point.
        most, origin, voice = duration / 2 - APART_SECONDS, ranges["origin"].draw(rng), 0
        if origin == "speaker":
            voice, donor = pick_longer(rng, pool, "speaker_voices", min(_lows(ranges["length"])), sample_rate)
            most = min(most, len(donor) / sample_rate)
        length = up_to(ranges["length"], most).draw(rng)
        at = float(rng.uniform(EDGE_SECONDS, duration - EDGE_SECONDS))
        parameters = {"at": at, "length": length, "fade": ranges["fade"].draw(rng), "origin": origin}
        if origin == "speaker":
            return parameters | {"voice": voice, "offset": float(rng.random())}
        before, after = (max(0.0, room - APART_SECONDS - length) for room in (at, duration - at))
        start = float(rng.uniform(0, before + after))
        return parameters | {"source": start if start < before else start - before + at + APART_SECONDS}

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
            piece = matched(
                excerpt(pool.get("speaker_voices", voice), n_samples, offset, sample_rate), waveform, sample_rate
            )
        else:
            last = len(waveform) - n_samples
            # Edits before it may have rounded the clip's length.
            if last < 0 or not 0 <= source <= (last + 2) / sample_rate:
                raise ValueError(
                    f"source={source!r} and length={length!r} must be a passage of a clip of "
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
    """Another voice laid over a part, at an SNR over that part.

    Where the clip pauses all through the part, the SNR is over what is 20 dB below the level of its speech;
    over a silent clip the voice has its own level.
    """

    name = "mix"
    needs = ("voices",)

    def can_draw(self, duration: float, ranges: Mapping[str, Range], pool: AudioPool) -> bool:
        return fits(ranges["length"], duration - 2 * EDGE_SECONDS) and pool.has("voices")

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        room = duration - 2 * EDGE_SECONDS
        voice, donor = pick_longer(rng, pool, "voices", min(_lows(ranges["length"])), sample_rate)
        length = up_to(ranges["length"], min(room, len(donor) / sample_rate)).draw(rng)
        start = EDGE_SECONDS + float(rng.uniform(0, room - length))
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
        last = min(last, first + len(donor))  # A voice that is shorter ends sooner.
        overlay = excerpt(donor, last - first, offset, sample_rate).copy()
        if n_fade := min(round(_MIX_FADE * sample_rate), len(overlay) // 2):
            overlay[:n_fade] *= rise(n_fade)
            overlay[-n_fade:] *= rise(n_fade)[::-1]
        loudness = max(rms(waveform[first:last]), _PAUSE_SHARE * speech_level(waveform, sample_rate))
        own = rms(overlay)
        gain = loudness / own * 10 ** (-snr / 20) if loudness > 0 and own > 0 else 1.0
        edited = waveform.copy()
        edited[first:last] += np.float32(gain) * overlay
        where = (first / sample_rate, last / sample_rate)
        return Edited(edited, TimeMap.identity(len(waveform) / sample_rate), [where])


# What the edits that bring in other audio share -----------------------------------------------------


def fits(values: Range, most: float) -> bool:
    """Whether any of a range is at most so much."""
    return any(value <= most for value in _lows(values))


def up_to(values: Range, most: float) -> Between | Either | OneOf:
    """The part of a range that is at most so much."""
    if isinstance(values, Between) and fits(values, most):
        return Between(values.low, min(values.high, most), values.log)
    if isinstance(values, Either) and fits(values, most):
        return Either(tuple(Between(p.low, min(p.high, most), p.log) for p in values.parts if p.low <= most))
    if isinstance(values, OneOf) and fits(values, most):
        return OneOf(tuple(value for value in values.values if value <= most))
    raise ValueError(f"none of {values} fits into {most:.3f} s: ask can_draw whether the clip is long enough.")


def pick_longer(
    rng: np.random.Generator, pool: AudioPool, kind: str, least: float, sample_rate: int
) -> tuple[int, np.ndarray]:
    """One of a kind that lasts `least` seconds or more: its number, and itself."""
    tried = set()
    for _ in range(_MOST_PICKS):
        index = pool.pick(rng, kind)
        if index in tried:
            continue
        tried.add(index)
        try:
            waveform = pool.get(kind, index)
        except AudioError:
            if not pool.skips_unreadable:
                raise
            continue
        if len(waveform) >= least * sample_rate:
            return index, waveform
    name = "other clips of the speaker" if kind == "speaker_voices" else kind
    raise (NoUsableRecording if pool.skips_unreadable or kind in pool.allowed_indices else ValueError)(
        f"{len(tried)} {name} were tried, and none lasts {least:g} s. Leave out the short ones, give longer ones, or "
        "take the edit that needs them out of edits."
    )


def excerpt(waveform: np.ndarray, n_samples: int, offset: float, sample_rate: int) -> np.ndarray:
    """So many samples from a share `offset` of the way on, or from the next place, round the end, that is no pause."""
    start = excerpt_start(waveform, n_samples, offset, sample_rate)
    return waveform[start : start + n_samples].astype(np.float32, copy=False)


def excerpt_start(waveform: np.ndarray, n_samples: int, offset: float, sample_rate: int) -> int:
    """First sample of the excerpt."""
    check_number("offset", offset, high=1.0)
    room = len(waveform) - n_samples
    if n_samples <= 0 or room < 0:
        raise ValueError(
            f"the plan asks for {n_samples / sample_rate:.3f} s of a recording of {len(waveform) / sample_rate:.3f} s. "
            "Apply it with the audio that it was drawn for."
        )
    first, hop = min(int(offset * (room + 1)), room), max(1, round(_EXCERPT_HOP * sample_rate))
    number, phase = divmod(first, hop)
    frames = waveform[phase:][: (len(waveform) - phase) // hop * hop].reshape(-1, hop)
    energy = np.r_[0.0, np.cumsum(np.einsum("ij,ij->i", frames, frames, dtype=np.float64))]
    n_starts, n_frames = (room - phase) // hop + 1, n_samples // hop
    heard = energy[n_frames : n_frames + n_starts] - energy[:n_starts]
    good = np.roll(heard >= _EXCERPT_SHARE * heard.max(), -number)
    return phase + (number + int(np.argmax(good))) % n_starts * hop


def speech_level(waveform: np.ndarray, sample_rate: int) -> float:
    """RMS of what is not pause: of the 20 ms frames that are at most 10 dB below the mean."""
    n = max(1, round(0.02 * sample_rate))
    frames = waveform[: len(waveform) // n * n].reshape(-1, n)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1) if len(frames) else np.array([rms(waveform) ** 2])
    return float(np.sqrt(power[power >= 0.1 * power.mean()].mean()))


def matched(piece: np.ndarray, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """A piece at the level of a clip; as it is where either is silent."""
    own, wanted = speech_level(piece, sample_rate), speech_level(waveform, sample_rate)
    return piece * np.float32(wanted / own) if own > 0 and wanted > 0 else piece


def insert(piece: np.ndarray, waveform: np.ndarray, at: float, fade: float, sample_rate: int) -> Edited:
    """A clip with a piece put in; fades are inside the piece, into what was around that moment."""
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


# Inside --------------------------------------------------------------------------------------------


def _lows(values: Range) -> list[float]:
    parts = values.parts if isinstance(values, Either) else [values]
    return [low for part in parts for low in ([part.low] if isinstance(part, Between) else getattr(part, "values", ()))]


def _left(duration: float) -> float:
    """Seconds that cuts leave of a clip."""
    return max(duration / 2, _LEFT_SECONDS)


def _borders(cuts, sample_rate, n_samples):
    """First sample of each cut and the one after it, together as many as the seconds say."""
    seconds = np.asarray(cuts, dtype=np.float64)
    if seconds.ndim != 2 or seconds.shape[1] != 2 or not len(seconds):
        raise ValueError(f"cuts={cuts!r} must be pairs of start and end, in seconds.")
    starts = np.round(seconds[:, 0] * sample_rate)
    lengths = np.diff(np.round(np.cumsum(seconds[:, 1] - seconds[:, 0]) * sample_rate), prepend=0.0)
    borders = np.column_stack([starts, starts + lengths])
    if not (np.diff(np.r_[0, borders.ravel()]) >= 0).all() or (lengths < 1).any() or borders[-1, 1] > n_samples:
        raise ValueError(
            f"cuts={cuts!r} must be pairs of start and end, one after the other, within the "
            f"{n_samples / sample_rate:.3f} s of the clip."
        )
    if lengths.sum() >= n_samples:
        raise ValueError(f"cuts={cuts!r} leave nothing of the clip: cut out less.")
    return borders.astype(np.int64)


def _in_pauses(waveform, sample_rate, borders):
    """Cuts as long as they are, in the same order, each where the louder of its borders is quietest."""
    far, edge, apart = (round(t * sample_rate) for t in (_PAUSE_SECONDS, EDGE_SECONDS, APART_SECONDS))
    half = max(1, round(_PAUSE_WINDOW * sample_rate / 2))
    energy = np.r_[0.0, np.cumsum(np.square(waveform, dtype=np.float64))]
    moved, lowest = [], edge
    following = [*(borders[1:, 0] - apart), len(waveform) - edge]
    for (start, end), highest in zip(borders, following, strict=True):
        shifts = np.arange(max(-far, min(0, lowest - start)), min(far, max(0, highest - end)) + 1)
        shifts = shifts[np.argsort(np.abs(shifts), kind="stable")]  # Of equals the nearest.
        middles = np.stack([start + shifts, end + shifts])
        around = [np.clip(middles + side, 0, len(waveform)) for side in (-half, half)]
        shift = shifts[np.argmin((energy[around[1]] - energy[around[0]]).max(axis=0))]
        moved.append((start + shift, end + shift))
        lowest = end + shift + apart
    return np.array(moved)
