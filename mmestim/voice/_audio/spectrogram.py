"""Spectrograms of recordings of any length, as arrays and as PNG images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np

_FRAME = 512  # samples
_N_ROWS = 128
# Limit for long recordings, whose columns span many frames.
_MAX_FRAMES_PER_COLUMN = 4
_RANGE_DB = 70.0


class Spectrogram:
    """Spectrogram of a recording that comes in blocks.

    Parameters
    ----------
    n_samples : int
        Number of samples of the recording.
    max_columns : int, default=1000
        Largest number of columns. In long recordings, each column is the mean of up to four frames.
    """

    def __init__(self, n_samples: int, max_columns: int = 1000) -> None:
        self.n_samples = n_samples
        n_columns = max(1, min(max_columns, n_samples // (_FRAME // 4)))
        per_column = max(1, n_samples // n_columns)
        self._step = max(min(_FRAME // 4, per_column), per_column // _MAX_FRAMES_PER_COLUMN)
        self._window = np.hanning(_FRAME).astype(np.float32)
        self._sums, self._counts = np.zeros((n_columns, _N_ROWS)), np.zeros(n_columns)
        # Half a frame of zeros, since frames are centred at their positions.
        self._pending, self._first, self._next = np.zeros(_FRAME // 2, np.float32), 0, 0

    def add(self, block: np.ndarray) -> None:
        """Add the next samples, of shape (n_samples,)."""
        self._pending = np.concatenate([self._pending, block])
        end = min(self._first + len(self._pending) - _FRAME + 1, self.n_samples)
        starts = np.arange(self._next, end, self._step)
        if len(starts) == 0:
            return
        frames = self._pending[(starts - self._first)[:, None] + np.arange(_FRAME)] * self._window
        power = np.square(np.abs(np.fft.rfft(frames)))[:, : 2 * _N_ROWS].reshape(len(starts), _N_ROWS, 2).mean(axis=2)
        columns = starts * len(self._counts) // self.n_samples
        np.add.at(self._sums, columns, power)
        np.add.at(self._counts, columns, 1)
        self._next = int(starts[-1]) + self._step
        n_done = min(self._next - self._first, len(self._pending))
        self._pending, self._first = self._pending[n_done:], self._first + n_done

    def decibels(self) -> np.ndarray:
        """Return levels of shape (128, n_columns), the lowest frequencies first, from -70 to 0 dB of the maximum."""
        self.add(np.zeros(_FRAME, np.float32))  # completes the last frames
        power = self._sums / np.maximum(self._counts, 1)[:, None]
        with np.errstate(divide="ignore"):
            decibels = 10 * np.log10(power / (power.max() or 1.0))
        return np.maximum(decibels, -_RANGE_DB).T


def compute_spectrogram(blocks: Iterable[np.ndarray], n_samples: int) -> np.ndarray:
    """Return the spectrogram of a whole recording, in the form of `Spectrogram.decibels`."""
    spectrogram = Spectrogram(n_samples)
    for block in blocks:
        spectrogram.add(block)
    return spectrogram.decibels()


def encode_png(decibels: np.ndarray) -> bytes:
    """Encode a spectrogram as a PNG image, with the lowest frequencies at the bottom and loud parts dark."""
    # 32 shades look the same as 256 and halve the size of the file.
    shades = np.round((1 + decibels[::-1] / _RANGE_DB) * 31) / 31
    grey = np.round(255 * (1 - shades)).astype(np.uint8)
    rows = np.pad(grey, ((0, 0), (1, 0)))  # the first byte of a row is its filter type, 0 for none
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
