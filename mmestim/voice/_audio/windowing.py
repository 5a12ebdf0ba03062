"""Windows of recordings of any length, and the pooling of window and frame outputs into those of the recording."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from scipy.signal import firwin, kaiserord
from scipy.special import logsumexp

from .._constants import MIN_SECONDS, PAST_END_LOGIT
from .filtering import apply_filter

#: Version of `prepare`. Models work only with the version that they were trained with.
PREPARATION = 2

#: Frequency in Hz that windows end at. Resamplers differ above it, so that a file would reveal its sample rate.
HIGHEST_FREQUENCY = 7400.0
_PASS_HZ = 6600.0
# Seconds beside a gap that are left out, because decoders need a moment after damage.
_GAP_MARGIN = 0.05


class Window(NamedTuple):
    """Window of a recording.

    Attributes
    ----------
    start : int
        Position of its first sample in the recording.
    waveform : float32 ndarray of shape (window,)
        Prepared samples, see `prepare`; zeros past the end of a recording that is shorter than a window.
    length : int
        Number of samples that belong to the recording.
    """

    start: int
    waveform: np.ndarray
    length: int


def iter_windows(
    blocks: Iterable[np.ndarray], window: int, hop: int, rate: int, gaps: Sequence[tuple[float, float]] = ()
) -> Iterator[Window]:
    """Cut a recording into windows.

    The last window ends at the end of the recording. A recording that is shorter than a window has one padded window.
    The parts between gaps are cut like recordings of their own.

    Parameters
    ----------
    blocks : iterable of float32 ndarray of shape (n_samples,)
        The recording, divided anywhere.
    window : int
        Number of samples of a window.
    hop : int
        Number of samples between the starts of windows.
    rate : int
        Sample rate in Hz.
    gaps : sequence of (float, float), default=()
        Starts and ends, in seconds and in order, of parts that no window may contain.

    Yields
    ------
    Window
        The next window.
    """
    for part, pieces in groupby(_split_at_gaps(blocks, gaps, rate), key=itemgetter(0)):
        if part >= 0:
            # Nothing can be said about a short part between gaps.
            shortest = round(MIN_SECONDS * rate) if gaps else 0
            yield from _windows_of_part(pieces, window, hop, rate, shortest)


def _split_at_gaps(
    blocks: Iterable[np.ndarray], gaps: Sequence[tuple[float, float]], rate: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield pieces of blocks: the number of the part between gaps, or -1 in a gap; the first sample; the samples."""
    borders: list[int] = []
    for start, end in gaps:
        first, last = max(0, round((start - _GAP_MARGIN) * rate)), round((end + _GAP_MARGIN) * rate)
        if borders and first <= borders[-1]:
            borders[-1] = last
        else:
            borders += [first, last]
    position = 0
    for block in blocks:
        inner = [border - position for border in borders if position < border < position + len(block)]
        for piece in np.split(block, inner):
            n_before = bisect_right(borders, position)
            yield (-1 if n_before % 2 else n_before // 2), position, piece
            position += len(piece)


def _windows_of_part(
    pieces: Iterable[tuple[int, int, np.ndarray]], window: int, hop: int, rate: int, shortest: int
) -> Iterator[Window]:
    """Yield the windows of a part of a recording, unless it has fewer than `shortest` samples."""
    pending, origin, first, start = np.zeros(0, np.float32), -1, -1, -1
    for _, position, samples in pieces:
        if origin < 0:
            origin = first = start = position
        pending = np.concatenate([pending, samples])
        while first + len(pending) >= start + window:
            yield _prepared_window(start, pending[start - first : start - first + window], window, rate)
            start += hop
        # A whole window is retained, since the last window may start before the next regular one.
        n_done = max(0, min(start - first, len(pending) - window))
        pending, first = pending[n_done:], first + n_done
    end = first + len(pending)
    if end - origin < shortest:
        return
    if end - origin < window:
        yield _prepared_window(origin, pending, window, rate)
    elif end > start - hop + window:
        yield _prepared_window(end - window, pending[len(pending) - window :], window, rate)


def prepare(samples: np.ndarray, rate: int) -> np.ndarray:
    """Prepare the samples of a window for a model, in training and in use.

    Parameters
    ----------
    samples : float32 ndarray of shape (n_samples,)
        The samples.
    rate : int
        Sample rate in Hz.

    Returns
    -------
    float32 ndarray of shape (n_samples,)
        Samples with mean 0, without frequencies above 7.4 kHz, quantised to 16 bits.
    """
    if len(samples) == 0:
        return samples
    # Some recorders add an offset. It would dominate the level and make a step at both ends.
    centred = _centre(samples)
    if rate > 2 * HIGHEST_FREQUENCY:
        taps = _band_limit(rate)
        delay = len(taps) // 2
        # The filter sees nothing beyond the ends, which leaves a small offset.
        centred = _centre(apply_filter(np.pad(centred, (0, delay)), taps)[delay:])
    return (np.round(centred * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


def _centre(samples: np.ndarray) -> np.ndarray:
    return samples - samples.mean(dtype=np.float64).astype(np.float32)


@lru_cache(maxsize=4)
def _band_limit(rate: int) -> np.ndarray:
    """Return the taps of the filter that limits the band."""
    n_taps, beta = kaiserord(80, (HIGHEST_FREQUENCY - _PASS_HZ) / (rate / 2))
    return firwin(n_taps | 1, (_PASS_HZ + HIGHEST_FREQUENCY) / 2, window=("kaiser", beta), fs=rate).astype(np.float32)


def _prepared_window(start: int, samples: np.ndarray, size: int, rate: int) -> Window:
    """Return samples as a prepared window, padded with zeros."""
    return Window(start, np.pad(prepare(samples, rate), (0, size - len(samples))), len(samples))


def pool_window_logits(logits: np.ndarray, is_local: np.ndarray) -> np.ndarray:
    """Pool the log-odds of windows into those of the recording.

    A local label may be present in one window alone, with equal prior probability for each window. Its odds for the
    recording are the mean of the odds of the windows. If the label is absent, the expected mean is that of one window,
    so long recordings do not raise more false alarms. For other labels, the log-odds are averaged.

    Parameters
    ----------
    logits : ndarray of shape (n_windows, n_labels)
        Log-odds of the windows.
    is_local : bool ndarray of shape (n_labels,)
        Whether a label can apply to a part of the recording only.

    Returns
    -------
    ndarray of shape (n_labels,)
        Log-odds of the recording.
    """
    return np.where(is_local, logsumexp(logits, axis=0) - np.log(len(logits)), logits.mean(axis=0))


class OverlapAverager:
    """Averager of the frames of overlapping windows.

    Parameters
    ----------
    n_maps : int
        Number of values of a frame.
    """

    def __init__(self, n_maps: int) -> None:
        self.first = 0  # number of the first frame in the sums
        self._sums, self._counts = np.zeros((n_maps, 0)), np.zeros(0)

    def add(self, start: int, frames: np.ndarray) -> tuple[int, np.ndarray]:
        """Add the frames of the next window.

        Parameters
        ----------
        start : int
            Number of the first frame of the window, not less than that of the previous window.
        frames : ndarray of shape (n_maps, n_frames)
            Values of the frames.

        Returns
        -------
        first : int
            Number of the first complete frame.
        complete : ndarray of shape (n_maps, n_complete)
            Averages of the frames that no later window contains; `PAST_END_LOGIT` for those in no window.
        """
        first, complete = self._pop(start - self.first)
        n_new = start - self.first + frames.shape[1] - len(self._counts)
        if n_new > 0:
            self._sums = np.pad(self._sums, ((0, 0), (0, n_new)))
            self._counts = np.pad(self._counts, (0, n_new))
        part = slice(start - self.first, start - self.first + frames.shape[1])
        self._sums[:, part] += frames
        self._counts[part] += 1
        return first, complete

    def finish(self) -> tuple[int, np.ndarray]:
        """Return the number of the first remaining frame and the remaining frames, in the form of `add`."""
        return self._pop(len(self._counts))

    def _pop(self, n_frames: int) -> tuple[int, np.ndarray]:
        """Remove the first frames and return their number and their averages."""
        first, averages = self.first, self._sums[:, :n_frames] / self._counts[:n_frames]
        n_missing = max(0, n_frames - len(self._counts))
        averages = np.pad(averages, ((0, 0), (0, n_missing)), constant_values=PAST_END_LOGIT)
        self._sums, self._counts, self.first = self._sums[:, n_frames:], self._counts[n_frames:], first + n_frames
        return first, averages
