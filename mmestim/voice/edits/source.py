"""Edits by synthetic speech from the user's own systems: as a whole recording or inserted into a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._utils.validation import check_number
from .._audio.trimming import trim_silence
from ..taxonomy import Range
from ..time_map import TimeMap
from .base import EDGE_SECONDS, EMPTY_POOL, AudioPool, Edit, Edited, rms
from .temporal import MIN_DISTANCE_SECONDS, excerpt, excerpt_start, fits, insert, match_level, pick_longer, up_to

# Probability that a clip is replaced, if it is long enough for an insertion.
_REPLACEMENT_PROBABILITY = 0.5
# Minimum duration of a synthetic recording.
_MIN_SECONDS = 0.5
# Distance within which the borders of an excerpt move to a pause, in seconds and relative to the excerpt's length, and
# the window over which the energy of a pause is measured.
_PAUSE_SEARCH_SECONDS, _PAUSE_SEARCH_FRACTION, _PAUSE_WINDOW_SECONDS = 0.5, 0.25, 0.02
# Places of a recording that are tried for an excerpt that is not mostly a pause.
_N_PLACES = 10


class _Synthetic(Edit):
    """Base class of the edits by synthetic speech.

    A replaced clip is about as long as before, so that the duration does not reveal synthetic clips.
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
            return {"index": index, "source": first / sample_rate, "seconds": (last - first) / sample_rate}
        at = float(rng.uniform(EDGE_SECONDS, duration - EDGE_SECONDS))
        seconds = up_to(ranges["length"], max_seconds).draw(rng)
        return {"index": index, "offset": offset, "seconds": seconds, "at": at, "fade": ranges["fade"].draw(rng)}

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
        at: float | None = None,
        fade: float = 0.0,
    ) -> Edited:
        check_number("seconds", seconds, closed=False)
        recording, n_samples = pool.get(self.name, index), max(1, round(seconds * sample_rate))
        if at is not None:
            piece = excerpt(recording, n_samples, offset, sample_rate)
            return insert(match_level(piece, waveform, sample_rate), waveform, at, fade, sample_rate)
        check_number("source", source)
        first = round(source * sample_rate)
        if first + n_samples > len(recording):
            raise ValueError(
                f"the plan uses {seconds:.3f} s from {source:.3f} s on of a recording of "
                f"{len(recording) / sample_rate:.3f} s. Apply it with the audio that it was drawn for."
            )
        piece = recording[first : first + n_samples].astype(np.float32)
        before, after = len(waveform) / sample_rate, len(piece) / sample_rate
        # The clip ends where the replacement starts.
        time_map = TimeMap([0, before, before], [0, 0, after])
        return Edited(piece, time_map, [(0.0, after)])

    def duration_after(self, duration: float, **parameters: Any) -> float:
        return parameters["seconds"] + (duration if parameters.get("at") is not None else 0.0)


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


def _quietest(waveform: np.ndarray, middle: int, search: int, sample_rate: int) -> int:
    """Return the sample within `search` of a place around which the waveform is quietest."""
    half = max(1, round(_PAUSE_WINDOW_SECONDS * sample_rate / 2))
    first, last = np.clip([middle - search, middle + search], half, len(waveform) - half)
    energy = np.r_[0.0, np.cumsum(np.square(waveform[first - half : last + half], dtype=np.float64))]
    return int(first + np.argmin(energy[2 * half :] - energy[: -2 * half]))
