"""Synthetic speech, that of a user's own systems: as a whole recording or put into a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._utils.validation import check_number
from .._audio.trimming import trim_silence
from ..taxonomy import Range
from ..time_map import TimeMap
from .base import EDGE_SECONDS, EMPTY_POOL, AudioPool, Edit, Edited, rms
from .temporal import APART_SECONDS, excerpt, excerpt_start, fits, insert, matched, pick_longer, up_to

# Where a clip is long enough to have synthetic speech put into it, how often it is replaced instead.
_WHOLE_SHARE = 0.5
# A recording is at least so long.
_LEAST_SECONDS = 0.5
# How far from where an excerpt would begin or end a pause is looked for, at most this share of its length away, and
# over how long a stretch.
_PAUSE_SECONDS, _PAUSE_SHARE, _PAUSE_WINDOW = 0.5, 0.25, 0.02
# Places of a recording that are tried for an excerpt that is not mostly a pause.
_N_PLACES = 10


class _Synthetic(Edit):
    # A clip stays about as long as it was, so that longer ones are not the synthetic ones.

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], pool: AudioPool
    ) -> dict[str, Any]:
        index, recording = pick_longer(rng, pool, self.name, _LEAST_SECONDS, sample_rate)
        offset = float(rng.random())
        wants_whole = rng.random() < _WHOLE_SHARE
        most = min(len(recording) / sample_rate, duration / 2 - APART_SECONDS)  # As of a passage that is pasted.
        if wants_whole or duration <= 2 * EDGE_SECONDS or not fits(ranges["length"], most):
            first, last = _between_pauses(recording, round(duration * sample_rate), offset, sample_rate)
            return {"index": index, "source": first / sample_rate, "seconds": (last - first) / sample_rate}
        at = float(rng.uniform(EDGE_SECONDS, duration - EDGE_SECONDS))
        seconds = up_to(ranges["length"], most).draw(rng)
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
            return insert(matched(piece, waveform, sample_rate), waveform, at, fade, sample_rate)
        check_number("source", source)
        first = round(source * sample_rate)
        if first + n_samples > len(recording):
            raise ValueError(
                f"the plan asks for {seconds:.3f} s from {source:.3f} s on of a recording of "
                f"{len(recording) / sample_rate:.3f} s. Apply it with the audio that it was drawn for."
            )
        piece = recording[first : first + n_samples].astype(np.float32)
        before, after = len(waveform) / sample_rate, len(piece) / sample_rate
        # All of the clip is gone at one moment, all that is there is new.
        time_map = TimeMap([0, before, before], [0, 0, after])
        return Edited(piece, time_map, [(0.0, after)])

    def duration_after(self, duration: float, **parameters: Any) -> float:
        return parameters["seconds"] + (duration if parameters.get("at") is not None else 0.0)


class TTS(_Synthetic):
    """Speech from text, of `sources`: an excerpt instead of the clip or put into it at its level."""

    name = "tts"
    needs = ("tts",)


class VC(_Synthetic):
    """A converted voice, of `sources`: an excerpt instead of the clip or put into it at its level."""

    name = "vc"
    needs = ("vc",)


def _between_pauses(recording, n_samples, offset, sample_rate):
    """Borders of about so many samples, at pauses near where they would be, and as close to speech as a clip's."""
    if len(recording) <= n_samples:
        return 0, len(recording)
    far = min(round(_PAUSE_SECONDS * sample_rate), int(_PAUSE_SHARE * n_samples))
    for further in np.arange(_N_PLACES) / _N_PLACES:
        start = excerpt_start(recording, n_samples, (offset + further) % 1, sample_rate)
        first, last = (_quietest(recording, border, far, sample_rate) for border in (start, start + n_samples))
        trimmed, silence = trim_silence(recording[first:last], sample_rate)
        # Else most of it is a pause.
        if len(trimmed) >= n_samples / 2 and rms(trimmed) >= rms(recording[start : start + n_samples]) / 2:
            break
    first += round(silence * sample_rate)
    return first, first + len(trimmed)


def _quietest(waveform, middle, far, sample_rate):
    """Sample around which it is quietest, of those that are not too far from a place."""
    half = max(1, round(_PAUSE_WINDOW * sample_rate / 2))
    first, last = np.clip([middle - far, middle + far], half, len(waveform) - half)
    energy = np.r_[0.0, np.cumsum(np.square(waveform[first - half : last + half], dtype=np.float64))]
    return int(first + np.argmin(energy[2 * half :] - energy[: -2 * half]))
