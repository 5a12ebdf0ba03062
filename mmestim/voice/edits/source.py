"""Edits by synthetic speech from the user's own systems: as a whole recording or inserted into a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._utils.validation import check_number
from .._audio.trimming import trim_silence
from ..taxonomy import Between, Range
from ..time_map import TimeMap
from .base import EDGE_SECONDS, EMPTY_POOL, AudioPool, Edit, Edited, rms
from .temporal import (
    MIN_DISTANCE_SECONDS,
    excerpt,
    excerpt_start,
    fits,
    insert,
    match_level,
    pick_longer,
    read,
    up_to,
)

# Probability that a clip is replaced, if it is long enough for an insertion.
_REPLACEMENT_PROBABILITY = 0.5
# Minimum duration of a synthetic recording.
_MIN_SECONDS = 0.5
# Distance within which the borders of an excerpt move to a pause, in seconds and relative to the excerpt's length, and
# the window over which the energy of a pause is measured.
_PAUSE_SEARCH_SECONDS, _PAUSE_SEARCH_FRACTION, _PAUSE_WINDOW_SECONDS = 0.5, 0.25, 0.02
# Pause between recordings that are joined, in seconds.
_PAUSE = Between(0.15, 0.5)
# Places of a recording that are tried for an excerpt that is not mostly a pause.
_N_PLACES = 10


class _Synthetic(Edit):
    """Base class of the edits by synthetic speech.

    A replaced clip is about as long as before, so that the duration does not reveal synthetic clips. Shorter recordings
    are joined.
    """

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        index, recording = pick_longer(rng, pool, self.name, _MIN_SECONDS, sample_rate)
        offset = float(rng.random())
        wants_replacement = rng.random() < _REPLACEMENT_PROBABILITY
        # The limit of pasted segments.
        max_seconds = min(len(recording) / sample_rate, duration / 2 - MIN_DISTANCE_SECONDS)
        if wants_replacement or duration <= 2 * EDGE_SECONDS or not fits(ranges["length"], max_seconds):
            first, last = _between_pauses(recording, round(duration * sample_rate), offset, sample_rate)
            parameters = {"index": index, "source": first / sample_rate, "seconds": (last - first) / sample_rate}
            missing = duration - len(recording) / sample_rate
            return parameters | {"following": self._draw_following(rng, index, missing, sample_rate, pool)}
        at = float(rng.uniform(EDGE_SECONDS, duration - EDGE_SECONDS))
        seconds = up_to(ranges["length"], max_seconds).draw(rng)
        return {"index": index, "offset": offset, "seconds": seconds, "at": at, "fade": ranges["fade"].draw(rng)}

    def _draw_following(
        self, rng: np.random.Generator, index: int, missing: float, sample_rate: int, pool: AudioPool
    ) -> list[dict[str, Any]]:
        """Return the recordings that follow one for about `missing` seconds, each with the pause before it."""
        following: list[dict[str, Any]] = []
        for other in pool.following(self.name, index):
            pause = _PAUSE.draw(rng)
            missing -= pause
            if missing < _MIN_SECONDS:
                break
            recording = read(pool, self.name, other)
            if recording is None or len(recording) < _MIN_SECONDS * sample_rate:
                missing += pause
                continue
            seconds = _beginning(recording, round(missing * sample_rate), sample_rate) / sample_rate
            following.append({"index": other, "pause": pause, "seconds": seconds})
            missing -= seconds
        return following

    def apply(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        pool: AudioPool = EMPTY_POOL,
        *,
        index: int,
        seconds: float,
        source: float = 0.0,
        offset: float = 0.0,
        following: Sequence[Mapping[str, Any]] = (),
        at: float | None = None,
        fade: float = 0.0,
    ) -> Edited:
        check_number("seconds", seconds, closed=False)
        recording = pool.get(self.name, index)
        if at is not None:
            piece = excerpt(recording, max(1, round(seconds * sample_rate)), offset, sample_rate)
            return insert(match_level(piece, waveform, sample_rate), waveform, at, fade, sample_rate)
        pieces = [_part(recording, source, seconds, sample_rate)]
        for step in following:
            pieces += self._continuation(pool, sample_rate, **step)
        piece = np.concatenate(pieces).astype(np.float32)
        before, after = len(waveform) / sample_rate, len(piece) / sample_rate
        # The clip ends where the replacement starts.
        time_map = TimeMap([0, before, before], [0, 0, after])
        return Edited(piece, time_map, [(0.0, after)])

    def _continuation(
        self, pool: AudioPool, sample_rate: int, *, index: int, pause: float, seconds: float
    ) -> list[np.ndarray]:
        """Return a pause and the beginning of the recording after it."""
        check_number("pause", pause)
        # Pauses have the noise of half a 16-bit step that recordings have.
        noise = np.random.default_rng(index).uniform(-0.5, 0.5, round(pause * sample_rate)) / 32768
        return [noise, _part(pool.get(self.name, index), 0.0, seconds, sample_rate)]

    def duration_after(self, duration: float, **parameters: Any) -> float:
        joined = sum(step["pause"] + step["seconds"] for step in parameters.get("following", ()))
        return parameters["seconds"] + joined + (duration if parameters.get("at") is not None else 0.0)


class TTS(_Synthetic):
    """Speech from text, out of `sources`: an excerpt that replaces the clip or is inserted at its level."""

    name = "tts"
    needs = ("tts",)


class VC(_Synthetic):
    """Converted voice, out of `sources`: an excerpt that replaces the clip or is inserted at its level."""

    name = "vc"
    needs = ("vc",)


def _between_pauses(recording: np.ndarray, n_samples: int, offset: float, sample_rate: int) -> tuple[int, int]:
    """Return the borders of an excerpt of about `n_samples` that starts and ends at pauses, trimmed like a clip."""
    if len(recording) <= n_samples:
        return 0, len(recording)
    search = min(round(_PAUSE_SEARCH_SECONDS * sample_rate), int(_PAUSE_SEARCH_FRACTION * n_samples))
    for further in np.arange(_N_PLACES) / _N_PLACES:
        start = excerpt_start(recording, n_samples, (offset + further) % 1, sample_rate)
        first, last = (_quietest(recording, border, search, sample_rate) for border in (start, start + n_samples))
        trimmed, silence = trim_silence(recording[first:last], sample_rate)
        # Otherwise the excerpt is mostly a pause, and the next place is tried.
        if len(trimmed) >= n_samples / 2 and rms(trimmed) >= rms(recording[start : start + n_samples]) / 2:
            break
    first += round(silence * sample_rate)
    return first, first + len(trimmed)


def _beginning(recording: np.ndarray, n_samples: int, sample_rate: int) -> int:
    """Return the samples of a recording up to a pause after about `n_samples`, or up to its end."""
    search = min(round(_PAUSE_SEARCH_SECONDS * sample_rate), int(_PAUSE_SEARCH_FRACTION * n_samples))
    if len(recording) <= n_samples + search:
        return len(recording)
    trimmed, silence = trim_silence(recording[: _quietest(recording, n_samples, search, sample_rate)], sample_rate)
    return round(silence * sample_rate) + len(trimmed)


def _part(recording: np.ndarray, start: float, seconds: float, sample_rate: int) -> np.ndarray:
    """Return a part of a recording."""
    check_number("source", start)
    check_number("seconds", seconds, closed=False)
    first, n_samples = round(start * sample_rate), max(1, round(seconds * sample_rate))
    if first + n_samples > len(recording):
        raise ValueError(
            f"the plan uses {seconds:.3f} s from {start:.3f} s on of a recording of "
            f"{len(recording) / sample_rate:.3f} s. Apply it with the audio that it was drawn for."
        )
    return recording[first : first + n_samples]


def _quietest(waveform: np.ndarray, middle: int, search: int, sample_rate: int) -> int:
    """Return the sample within `search` of a place around which the waveform is quietest."""
    half = max(1, round(_PAUSE_WINDOW_SECONDS * sample_rate / 2))
    first, last = np.clip([middle - search, middle + search], half, len(waveform) - half)
    energy = np.r_[0.0, np.cumsum(np.square(waveform[first - half : last + half], dtype=np.float64))]
    return int(first + np.argmin(energy[2 * half :] - energy[: -2 * half]))
