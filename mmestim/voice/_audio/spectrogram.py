"""Spectrograms of recordings of any length, and as PNG images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np

_FRAME = 512  # samples
_N_ROWS = 128
_FRAMES_PER_COLUMN = 4  # at most, of long recordings
_RANGE_DB = 70.0


class Spectrogram:
    """The power of a recording that comes in blocks, in time and frequency.

    Parameters
    ----------
    n_samples : int
        Of the recording.
    max_columns : int, default=1000
        The most columns it may have; of long recordings a column is the mean of some moments.
    """

    def __init__(self, n_samples: int, max_columns: int = 1000) -> None:
        self.n_samples = n_samples
        n_columns = max(1, min(max_columns, n_samples // (_FRAME // 4)))
        per_column = max(1, n_samples // n_columns)
        self._step = max(min(_FRAME // 4, per_column), per_column // _FRAMES_PER_COLUMN)
        self._window = np.hanning(_FRAME).astype(np.float32)
        self._sums, self._counts = np.zeros((n_columns, _N_ROWS)), np.zeros(n_columns)
        # Frames lie about their moments.
        self._held, self._first, self._next = np.zeros(_FRAME // 2, np.float32), 0, 0

    def add(self, block: np.ndarray) -> None:
        """Take the next samples."""
        self._held = np.concatenate([self._held, block])
        end = min(self._first + len(self._held) - _FRAME + 1, self.n_samples)
        starts = np.arange(self._next, end, self._step)
        if len(starts) == 0:
            return
        frames = self._held[(starts - self._first)[:, None] + np.arange(_FRAME)] * self._window
        power = np.square(np.abs(np.fft.rfft(frames)))[:, : 2 * _N_ROWS].reshape(len(starts), _N_ROWS, 2).mean(axis=2)
        columns = starts * len(self._counts) // self.n_samples
        np.add.at(self._sums, columns, power)
        np.add.at(self._counts, columns, 1)
        self._next = int(starts[-1]) + self._step
        spare = min(self._next - self._first, len(self._held))
        self._held, self._first = self._held[spare:], self._first + spare

    def decibels(self) -> np.ndarray:
        """Float array of shape (128, n_columns), the lowest frequencies first: from -70 to 0 dB of the loudest."""
        self.add(np.zeros(_FRAME, np.float32))  # for the last frames
        power = self._sums / np.maximum(self._counts, 1)[:, None]
        with np.errstate(divide="ignore"):
            decibels = 10 * np.log10(power / (power.max() or 1.0))
        return np.maximum(decibels, -_RANGE_DB).T


def spectrogram(blocks: Iterable[np.ndarray], n_samples: int) -> np.ndarray:
    """The same of a recording that is there, as `Spectrogram.decibels` gives it."""
    picture = Spectrogram(n_samples)
    for block in blocks:
        picture.add(block)
    return picture.decibels()


def png(decibels: np.ndarray) -> bytes:
    """An image of a spectrogram, the lowest frequencies below, what is loud dark."""
    # 32 shades look like 256, and make half the file.
    shades = np.round((1 + decibels[::-1] / _RANGE_DB) * 31) / 31
    grey = np.round(255 * (1 - shades)).astype(np.uint8)
    rows = np.pad(grey, ((0, 0), (1, 0)))  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
