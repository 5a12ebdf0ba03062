"""Windows of edited clips with their labels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import fftconvolve, firwin

from ..._utils.sizes import nbytes_of
from .._audio.windowing import prepare
from .._constants import MIN_SECONDS
from .._window_labels import BORDER_MARGIN_SECONDS, LABEL_UNKNOWN, frames_in, window_truth
from ..records import EditRecord
from ..taxonomy import SPLICED_LABELS, TAXONOMY

# Probability that a window is placed so that a point or the border of an interval is inside.
_EVENT_FRACTION = 0.5
# Fraction of the windows that are full, among clips that are long enough after any edit,
_FULL_FRACTION = 0.75
# and the length that is left after most edits, as a fraction of the source.
_SHORTEST_FRACTION = 0.75
# Cut-off frequencies of the filtered copies, which keep models from recognising codecs by their cut-off alone.
_BRICK_WALL_HZ, _N_TAPS = (3300.0, 7600.0), 511
_WAVEFORMS, _FRAMES = "waveforms.npy", "frames.npy"


class LabelledWindow(NamedTuple):
    """Window of a clip with its labels."""

    waveform: np.ndarray  # prepared, float32 of shape (n_samples,) or shorter
    targets: np.ndarray  # uint8 of shape (n_labels,)
    frames: np.ndarray  # uint8 of shape (n_maps, n_frames)
    clip: int  # number of the clip


@dataclass(frozen=True)
class WindowSet:  # numpydoc ignore=PR02
    """Windows of one length in 16 bits, with their labels.

    Parameters
    ----------
    waveforms : int16 ndarray of shape (n_windows, n_samples)
        Waveforms; those of shorter clips are padded with zeros.
    lengths : int64 ndarray of shape (n_windows,)
        Number of samples of each window without the padding.
    targets : uint8 ndarray of shape (n_windows, n_labels)
        1 where the window has the label, 0 where it does not, or `LABEL_UNKNOWN`.
    frames : uint8 ndarray of shape (n_windows, n_maps, n_frames)
        These values for every 10 ms: first a map of the splice points of each of `SPLICED_LABELS`, then a map of
        the content of each label.
    clips : int64 ndarray of shape (n_windows,)
        Clip number of each window.
    folder : Path or None, default=None
        Folder of the files of `waveforms` and `frames`. Other processes open them there, so that they are never sent.
    """

    waveforms: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    frames: np.ndarray
    clips: np.ndarray
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def flush(self) -> None:
        """Write the files to disk, so that other machines can read them."""
        for array in (self.waveforms, self.frames):
            if isinstance(array, np.memmap):
                array.flush()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is None:
            return WindowSet, (self.waveforms, self.lengths, self.targets, self.frames, self.clips)
        return _open_window_set, (self.folder, self.lengths, self.targets, self.clips)

    def __sizeof__(self) -> int:
        mapped = [] if self.folder else [self.waveforms, self.frames]
        return object.__sizeof__(self) + nbytes_of([self.lengths, self.targets, self.clips, *mapped])

    def floats(self, rows: Any) -> np.ndarray:
        """Return the waveforms of some windows as float32, at full scale 1."""
        waveforms = self.waveforms
        if self.folder is not None and not isinstance(rows, int | np.integer):
            # In a map of its own, because pages of a lasting one count as a leak of memory in workers of joblib. Single
            # rows, of which training reads many, are read from the lasting one.
            waveforms = np.load(self.folder / _WAVEFORMS, mmap_mode="r")[: len(self)]
        return waveforms[rows].astype(np.float32) / np.float32(32768)


def build_window_set(
    labelled_windows: Iterable[LabelledWindow],
    max_windows: int,
    n_labels: int,
    n_samples: int,
    sample_rate: int,
    folder: Path,
) -> WindowSet:
    """Write windows to files, and return them mapped into memory.

    Parameters
    ----------
    labelled_windows : iterable of LabelledWindow
        The windows.
    max_windows : int
        Number of windows that the files have room for; further ones are ignored.
    n_labels, n_samples, sample_rate : int
        Number of labels, and length and rate of the windows.
    folder : Path
        Folder of the files, which is created.

    Returns
    -------
    WindowSet
        The windows.

    Raises
    ------
    OSError
        If the disk has no room for the files.
    """
    folder.mkdir(exist_ok=True)
    n_maps, n_frames = len(SPLICED_LABELS) + n_labels, frames_in(n_samples, sample_rate)
    waveforms = _allocate_file(folder / _WAVEFORMS, np.int16, (max_windows, n_samples))
    frames = _allocate_file(folder / _FRAMES, np.uint8, (max_windows, n_maps, n_frames))
    lengths, clips = np.zeros(max_windows, np.int64), np.zeros(max_windows, np.int64)
    targets = np.zeros((max_windows, n_labels), np.uint8)
    n = 0
    for window in itertools.islice(labelled_windows, max_windows):
        waveforms[n, : len(window.waveform)] = window.waveform * 32768
        lengths[n], targets[n], frames[n], clips[n] = len(window.waveform), window.targets, window.frames, window.clip
        n += 1
    return WindowSet(waveforms[:n], lengths[:n], targets[:n], frames[:n], clips[:n], folder)


def _open_window_set(folder: Path, lengths: np.ndarray, targets: np.ndarray, clips: np.ndarray) -> WindowSet:
    """Return windows in another process than the one that wrote them."""
    try:
        waveforms, frames = (np.load(folder / name, mmap_mode="r") for name in (_WAVEFORMS, _FRAMES))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            error.errno,
            "the training windows are not visible to this worker. temp_folder must be a folder that all workers share, "
            "or None to train on one machine",
            str(folder),
        ) from None
    n = len(lengths)
    return WindowSet(waveforms[:n], lengths, targets, frames[:n], clips, folder)


def _allocate_file(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Create an array in a file, and reserve its disk space: a disk that fills up later would kill the process."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        size = path.stat().st_size
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{size / 1e6:.0f} MB for training windows cannot be allocated: {error.strerror}. Set "
                    "temp_folder to a folder with more room, or lower n_clips",
                    str(path.parent),
                ) from error
    return array


def edited_windows(
    edited_clips: Iterable[tuple[np.ndarray, EditRecord]],
    labels: Sequence[str],
    n_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
    brick_wall_fraction: float,
) -> Iterator[LabelledWindow]:
    """Yield a window of each edited clip, and low-pass filtered copies of a random fraction of the windows."""
    n_frames = frames_in(n_samples, sample_rate)
    for waveform, record in edited_clips:
        size = window_size(rng, record, n_samples, sample_rate)
        start = window_start(rng, record, size, sample_rate)
        samples = waveform[start : start + size]
        targets, frames = window_truth(record, labels, start / sample_rate, len(samples) / sample_rate, n_frames)
        clip = record.clip or 0
        yield LabelledWindow(prepare(samples, sample_rate), targets, frames, clip)
        if rng.random() < brick_wall_fraction:
            targets, frames = _with_unknown_low_pass(targets, frames, labels)
            filtered = _brick_wall(samples, rng, sample_rate)
            yield LabelledWindow(prepare(filtered, sample_rate), targets, frames, clip)


def window_size(rng: np.random.Generator, record: EditRecord, n_samples: int, sample_rate: int) -> int:
    """Choose the number of samples of a window, at most `n_samples`, whatever the edits of the clip."""
    source_seconds = record.plan.duration - sum(record.plan.trim)
    # Edits make clips shorter or longer. A window that any edit leaves room for does not reveal them by its length.
    n_safe = round(_SHORTEST_FRACTION * source_seconds * sample_rate)
    if n_safe >= n_samples and rng.random() < _FULL_FRACTION:
        return n_samples
    shortest = min(round(MIN_SECONDS * sample_rate), n_samples)
    return int(rng.integers(shortest, max(shortest, min(n_safe, n_samples)), endpoint=True))


def window_start(rng: np.random.Generator, record: EditRecord, n_samples: int, sample_rate: int) -> int:
    """Choose the first sample of a window; half of the windows contain a point or border, if the clip has any."""
    last_start = round(record.duration * sample_rate) - n_samples
    if last_start <= 0:
        return 0
    events = [point for points in record.points.values() for point in points]
    for intervals in record.intervals.values():
        events += [border for interval in intervals for border in interval if 0 < border < record.duration]
    if not events or rng.random() > _EVENT_FRACTION:
        return int(rng.integers(last_start, endpoint=True))
    event = round(events[rng.integers(len(events))] * sample_rate)
    margin = round(2 * BORDER_MARGIN_SECONDS * sample_rate)
    low, high = max(0, event - n_samples + margin), min(last_start, event - margin)
    if low > high:
        return int(np.clip(event - n_samples // 2, 0, last_start))
    return int(rng.integers(low, high, endpoint=True))


def _brick_wall(waveform: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Remove all frequencies above a random cut-off."""
    low, high = (min(frequency, 0.475 * sample_rate) for frequency in _BRICK_WALL_HZ)
    taps = firwin(_N_TAPS, rng.uniform(low, high), fs=sample_rate)
    return fftconvolve(waveform, taps, mode="same").astype(np.float32)


def _with_unknown_low_pass(
    targets: np.ndarray, frames: np.ndarray, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Mark labels that remove high frequencies as unknown in a filtered copy, which may sound like such an edit."""
    targets, frames = targets.copy(), frames.copy()
    for column, label in enumerate(labels):
        if label not in TAXONOMY or not TAXONOMY[label].removes_high_frequencies:
            continue
        if targets[column] != 1:
            targets[column] = LABEL_UNKNOWN
        content = frames[len(SPLICED_LABELS) + column]
        content[content == 0] = LABEL_UNKNOWN
    return targets, frames
