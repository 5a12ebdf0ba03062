"""One recording through the models: its windows, what they say together, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from .._audio.windowing import iter_windows, pool_window_logits
from .._models.base import WindowModel
from .._models.calibration import ScoreFusion, exceeds_threshold
from ..localization import EditSegment
from ..localization.locator import SegmentLocator
from ..taxonomy import TAXONOMY

_AT_ONCE = 16  # windows


class FittedWindowModel(NamedTuple):
    """What is learnt for one length of windows."""

    model: WindowModel
    fusion: ScoreFusion


class ScannedClip(NamedTuple):
    """What was found in one recording."""

    duration: float  # seconds
    logits: np.ndarray  # (n_labels,)
    spans: np.ndarray  # (n_windows, 2): start and end of the shortest windows, in seconds
    window_logits: np.ndarray  # (n_windows, n_labels) of these
    embedding: np.ndarray
    segments: list[EditSegment]


def scan_clip(
    blocks: Iterable[np.ndarray],
    models: Mapping[float, FittedWindowModel],
    labels: Sequence[str],
    *,
    hop: float | None,
    rate: int,
    thresholds: np.ndarray | None,
    locates: bool,
) -> ScannedClip:
    """Look at a recording through windows of every length.

    Parameters
    ----------
    blocks : iterable of float32 ndarray
        The recording in pieces, of which nothing depends on the lengths; it is iterated for every length of windows.
    models : dict of float to Fitted
        Of each length of windows in seconds, the shortest first.
    labels : sequence of str
        Columns of the log-odds.
    hop : float or None
        Seconds between the starts of windows; None is half a window.
    rate : int
        Samples per second.
    thresholds : ndarray of shape (n_labels,) or None
        Probabilities from which a label is found; None for classes of clips.
    locates : bool
        Whether to say where labels are.
    """
    parts = [
        run_windows(
            blocks, fitted, list(labels), seconds, seconds / 2 if hop is None else hop, rate, thresholds, locates
        )
        for seconds, fitted in models.items()
    ]
    # Classes of clips are of all of a clip, whatever their names.
    is_local = np.array(
        [thresholds is not None and label in TAXONOMY and not TAXONOMY[label].always_covers_clip for label in labels]
    )
    logits = np.mean([pool_window_logits(part.logits, is_local) for part in parts], axis=0)
    duration = float(parts[0].spans[-1, 1])
    segments: list[EditSegment] = []
    # Where frames answer they know best; otherwise the shortest windows do.
    locator = next((part.locator for part in parts if part.has_frames), parts[0].locator)
    if locates and thresholds is not None and locator is not None:
        proba = expit(logits)
        found = np.array(labels)[exceeds_threshold(proba, thresholds)].tolist()
        segments = locator.finish(duration, found, proba)
    embedding = np.concatenate([part.embedding for part in parts])
    return ScannedClip(duration, logits, parts[0].spans, parts[0].logits, embedding, segments)


class WindowPass(NamedTuple):
    logits: np.ndarray
    spans: np.ndarray
    embedding: np.ndarray
    locator: SegmentLocator | None
    has_frames: bool


def run_windows(blocks, fitted, labels, seconds, hop, rate, thresholds, locates):
    """What one model says of all windows of its length."""
    model, fusion = fitted
    # Frames of overlapping windows meet where both start at one.
    step = max(1, round(hop * 100)) * (rate // 100)
    locator = None
    if locates and thresholds is not None:
        locator = SegmentLocator(labels, thresholds, model.frame_thresholds, rate)
    logits, spans, total, n = [], [], 0.0, 0
    rest = iter_windows(blocks, round(seconds * rate), step)
    while windows := list(islice(rest, _AT_ONCE)):
        # In steps of 16 bits, as those that the models were trained on.
        waveforms = np.round(np.stack([window.waveform for window in windows]) * 32768) / np.float32(32768)
        lengths = np.array([window.length for window in windows], dtype=np.int64)
        outputs = model.predict(waveforms, lengths)
        own = fusion.logits(outputs.logits)
        for number, window in enumerate(windows):
            spans.append((window.start / rate, (window.start + window.length) / rate))
            if locator is not None:
                locator.add(window, own[number], None if outputs.frames is None else outputs.frames[number])
        logits.append(own)
        total, n = total + outputs.embeddings.sum(axis=0, dtype=np.float64), n + len(windows)
    return WindowPass(np.concatenate(logits), np.array(spans), total / n, locator, model.frame_thresholds is not None)
