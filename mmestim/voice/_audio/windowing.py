"""Recordings of any length as windows of one, and what windows and their frames say of recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp


class Window(NamedTuple):
    """A part of a recording."""

    start: int  # its first sample
    waveform: np.ndarray  # float32 of shape (window,), of mean 0; zeros behind the end of a short recording
    length: int  # samples that are the recording's


def iter_windows(blocks: Iterable[np.ndarray], window: int, hop: int) -> Iterator[Window]:
    """Windows of a recording; the last ends with it, and a short recording has one that it does not fill.

    Parameters
    ----------
    blocks : iterable of float32 ndarray of shape (n_samples,)
        The recording, in pieces of any length: the windows do not depend on them.
    window, hop : int
        Samples of a window and between the starts of two.
    """
    held, first, start = np.zeros(0, np.float32), 0, 0  # what was read last, where it begins, the next window
    for block in blocks:
        held = np.concatenate([held, block])
        while first + len(held) >= start + window:
            yield _window(start, held[start - first : start - first + window], window)
            start += hop
        # The last window may begin before the next.
        spare = max(0, min(start - first, len(held) - window))
        held, first = held[spare:], first + spare
    end = first + len(held)
    if end < window:
        yield _window(0, held, window)
    elif end > start - hop + window:
        yield _window(end - window, held[len(held) - window :], window)


def _window(start, part, size):
    # Recorders add a constant, which would be the loudest of all, and a step at both ends. Edited clips have none.
    centred = part - part.mean(dtype=np.float64).astype(np.float32) if len(part) else part
    return Window(start, np.pad(centred, (0, size - len(part))), len(part))


def pool_window_logits(logits: np.ndarray, is_local: np.ndarray) -> np.ndarray:
    """Log-odds of a recording from those of its windows.

    Of a label that may be in one window, each as likely, the odds are the mean of theirs. Where it is nowhere, that
    mean is expected to be what it is of one window, so a long recording does not raise more false alarms.

    Parameters
    ----------
    logits : ndarray of shape (n_windows, n_labels)
        Of the windows.
    is_local : bool ndarray of shape (n_labels,)
        Labels that can be in one part alone; of others all windows tell the same, and their mean log-odds count.

    Returns
    -------
    ndarray of shape (n_labels,)
        Log-odds.
    """
    return np.where(is_local, logsumexp(logits, axis=0) - np.log(len(logits)), logits.mean(axis=0))


class OverlapAverager:
    """The frames of a recording from those of its windows, where they overlap their mean.

    Parameters
    ----------
    n_maps : int
        Values of a frame.
    """

    def __init__(self, n_maps: int) -> None:
        self.first = 0  # frame that the sums begin with
        self._sums, self._counts = np.zeros((n_maps, 0)), np.zeros(0)

    def add(self, start: int, frames: np.ndarray) -> tuple[int, np.ndarray]:
        """Take the frames of the next window.

        Parameters
        ----------
        start : int
            Number of its first frame, never before that of the window before.
        frames : ndarray of shape (n_maps, n_frames)
            Its values.

        Returns
        -------
        first : int
            Number of the first frame that is done.
        done : ndarray of shape (n_maps, n_done)
            Frames that no later window has.
        """
        first, done = self._emit(start - self.first)
        missing = start - self.first + frames.shape[1] - len(self._counts)
        if missing > 0:
            self._sums = np.pad(self._sums, ((0, 0), (0, missing)))
            self._counts = np.pad(self._counts, (0, missing))
        part = slice(start - self.first, start - self.first + frames.shape[1])
        self._sums[:, part] += frames
        self._counts[part] += 1
        return first, done

    def finish(self) -> tuple[int, np.ndarray]:
        """The frames that are left."""
        return self._emit(len(self._counts))

    def _emit(self, n):
        first, done = self.first, self._sums[:, :n] / np.maximum(self._counts[:n], 1)
        self._sums, self._counts, self.first = self._sums[:, n:], self._counts[n:], first + n
        return first, done
