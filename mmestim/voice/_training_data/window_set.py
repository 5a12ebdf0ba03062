"""Windows of edited clips and what is in each: the material that detectors are trained on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import fftconvolve, firwin

from .._window_labels import BORDER_MARGIN_SECONDS, LABEL_UNKNOWN, frames_in, window_truth
from ..records import EditRecord
from ..taxonomy import SPLICED_LABELS, TAXONOMY

# Half of the windows are placed so that some border of an interval or some point is inside.
_EVENT_SHARE = 0.5
# Frequencies of copies with nothing above them: else what is there would tell codecs from other edits.
_BRICK_WALL_HZ, _N_TAPS = (3300.0, 7600.0), 511


@dataclass(frozen=True)
class WindowSet:
    """Windows of one length in 16 bits, and what is in them.

    Parameters
    ----------
    waveforms : int16 ndarray of shape (n_windows, n_samples)
        Those of shorter clips end in zeros.
    lengths : int64 ndarray of shape (n_windows,)
        Samples of the clip in each.
    targets : uint8 ndarray of shape (n_windows, n_labels)
        1 where the window has the label, 0 where not, or `LABEL_UNKNOWN`.
    frames : uint8 ndarray of shape (n_windows, n_maps, n_frames)
        The same of every 10 ms: of the borders of each of `SPLICED_LABELS`, then of each label.
    clips : int64 ndarray of shape (n_windows,)
        Number of the clip that each is of.
    """

    waveforms: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    frames: np.ndarray
    clips: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def floats(self, rows: Any) -> np.ndarray:
        """Some of the waveforms as float32, full scale 1."""
        return self.waveforms[rows].astype(np.float32) / np.float32(32768)


def build_window_set(
    parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, int]],
    most: int,
    n_labels: int,
    n_samples: int,
    sample_rate: int,
    folder: Path,
) -> WindowSet:
    """Windows in files that are mapped into memory.

    Parameters
    ----------
    parts : iterable of (waveform, targets, frames, clip)
        What is in each; waveforms may be shorter.
    most : int
        Of them, so many are taken.
    n_labels, n_samples, sample_rate : int
        Columns of the targets, and length and rate of the windows.
    folder : Path
        Where the files are put.
    """
    folder.mkdir(exist_ok=True)
    n_maps, n_frames = len(SPLICED_LABELS) + n_labels, frames_in(n_samples, sample_rate)
    waveforms = _on_disk(folder / "waveforms.npy", np.int16, (most, n_samples))
    frames = _on_disk(folder / "frames.npy", np.uint8, (most, n_maps, n_frames))
    lengths, clips, n = np.zeros(most, np.int64), np.zeros(most, np.int64), 0
    targets = np.zeros((most, n_labels), np.uint8)
    for waveform, target, frame, clip in itertools.islice(parts, most):
        waveforms[n, : len(waveform)] = np.round(waveform * 32768).clip(-32768, 32767)
        lengths[n], targets[n], frames[n], clips[n] = len(waveform), target, frame, clip
        n += 1
    return WindowSet(waveforms[:n], lengths[:n], targets[:n], frames[:n], clips[:n])


def _on_disk(path, dtype, shape):
    """An array in a file, of which all is taken now: a disk that is full later would end the process."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        size = path.stat().st_size
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{size / 1e6:.0f} MB for windows to learn from cannot be had: {error.strerror}. Set "
                    "TMPDIR to a folder with more room, or lower n_clips",
                    str(path.parent),
                ) from error
    return array


def edited_windows(
    pairs: Iterable[tuple[np.ndarray, EditRecord]],
    labels: Sequence[str],
    n_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
    brick_wall_share: float,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """One window of each edited clip, and of a share of them a copy without what is above some frequency."""
    n_frames = frames_in(n_samples, sample_rate)
    for waveform, record in pairs:
        start = window_start(rng, record, n_samples, sample_rate)
        part = waveform[start : start + n_samples]
        targets, frames = window_truth(record, labels, start / sample_rate, len(part) / sample_rate, n_frames)
        yield part, targets, frames, record.clip or 0
        if rng.random() < brick_wall_share:
            targets, frames = _with_unknown_low_pass(targets, frames, labels)
            yield _brick_wall(part, rng, sample_rate), targets, frames, record.clip or 0


def window_start(rng: np.random.Generator, record: EditRecord, n_samples: int, sample_rate: int) -> int:
    """First sample of a window of a clip, in half of the cases of one that has an event of the clip inside."""
    room = round(record.duration * sample_rate) - n_samples
    if room <= 0:
        return 0
    moments = [moment for moments in record.points.values() for moment in moments]
    for spans in record.intervals.values():
        moments += [t for span in spans for t in span if 0 < t < record.duration]
    if not moments or rng.random() > _EVENT_SHARE:
        return int(rng.integers(room, endpoint=True))
    moment = round(moments[rng.integers(len(moments))] * sample_rate)
    edge = round(2 * BORDER_MARGIN_SECONDS * sample_rate)
    low, high = max(0, moment - n_samples + edge), min(room, moment - edge)
    if low > high:
        return int(np.clip(moment - n_samples // 2, 0, room))
    return int(rng.integers(low, high, endpoint=True))


def _brick_wall(part, rng, sample_rate):
    """A waveform without what is above some frequency."""
    low, high = (min(f, 0.475 * sample_rate) for f in _BRICK_WALL_HZ)
    taps = firwin(_N_TAPS, rng.uniform(low, high), fs=sample_rate)
    return fftconvolve(part, taps, mode="same").astype(np.float32)


def _with_unknown_low_pass(targets, frames, labels):
    """Mark low-pass labels of a filtered copy as unknown: the filter may sound like that edit."""
    targets, frames = targets.copy(), frames.copy()
    for column, label in enumerate(labels):
        if label not in TAXONOMY or not TAXONOMY[label].removes_high_frequencies:
            continue
        if targets[column] != 1:
            targets[column] = LABEL_UNKNOWN
        inside = frames[len(SPLICED_LABELS) + column]
        inside[inside == 0] = LABEL_UNKNOWN
    return targets, frames
