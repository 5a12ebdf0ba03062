"""A clip as a row of numbers: what hand-made statistics tell of the edits that it went through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from ..._utils.validation import check_number
from .._audio.corpus import AudioCorpus
from .clip_spectra import Clip
from .phase import phases
from .pitch import pitch
from .repetition import cepstrum, copies, repeats
from .spectral import edges, frames, holes, levels, modulation, slopes, tone
from .waveform import amplitudes, clicks, crests, residual

_GROUPS = (
    levels,
    tone,
    holes,
    frames,
    modulation,
    slopes,
    edges,
    phases,
    pitch,
    amplitudes,
    crests,
    clicks,
    residual,
    cepstrum,
    repeats,
    copies,
)
_SHORTEST = 0.35  # seconds


class ClipStatistics(TransformerMixin, BaseEstimator):
    """Hand-made statistics of clips, each of which some voice edit changes.

    They are as many for a clip of any length, and each clip's are its own: nothing is fitted.

    Parameters
    ----------
    sample_rate : int, default=16000
        Of the clips, in Hz, from 8000 to 48000. Statistics of one rate say nothing of clips at another.

    See Also
    --------
    EditSimulator : Makes clips to learn from.

    Notes
    -----
    Clips are taken at an RMS of 1 about their mean, so that neither level nor offset counts; only clipping,
    rounding and exact copies are looked for in the samples as they are: these differ between files of 16 bits and
    resampled ones, so let clips to learn from and clips to judge be rounded alike. By the beginnings of names:

    - ``level``, ``change``: 64 bands up to half the sample rate, in dB, and how they change;
    - ``tone``: 24 bands of equal musical width, for tone controls and filters;
    - ``roughness``, ``below``, ``empty``: what codecs leave out of each of 32 bands;
    - ``energy``, ``flatness``, ``pause``: frames of 32 ms, and the quietest of them, which tell of noise;
    - ``modulation``, ``slope``: how fast levels move, for rooms, codecs and other speeds;
    - ``mean``, ``top``: where the spectrum ends, and how steeply;
    - ``phase``: second differences of phase in 32 bands, for stretching and shifted pitch;
    - ``pitch``, ``periodicity``, ``voiced``, ``notes``, ``other``: the voice's pitch, whether it keeps to the notes of
      a keyboard, and whether there is another voice;
    - ``share``, ``amplitude``, ``flat``, ``values``, ``crest``, ``tails``: overdriving, clipping and rounding;
    - ``click``, ``residual``: what a short window, and a linear predictor, find out of place;
    - ``cepstrum``: that of all of the clip, where an echo is a peak at its delay [1]_;
    - ``repeat``, ``copied``: passages that come twice, by their waveform or sample by sample;
    - ``stretch``: of some of these how far half a second is from all of the clip at most, for edits of a part.

    A clip of 4 s takes 15 to 25 ms on one core. Memory is proportional to its length, and a clip of minutes has
    its edits averaged away: give windows of it.

    References
    ----------
    .. [1] B. P. Bogert, M. J. R. Healy and J. W. Tukey, "The quefrency alanysis of time series for echoes:
       cepstrum, pseudo-autocovariance, cross-cepstrum and saphe cracking", 1963.

    Examples
    --------
    An echo after 120 ms is a peak in the cepstrum there:

    >>> import numpy as np
    >>> from mmestim.voice.statistics import ClipStatistics
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
        """Check the parameter; there is nothing to fit.

        Parameters
        ----------
        X : object, default=None
            Not used; here for scikit-learn.
        y : object, default=None
            Not used; here for scikit-learn.

        Returns
        -------
        self : object
            The transformer.
        """
        check_number("sample_rate", self.sample_rate, low=8000, high=48000, integer=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Statistics of clips.

        Parameters
        ----------
        X : array of shape (n_clips, n_samples), sequence of arrays of shape (n_samples,), or AudioCorpus
            Mono waveforms at `sample_rate`, of 0.35 s or longer, and in a sequence of any lengths.

        Returns
        -------
        ndarray of shape (n_clips, n_statistics)
            Finite, float32; `get_feature_names_out` names the columns.

        Raises
        ------
        ValueError
            If a clip is too short, has several channels or has samples that are not finite.
        """
        self.fit()
        if isinstance(X, str | os.PathLike):
            raise TypeError(f"X={X!r} is a path. AudioCorpus reads it.")
        if isinstance(X, AudioCorpus) and X.sample_rate != self.sample_rate:
            raise ValueError(
                f"X has clips at {X.sample_rate} Hz and sample_rate={self.sample_rate}: use the same for both."
            )
        if len(X) == 0:
            raise ValueError("X holds no clip. Give one or more.")
        rows = [self._row(number, waveform) for number, waveform in enumerate(X)]
        return np.stack(rows)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the statistics.

        Parameters
        ----------
        input_features : object, default=None
            Not used; here for scikit-learn.

        Returns
        -------
        ndarray of shape (n_statistics,)
            Names, all different; bands are numbered from the lowest.
        """
        self.fit()
        return np.array(_names(int(self.sample_rate)), dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def _row(self, number, waveform):
        waveform, shortest = np.asarray(waveform), round(_SHORTEST * self.sample_rate)
        if waveform.ndim == 0:
            raise ValueError("X is one waveform. Wrap it in a list: [X].")
        if waveform.ndim != 1 or waveform.dtype.kind not in "fiu":
            raise ValueError(
                f"clip {number} has shape {waveform.shape} and dtype {waveform.dtype}: it must be a 1-D array of "
                "numbers. AudioCorpus makes them of anything."
            )
        if len(waveform) < shortest:
            raise ValueError(
                f"clip {number} has {len(waveform)} samples, and at {self.sample_rate} Hz at least {shortest} are "
                f"needed, {_SHORTEST} s. Leave it out."
            )
        if not np.isfinite(waveform).all():
            raise ValueError(f"clip {number} has NaN or infinite samples. Leave it out, or replace them.")
        return np.concatenate([values for _, _, values in _rows(waveform, self.sample_rate)], dtype=np.float32)


def _rows(waveform: np.ndarray, sample_rate: int) -> Iterator[Any]:
    clip = Clip(waveform, sample_rate)
    for group in _GROUPS:
        yield from group(clip)


@lru_cache
def _names(sample_rate):
    """They come with the numbers, so any clip will do."""
    silence = np.zeros(round(_SHORTEST * sample_rate))
    return tuple(f"{name}_{suffix}" for name, suffixes, _ in _rows(silence, sample_rate) for suffix in suffixes)
