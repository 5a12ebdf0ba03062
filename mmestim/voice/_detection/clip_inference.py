"""Inference on one recording: scores of its windows, their pooling, and the segments."""

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

_BATCH_SIZE = 16  # windows
# Seconds between the starts of windows, in windows.
_HOP = 0.9


class FittedWindowModel(NamedTuple):
    """Model of one window length, and the fusion of its scores."""

    model: WindowModel
    fusion: ScoreFusion


class ScannedClip(NamedTuple):
    """Scores and segments of one recording."""

    duration: float  # seconds
    logits: np.ndarray  # (n_labels,)
    window_spans: np.ndarray  # (n_windows, 2), start and end of the shortest windows in seconds
    window_logits: np.ndarray  # (n_windows, n_labels), of the shortest windows
    embedding: np.ndarray  # (n_embeddings,)
    segments: list[EditSegment]


def scan_clip(
    blocks: Iterable[np.ndarray],
    models: Mapping[float, FittedWindowModel],
    labels: Sequence[str],
    *,
    hop: float | None,
    rate: int,
    thresholds: np.ndarray | None,
    locate: bool,
    gaps: Sequence[tuple[float, float]] = (),
) -> ScannedClip:
    """Run the models of all window lengths on a recording.

    Parameters
    ----------
    blocks : iterable of float32 ndarray
        The recording, divided anywhere. It is iterated once for each window length.
    models : dict of float to FittedWindowModel
        Models by window length in seconds, the shortest first.
    labels : sequence of str
        Columns of the logits.
    hop : float or None
        Seconds between the starts of windows; None is nine tenths of a window.
    rate : int
        Samples per second.
    thresholds : ndarray of shape (n_labels,) or None
        Probability from which each label is detected; None if the labels are classes.
    locate : bool
        Whether to locate the detected labels.
    gaps : sequence of (float, float), default=()
        Starts and ends in seconds of parts to leave out.

    Returns
    -------
    ScannedClip
        Logits of the recording and of its windows, and the segments.
    """
    passes = [
        run_windows(blocks, fitted, labels, seconds, hop, rate, thresholds, locate, gaps)
        for seconds, fitted in models.items()
    ]
    # Clip-level classes apply to the whole clip, even if they share a name with an edit.
    is_local = np.array(
        [thresholds is not None and label in TAXONOMY and not TAXONOMY[label].always_covers_clip for label in labels]
    )
    logits = np.mean([pool_window_logits(part.logits, is_local) for part in passes], axis=0)
    shortest = passes[0]
    duration = float(shortest.spans[-1, 1])
    segments: list[EditSegment] = []
    # Scores of frames locate best; without them, the shortest windows do.
    locator = next((part.locator for part in passes if part.has_frames), shortest.locator)
    if locate and thresholds is not None and locator is not None:
        proba = expit(logits)
        detected = np.array(labels)[exceeds_threshold(proba, thresholds)].tolist()
        segments = locator.finish(duration, detected, proba)
    embedding = np.concatenate([part.embedding for part in passes])
    return ScannedClip(duration, logits, shortest.spans, shortest.logits, embedding, segments)


def window_step(hop: float | None, seconds: float, rate: int) -> int:
    """Return the samples between the starts of windows of some seconds; `hop` is that of `scan_clip`."""
    # Windows start at multiples of 10 ms, so that the frames of overlapping windows coincide.
    return max(1, round((_HOP * seconds if hop is None else hop) * 100)) * (rate // 100)


class WindowPass(NamedTuple):
    """Scores of one model for all windows of a recording."""

    logits: np.ndarray  # (n_windows, n_labels), calibrated
    spans: np.ndarray  # (n_windows, 2), seconds
    embedding: np.ndarray  # mean over the windows
    locator: SegmentLocator | None
    has_frames: bool


def run_windows(
    blocks: Iterable[np.ndarray],
    fitted: FittedWindowModel,
    labels: Sequence[str],
    seconds: float,
    hop: float | None,
    rate: int,
    thresholds: np.ndarray | None,
    locate: bool,
    gaps: Sequence[tuple[float, float]],
) -> WindowPass:
    """Run the model of one window length on a recording; the parameters are those of `scan_clip`."""
    model, fusion = fitted
    locator = None
    if locate and thresholds is not None:
        locator = SegmentLocator(list(labels), thresholds, model.frame_thresholds, rate)
    batch_logits: list[np.ndarray] = []
    spans: list[tuple[float, float]] = []
    embedding_sum: np.ndarray | float = 0.0
    window_iterator = iter_windows(blocks, round(seconds * rate), window_step(hop, seconds, rate), rate, gaps)
    while windows := list(islice(window_iterator, _BATCH_SIZE)):
        outputs = model.predict(windows)
        fused_logits = fusion.logits(outputs.logits)
        for number, window in enumerate(windows):
            spans.append((window.start / rate, (window.start + window.length) / rate))
            if locator is not None:
                frames = None if outputs.frames is None else outputs.frames[number]
                locator.add(window, fused_logits[number], frames)
        batch_logits.append(fused_logits)
        embedding_sum = embedding_sum + outputs.embeddings.sum(axis=0, dtype=np.float64)
    return WindowPass(
        logits=np.concatenate(batch_logits),
        spans=np.array(spans),
        embedding=np.asarray(embedding_sum / len(spans)),
        locator=locator,
        has_frames=model.frame_thresholds is not None,
    )
