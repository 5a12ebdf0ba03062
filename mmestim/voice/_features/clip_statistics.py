"""Transformer that computes hand-crafted statistics of clips, from which edits can be detected."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from ..._utils.validation import check_number
from .._audio.corpus import AudioCorpus
from .._constants import MIN_SECONDS
from .clip_spectra import ClipSpectra
from .phase import phase_statistics
from .pitch import pitch_statistics
from .repetition import cepstrum_statistics, repeat_statistics
from .spectral import (
    edge_statistics,
    frame_statistics,
    hole_statistics,
    level_statistics,
    modulation_statistics,
    slope_statistics,
    tone_statistics,
)
from .waveform import amplitude_statistics, click_statistics, crest_statistics, residual_statistics

# In the order of the columns.
_GROUPS = (
    level_statistics,
    tone_statistics,
    hole_statistics,
    frame_statistics,
    modulation_statistics,
    slope_statistics,
    edge_statistics,
    phase_statistics,
    pitch_statistics,
    amplitude_statistics,
    crest_statistics,
    click_statistics,
    residual_statistics,
    cepstrum_statistics,
    repeat_statistics,
)


class ClipStatistics(TransformerMixin, BaseEstimator):
    """Transformer that computes hand-crafted statistics of clips, each sensitive to some voice edit.

    The number of statistics does not depend on the length of the clip. Each clip is transformed by itself; nothing is
    fitted.

    Parameters
    ----------
    sample_rate : int, default=16000
        Sample rate of the clips in Hz, from 8000 to 48000. Statistics at different rates are not comparable.

    See Also
    --------
    EditSimulator : Simulates edited clips to train on.

    Notes
    -----
    Each clip is normalised to mean 0 and RMS 1, so level and offset have no effect. Only clipping and rounding are
    measured on the original samples. These statistics differ between 16-bit and resampled audio, so round the clips to
    train on and the clips to predict in the same way. The names of the statistics begin with:

    - ``level``, ``change``: levels of 64 bands up to half the sample rate in dB, and their changes;
    - ``tone``: levels of 24 bands of equal musical width, for tone controls and filters;
    - ``roughness``, ``below``, ``empty``: spectral holes left by codecs, in 32 bands;
    - ``energy``, ``flatness``, ``pause``: frames of 32 ms, and the quietest of them, which reveal noise;
    - ``modulation``, ``slope``: speed of level changes, for reverberation, codecs and changes of speed;
    - ``mean``, ``top``: edges of the spectrum and their steepness;
    - ``phase``: second differences of the phase in 32 bands, for time stretching and pitch shifting;
    - ``pitch``, ``periodicity``, ``voiced``, ``notes``, ``other``: pitch of the voice, its distance from the notes of a
      keyboard, and signs of a second voice;
    - ``share``, ``amplitude``, ``flat``, ``values``, ``crest``, ``tails``: overdriving, clipping and rounding;
    - ``click``, ``residual``: outliers of a short-time spectrum and of a linear predictor;
    - ``cepstrum``: cepstrum of the whole clip, where an echo is a peak at its delay [1]_;
    - ``repeat``: repeated segments, by correlation;
    - ``stretch``: largest deviation of half a second from the whole clip, for edits of a part.

    A clip of 4 s takes 15 to 25 ms on one core. Memory is proportional to the length of the clip. In a clip of minutes,
    the statistics average short edits away: pass windows of it instead.

    References
    ----------
    .. [1] B. P. Bogert, M. J. R. Healy and J. W. Tukey, "The quefrency alanysis of time series for echoes:
       cepstrum, pseudo-autocovariance, cross-cepstrum and saphe cracking", 1963.

    Examples
    --------
    An echo with a delay of 120 ms is a peak of the cepstrum between 104 and 170 ms:

    >>> import numpy as np
    >>> from mmestim.voice._features.clip_statistics import ClipStatistics
    >>> clip = np.random.default_rng(0).normal(size=64000)
    >>> echo = clip.copy()
    >>> echo[1920:] += 0.5 * clip[:-1920]
    >>> statistics = ClipStatistics().set_output(transform="pandas").transform([clip, echo])
    >>> statistics.filter(regex="cepstrum_peak_(63|104)").round(1)
        cepstrum_peak_63_104ms  cepstrum_peak_104_170ms
    0                     0.4                      0.4
    1                     0.4                      1.9
    """

    def __init__(self, sample_rate: int = 16000) -> None:
        self.sample_rate = sample_rate

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check `sample_rate`; nothing is fitted.

        Parameters
        ----------
        X : object, default=None
            Ignored; present for the API of scikit-learn.
        y : object, default=None
            Ignored; present for the API of scikit-learn.

        Returns
        -------
        self : object
            The transformer.
        """
        check_number("sample_rate", self.sample_rate, low=8000, high=48000, integer=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Compute the statistics of clips.

        Parameters
        ----------
        X : array of shape (n_clips, n_samples), sequence of arrays of shape (n_samples,), or AudioCorpus
            Mono waveforms at `sample_rate`, each 0.35 s or longer. The arrays of a sequence may differ in length.

        Returns
        -------
        ndarray of shape (n_clips, n_statistics)
            Finite float32 values. `get_feature_names_out` returns the names of the columns.

        Raises
        ------
        ValueError
            If a clip is too short, has several channels or contains samples that are not finite.
        """
        self.fit()
        if isinstance(X, str | os.PathLike):
            raise TypeError(f"X={X!r} is a path. Read it with AudioCorpus.")
        if isinstance(X, AudioCorpus) and X.sample_rate != self.sample_rate:
            raise ValueError(
                f"X has clips at {X.sample_rate} Hz, but sample_rate={self.sample_rate}. Use the same rate for both."
            )
        if len(X) == 0:
            raise ValueError("X contains no clip. Pass one or more.")
        return np.stack([self._transform_clip(number, waveform) for number, waveform in enumerate(X)])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the statistics.

        Parameters
        ----------
        input_features : object, default=None
            Ignored; present for the API of scikit-learn.

        Returns
        -------
        ndarray of shape (n_statistics,)
            Unique names. Bands are numbered from the lowest.
        """
        self.fit()
        return np.array(_statistic_names(int(self.sample_rate)), dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def _transform_clip(self, number: int, waveform: Any) -> np.ndarray:
        """Return the statistics of one clip, of shape (n_statistics,)."""
        waveform, min_samples = np.asarray(waveform), round(MIN_SECONDS * self.sample_rate)
        if waveform.ndim == 0:
            raise ValueError("X is one waveform. Wrap it in a list: [X].")
        if waveform.ndim != 1 or waveform.dtype.kind not in "fiu":
            raise ValueError(
                f"clip {number} has shape {waveform.shape} and dtype {waveform.dtype}, but must be a 1-D array of "
                "real numbers. AudioCorpus converts other formats."
            )
        if len(waveform) < min_samples:
            raise ValueError(
                f"clip {number} has {len(waveform)} samples, but {min_samples} or more are needed at "
                f"{self.sample_rate} Hz ({MIN_SECONDS} s). Leave it out."
            )
        if not np.isfinite(waveform).all():
            raise ValueError(f"clip {number} contains NaN or infinite samples. Leave it out, or replace them.")
        return np.concatenate([values for _, _, values in _statistics(waveform, self.sample_rate)], dtype=np.float32)


def _statistics(waveform: np.ndarray, sample_rate: int) -> Iterator[tuple[str, Sequence[str], np.ndarray]]:
    """Yield the statistics of all groups, in the order of the columns."""
    clip = ClipSpectra(waveform, sample_rate)
    for group in _GROUPS:
        yield from group(clip)


@lru_cache
def _statistic_names(sample_rate: int) -> tuple[str, ...]:
    """Return the names of the columns, which are the same for every clip, from a silent clip."""
    silence = np.zeros(round(MIN_SECONDS * sample_rate))
    rows = _statistics(silence, sample_rate)
    return tuple(f"{name}_{suffix}" for name, suffixes, _ in rows for suffix in suffixes)
