"""A clip as a row of numbers: what hand-made statistics say of the edits that it went through."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from .._validation import check_number
from ._clip import Clip
from ._phase_statistics import phases
from ._pitch_statistics import pitch
from ._repetition_statistics import cepstrum, copies, repeats
from ._spectral_statistics import edges, frames, holes, levels, modulation, slopes, tone
from ._waveform_statistics import amplitudes, crests, clicks, residual
from .corpus import AudioCorpus

_GROUPS = (
    levels, tone, holes, frames, modulation, slopes, edges, phases, pitch, amplitudes, crests, clicks, residual, cepstrum,
    repeats, copies,
)  # fmt: skip
_SHORTEST = 0.35  # seconds


class ClipStatistics(TransformerMixin, BaseEstimator):
    """TODO."""

    def __init__(self, sample_rate: int = 16000) -> None:
        self.sample_rate = sample_rate

    def fit(self, X: Any = None, y: Any = None) -> Self:
        check_number("sample_rate", self.sample_rate, low=8000, high=48000, integer=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        self.fit()
        return np.stack([self._row(number, waveform) for number, waveform in enumerate(X)])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        return np.array(_names(self.sample_rate), dtype=object)

    def _row(self, number, waveform):
        return np.concatenate([values for _, _, values in _rows(waveform, self.sample_rate)], dtype=np.float32)


def _rows(waveform, sample_rate):
    clip = Clip(waveform, sample_rate)
    for group in _GROUPS:
        yield from group(clip)


@lru_cache
def _names(sample_rate):
    silence = np.zeros(round(_SHORTEST * sample_rate))
    return tuple(f"{name}_{suffix}" for name, suffixes, _ in _rows(silence, sample_rate) for suffix in suffixes)
