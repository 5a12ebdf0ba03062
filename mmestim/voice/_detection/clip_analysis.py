"""Results of a detector for one recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from .._models.calibration import UnalteredCalibrator, exceeds_threshold
from ..localization import EditSegment
from ..taxonomy import LABELS, UNALTERED
from .clip_inference import ScannedClip
from .explanation import explanation


@dataclass(frozen=True, eq=False)
class ClipAnalysis:  # numpydoc ignore=PR02
    """Result of a `VoiceEditDetector` for one recording.

    `VoiceEditDetector.analyze` returns one for each clip. If the detector was fitted as an ordinary classifier of
    clips, `labels`, `segments`, `explanation`, `tested` and `not_tested` are empty.

    Parameters
    ----------
    duration : float
        Length of the recording in seconds.
    probabilities : dict of str to float
        Probability of each label, 'unaltered' first; of an ordinary classifier, of each class.
    labels : tuple of str
        Detected edits, those whose probability reaches the threshold, the most probable first.
    segments : tuple of EditSegment
        Segments of the detected edits, ordered by time; empty with ``locate=False``.
    explanation : str
        Paragraph that describes the result, as returned by `VoiceEditDetector.explain`.
    window_spans : ndarray of shape (n_windows, 2)
        Start and end of each window in seconds; with several window lengths, of the shortest windows.
    window_probabilities : float32 ndarray of shape (n_windows, n_labels)
        Probabilities in these windows, in the order of `probabilities`.
    embedding : float32 ndarray of shape (n_embeddings,)
        Mean of the windows' embeddings, a row of `VoiceEditDetector.transform`.
    logits : ndarray of shape (n_labels,)
        Log-odds of each label, without 'unaltered', or logits of each class.
    tested : tuple of str
        Edits that the detector was trained on and whose recall was measured.
    not_tested : tuple of str
        Other edits of the taxonomy. The result is no evidence for or against them.

    See Also
    --------
    VoiceEditDetector.analyze : Returns the analysis of each clip.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim.voice import VoiceEditDetector
    >>> rng = np.random.default_rng(0)
    >>> clips = [np.convolve(rng.normal(size=20000), np.ones(9) / 20, "same") for _ in range(6)]
    >>> detector = VoiceEditDetector(["low_pass", "echo"], window=1.2, model="features", n_clips=60, random_state=0)
    >>> analysis = detector.fit(clips).analyze(clips[:1])[0]
    >>> analysis.duration, list(analysis.probabilities), analysis.tested
    (1.25, ['unaltered', 'low_pass', 'echo'], ('low_pass', 'echo'))
    """

    duration: float
    probabilities: dict[str, float]
    labels: tuple[str, ...]
    segments: tuple[EditSegment, ...]
    explanation: str
    window_spans: np.ndarray
    window_probabilities: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    tested: tuple[str, ...]
    not_tested: tuple[str, ...]


def predicted_probabilities(logits: np.ndarray, unaltered: UnalteredCalibrator | None) -> np.ndarray:
    """Convert logits to probabilities.

    Parameters
    ----------
    logits : ndarray of shape (n_rows, n_labels)
        Log-odds of the labels without 'unaltered', or logits of classes.
    unaltered : UnalteredCalibrator or None
        Calibrator of 'unaltered'; None for classes.

    Returns
    -------
    float32 ndarray of shape (n_rows, 1 + n_labels) or (n_rows, n_labels)
        Probabilities, 'unaltered' first, or of the classes.
    """
    if unaltered is None:
        return softmax(logits, axis=1).astype(np.float32)
    proba = expit(logits)
    return np.column_stack([unaltered.proba(proba), proba]).astype(np.float32)


def predicted_labels(proba: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return an int64 indicator matrix of the detected labels; 'unaltered', its first column, excludes all others."""
    is_detected = exceeds_threshold(proba, thresholds)
    is_detected[:, 0] = ~is_detected[:, 1:].any(axis=1)
    return is_detected.astype(np.int64)


def build_analysis(
    scan: ScannedClip,
    labels: Sequence[str],
    unaltered: UnalteredCalibrator | None,
    thresholds: np.ndarray | None,
    recalls: np.ndarray | None,
) -> ClipAnalysis:
    """Interpret the scores of one recording.

    Parameters
    ----------
    scan : ScannedClip
        Scores and segments from `scan_clip`.
    labels : sequence of str
        'unaltered' and the labels, or the classes.
    unaltered : UnalteredCalibrator or None
        Calibrator of 'unaltered'; None for classes.
    thresholds, recalls : ndarray of shape (n_labels,) or None
        Probability from which each label is detected, and its recall on held-out windows; None for classes.

    Returns
    -------
    ClipAnalysis
        The scores with their probabilities, decisions and explanation.
    """
    proba = predicted_probabilities(scan.logits[None], unaltered)
    probabilities = dict(zip(labels, proba[0].tolist(), strict=True))
    detected: list[str] = []
    tested: list[str] = []
    not_tested: list[str] = []
    text = ""
    if thresholds is not None and recalls is not None:
        is_detected = predicted_labels(proba, thresholds)[0] == 1
        detected = [label for label, is_set in zip(labels, is_detected, strict=True) if is_set and label != UNALTERED]
        detected.sort(key=lambda label: -probabilities[label])
        label_recalls = dict(zip(labels, recalls.tolist(), strict=True))
        tested = [label for label in labels if label != UNALTERED and not np.isnan(label_recalls[label])]
        not_tested = [label for label in LABELS[1:] if label not in tested]
        text = explanation(scan.duration, probabilities, detected, scan.segments, label_recalls)
    return ClipAnalysis(
        duration=scan.duration,
        probabilities=probabilities,
        labels=tuple(detected),
        segments=tuple(scan.segments),
        explanation=text,
        window_spans=scan.spans,
        window_probabilities=predicted_probabilities(scan.window_logits, unaltered),
        embedding=scan.embedding.astype(np.float32),
        logits=scan.logits,
        tested=tuple(tested),
        not_tested=tuple(not_tested),
    )
