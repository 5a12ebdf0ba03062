"""Labels of windows and of their frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .records import EditRecord
from .taxonomy import SPLICED_LABELS, TAXONOMY

FRAME_SECONDS = 0.01

# Value of a label that is neither 1 (present) nor 0 (absent).
LABEL_UNKNOWN = 255

# A border counts as inside a window if it is at least this far from both ends.
BORDER_MARGIN_SECONDS = 0.05
# The content of an edit counts as present if at least this much of it is inside the window.
_MIN_CONTENT_SECONDS = 0.3


def frames_in(n_samples: int, sample_rate: int) -> int:
    """Return the number of frames of a window; the first frame is at its start."""
    return int(np.ceil(n_samples / sample_rate / FRAME_SECONDS - 1e-9)) + 1


def window_truth(
    record: EditRecord, labels: Sequence[str], start: float, seconds: float, n_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a window of an edited clip, and of the frames of that window.

    Parameters
    ----------
    record : EditRecord
        Record of the clip.
    labels : sequence of str
        Labels to report.
    start, seconds : float
        Start and duration of the window, in seconds.
    n_frames : int
        Number of frames to report.

    Returns
    -------
    targets : uint8 ndarray of shape (n_labels,)
        1 where the window has the label: a splice point at least 50 ms from both ends for labels that only splice
        points reveal, at least 0.3 s of content or a window full of it for the others. 0 where the window has no
        trace of the label, else `LABEL_UNKNOWN`.
    frames : uint8 ndarray of shape (n_spliced_labels + n_labels, n_frames)
        1 at the splice points and the frames beside them, then 1 inside the intervals of each label.
    """
    targets = np.zeros(len(labels), np.uint8)
    frames = np.zeros((len(SPLICED_LABELS) + len(labels), n_frames), np.uint8)
    for column, label in enumerate(labels):
        content_frames = frames[len(SPLICED_LABELS) + column]
        if label in record.inaudible:
            targets[column], content_frames[:] = LABEL_UNKNOWN, LABEL_UNKNOWN
            if label in SPLICED_LABELS:
                frames[SPLICED_LABELS.index(label)] = LABEL_UNKNOWN
            continue
        intervals = [(first - start, last - start) for first, last in record.intervals.get(label, [])]
        points = [point - start for point in record.points.get(label, [])]
        borders = points + [t for interval in intervals for t in interval if 0 < t + start < record.duration]
        clipped = [(max(0.0, first), min(seconds, last)) for first, last in intervals]
        clipped = [(first, last) for first, last in clipped if last > first]
        content_seconds = sum(last - first for first, last in clipped)
        if label in TAXONOMY and TAXONOMY[label].revealed_by == "splice points":
            is_present = any(BORDER_MARGIN_SECONDS <= t <= seconds - BORDER_MARGIN_SECONDS for t in borders)
        else:
            is_present = content_seconds >= min(_MIN_CONTENT_SECONDS, seconds)
        leaves_trace = content_seconds > 0 or any(
            -BORDER_MARGIN_SECONDS <= t <= seconds + BORDER_MARGIN_SECONDS for t in borders
        )
        targets[column] = 1 if is_present else LABEL_UNKNOWN if leaves_trace else 0
        for first, last in clipped:
            content_frames[round(first / FRAME_SECONDS) : round(last / FRAME_SECONDS) + 1] = 1
        if label in SPLICED_LABELS:
            _mark_borders(frames[SPLICED_LABELS.index(label)], borders)
    return targets, frames


def clip_truth(targets: np.ndarray, labels: Sequence[str], n_frames: int) -> np.ndarray:
    """Return the labels of the frames of a clip for which only clip-level labels are known.

    Parameters
    ----------
    targets : uint8 ndarray of shape (n_labels,)
        1 where the clip has the label.
    labels : sequence of str
        Names of the labels. Frames are unknown for names that the taxonomy does not have.
    n_frames : int
        Number of frames to report.

    Returns
    -------
    uint8 ndarray of shape (n_spliced_labels + n_labels, n_frames)
        0 where the clip does not have the label, 1 where the label must be present in every frame, else
        `LABEL_UNKNOWN`.
    """
    is_everywhere = [label in TAXONOMY and TAXONOMY[label].always_covers_clip for label in labels]
    frames = np.zeros((len(SPLICED_LABELS) + len(labels), n_frames), np.uint8)
    frames[len(SPLICED_LABELS) :] = np.where(targets == 0, 0, np.where(is_everywhere, targets, LABEL_UNKNOWN))[:, None]
    for row, label in enumerate(SPLICED_LABELS):
        if label not in labels or targets[list(labels).index(label)] != 0:
            frames[row] = LABEL_UNKNOWN
    return frames


def _mark_borders(frames: np.ndarray, borders: Sequence[float]) -> None:
    """Set the frames at some borders, and those beside them, to 1."""
    for border in borders:
        middle = round(border / FRAME_SECONDS)
        if -1 <= middle <= len(frames):
            frames[max(0, middle - 1) : middle + 2] = 1
