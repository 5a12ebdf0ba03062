"""Windows of recordings of any length, and the pooling of window and frame outputs into those of the recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve, firwin, kaiserord
from scipy.special import logsumexp

# Band that all windows are limited to. Resamplers differ above it, so that a file would reveal its sample rate.
_PASS_HZ, _STOP_HZ = 6600.0, 7400.0


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


def iter_windows(blocks: Iterable[np.ndarray], window: int, hop: int, rate: int) -> Iterator[Window]:
    """Cut a recording into windows.

    The last window ends at the end of the recording. A recording that is shorter than a window has one padded window.

    Parameters
    ----------
    blocks : iterable of float32 ndarray of shape (n_samples,)
        The recording in blocks of any length, which do not affect the windows.
    window : int
        Number of samples of a window.
    hop : int
        Number of samples between the starts of windows.
    rate : int
        Sample rate in Hz.

    Yields
    ------
    window : Window
        The next window.
    """
    pending, first, start = np.zeros(0, np.float32), 0, 0  # first: position of pending[0]; start: of the next window
    for block in blocks:
        pending = np.concatenate([pending, block])
        while first + len(pending) >= start + window:
            yield _prepared_window(start, pending[start - first : start - first + window], window, rate)
            start += hop
        # A whole window is retained, since the last window may start before the next regular one.
        n_done = max(0, min(start - first, len(pending) - window))
        pending, first = pending[n_done:], first + n_done
    end = first + len(pending)
    if end < window:
        yield _prepared_window(0, pending, window, rate)
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
    centred = samples - samples.mean(dtype=np.float64).astype(np.float32)
    if rate > 2 * _STOP_HZ:
        centred = fftconvolve(centred, _band_limit(rate), mode="same")
    return (np.round(centred * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


@lru_cache(maxsize=4)
def _band_limit(rate: int) -> np.ndarray:
    """Return the taps of the filter that limits the band."""
    n_taps, beta = kaiserord(80, (_STOP_HZ - _PASS_HZ) / (rate / 2))
    return firwin(n_taps | 1, (_PASS_HZ + _STOP_HZ) / 2, window=("kaiser", beta), fs=rate).astype(np.float32)


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
            Averages of the frames that no later window contains.
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
        first, averages = self.first, self._sums[:, :n_frames] / np.maximum(self._counts[:n_frames], 1)
        self._sums, self._counts, self.first = self._sums[:, n_frames:], self._counts[n_frames:], first + n_frames
        return first, averages
