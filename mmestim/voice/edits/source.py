"""Synthetic speech, that of a user's own systems: as a whole recording or put into a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._validation import check_number
from ..taxonomy import Range
from ..time_map import TimeMap
from ._base import EDGE_SECONDS, NO_AUDIO, Bank, Edit, Edited
from .temporal import APART_SECONDS, excerpt, fits, insert, matched, up_to

# Where a clip is long enough to have synthetic speech put into it, how often it is replaced instead.
_WHOLE_SHARE = 0.5


class _Synthetic(Edit):
    # A clip is no longer for it, so that longer ones are not the synthetic ones.

    def draw(
        self, rng: np.random.Generator, duration: float, sample_rate: int, ranges: Mapping[str, Range], bank: Bank
    ) -> dict[str, Any]:
        index, offset = bank.pick(rng, self.name), float(rng.random())
        available = len(bank.get(self.name, index)) / sample_rate
        wants_whole = rng.random() < _WHOLE_SHARE
        most = min(available, duration / 2 - APART_SECONDS)  # As of a passage that is pasted.
        parameters = {"index": index, "offset": offset}
        if wants_whole or duration <= 2 * EDGE_SECONDS or not fits(ranges["length"], most):
            return parameters | {"seconds": min(available, duration)}
        at = float(rng.uniform(EDGE_SECONDS, duration - EDGE_SECONDS))
        seconds = up_to(ranges["length"], most).draw(rng)
        return parameters | {"seconds": seconds, "at": at, "fade": ranges["fade"].draw(rng)}

    def apply(
        self, waveform: np.ndarray, sample_rate: int, bank: Bank = NO_AUDIO, *, index: int, offset: float,
        seconds: float, at: float | None = None, fade: float = 0.0,
    ) -> Edited:  # fmt: skip
        check_number("seconds", seconds, closed=False)
        piece = excerpt(bank.get(self.name, index), round(seconds * sample_rate), offset, sample_rate)
        if at is not None:
            return insert(matched(piece, waveform, sample_rate), waveform, at, fade, sample_rate)
        before, after = len(waveform) / sample_rate, len(piece) / sample_rate
        # All of the clip is gone at one moment, all that is there is new.
        time_map = TimeMap([0, before, before], [0, 0, after])
        return Edited(piece.copy(), time_map, [(0.0, after)])

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
