"""Labels of windows and of their frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .records import EditRecord
from .taxonomy import TAXONOMY

FRAME_SECONDS = 0.01


# Of these the borders can be heard; each has a map of frames of its own, before those of what goes on inside.
SPLICED_LABELS = ("cut", "paste", "mix")


# Neither 1 nor 0: it cannot be said.
LABEL_UNKNOWN = 255


# A border is in a window if so far from its ends, and what goes on is if it does for so long.
_EDGE_SECONDS, _LEAST_SECONDS = 0.05, 0.3


def frames_in(n_samples: int, sample_rate: int) -> int:
    """Frames of a window, the first at its start."""
    return int(np.ceil(n_samples / sample_rate / FRAME_SECONDS - 1e-9)) + 1


def window_truth(
    record: EditRecord, labels: Sequence[str], start: float, seconds: float, n_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a window of an edited clip has.

    Parameters
    ----------
    record : EditRecord
        Of the clip.
    labels : sequence of str
        Labels to tell of.
    start, seconds : float
        Of the window.
    n_frames : int
        Frames to tell of.

    Returns
    -------
    targets : uint8 ndarray of shape (n_labels,)
        1 where a point of the label, or for 'paste' a border, is 50 ms from the ends or farther, or its spans last
        for 0.3 s of the window or all of it; 0 where nothing of it is there, else `LABEL_UNKNOWN`.
    frames : uint8 ndarray of shape (n_seams + n_labels, n_frames)
        1 at the borders and the frames beside them, and inside spans.
    """
    targets = np.zeros(len(labels), np.uint8)
    frames = np.zeros((len(SPLICED_LABELS) + len(labels), n_frames), np.uint8)
    for column, label in enumerate(labels):
        inside = frames[len(SPLICED_LABELS) + column]
        if label in record.inaudible:
            targets[column], inside[:] = LABEL_UNKNOWN, LABEL_UNKNOWN
            if label in SPLICED_LABELS:
                frames[SPLICED_LABELS.index(label)] = LABEL_UNKNOWN
            continue
        spans = [(first - start, last - start) for first, last in record.intervals.get(label, [])]
        moments = [moment - start for moment in record.points.get(label, [])]
        borders = moments + [t for span in spans for t in span if 0 < t + start < record.duration]
        there = [t for t in borders if _EDGE_SECONDS <= t <= seconds - _EDGE_SECONDS]
        inner = [(max(0.0, first), min(seconds, last)) for first, last in spans]
        inner = [(first, last) for first, last in inner if last > first]
        lasting = sum(last - first for first, last in inner)
        if label in ("cut", "paste"):
            is_there = bool(there)
        else:
            is_there = lasting >= min(_LEAST_SECONDS, seconds)
        near = lasting > 0 or any(-_EDGE_SECONDS <= t <= seconds + _EDGE_SECONDS for t in borders)
        targets[column] = 1 if is_there else LABEL_UNKNOWN if near else 0
        for first, last in inner:
            inside[round(first / FRAME_SECONDS) : round(last / FRAME_SECONDS) + 1] = 1
        if label in SPLICED_LABELS:
            for t in borders:
                middle = round(t / FRAME_SECONDS)
                if -1 <= middle <= n_frames:
                    frames[SPLICED_LABELS.index(label), max(0, middle - 1) : middle + 2] = 1
    return targets, frames


def clip_truth(targets: np.ndarray, labels: Sequence[str], n_frames: int) -> np.ndarray:
    """What is known of the frames of a clip of which only the labels are.

    Parameters
    ----------
    targets : uint8 ndarray of shape (n_labels,)
        1 where the clip has the label.
    labels : sequence of str
        Their names; of those that the taxonomy does not have nothing is known.
    n_frames : int
        Frames to tell of.

    Returns
    -------
    uint8 ndarray of shape (n_seams + n_labels, n_frames)
        0 where there is none of a label, 1 where it must be everywhere, else `LABEL_UNKNOWN`.
    """
    everywhere = [label in TAXONOMY and TAXONOMY[label].scopes == ("clip",) for label in labels]
    frames = np.zeros((len(SPLICED_LABELS) + len(labels), n_frames), np.uint8)
    frames[len(SPLICED_LABELS) :] = np.where(targets == 0, 0, np.where(everywhere, targets, LABEL_UNKNOWN))[:, None]
    for number, seam in enumerate(SPLICED_LABELS):
        if seam not in labels or targets[list(labels).index(seam)] != 0:
            frames[number] = LABEL_UNKNOWN
    return frames
