"""Results of a detector for one recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.special import expit, softmax
from sklearn.utils import gen_even_slices

from .._audio.corpus import AudioCorpus
from .._constants import RATE
from .._models.calibration import UnalteredCalibrator, exceeds_threshold
from ..localization import EditSegment
from ..taxonomy import CATEGORIES, LABELS, TAXONOMY, UNALTERED
from .clip_inference import ScannedClip, scan_clip
from .explanation import explanation
from .parameters import check_hop

if TYPE_CHECKING:
    from .detector import VoiceEditDetector


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
        Probability of each label, 'unaltered' first; for an ordinary classifier, of each class.
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


def analyze_corpus(detector: VoiceEditDetector, corpus: AudioCorpus, locate: bool) -> list[ClipAnalysis]:
    """Analyze all clips of a corpus at the rate of the models, on the CPU in parallel."""
    corpus.on_error = "raise"  # Every clip needs a result.
    n_jobs = effective_n_jobs(detector.n_jobs) if detector.device_ == "cpu" else 1
    parts = [corpus[part] for part in gen_even_slices(len(corpus), min(n_jobs, len(corpus)))]
    results = Parallel(n_jobs)(delayed(_analyze_part)(detector, part, locate) for part in parts)
    return [analysis for part in results for analysis in part]


def _analyze_part(detector: VoiceEditDetector, corpus: AudioCorpus, locate: bool) -> list[ClipAnalysis]:
    return [analyze_recording(detector, [waveform], locate) for _, waveform in corpus.read()]


def analyze_recording(detector: VoiceEditDetector, blocks: Iterable[np.ndarray], locate: bool) -> ClipAnalysis:
    """Analyze one recording at the rate of the models; `blocks` is iterated once for each window length."""
    if iter(blocks) is blocks:
        raise TypeError(
            f"blocks is an iterator of type {type(blocks).__name__}, which can be read only once. Pass a list, or an "
            "object whose __iter__ starts again."
        )
    check_hop(detector.hop, min(detector.models_))  # It may have been set after `fit`.
    is_exclusive = detector._unaltered_calibrator is None
    thresholds, recalls = (None, None) if is_exclusive else (detector.thresholds_, detector.recalls_)
    scan = scan_clip(
        blocks,
        detector.models_,
        detector._model_labels,
        hop=detector.hop,
        rate=RATE,
        thresholds=None if thresholds is None else thresholds[1:],
        locate=locate,
    )
    return build_analysis(scan, detector.labels_.tolist(), detector._unaltered_calibrator, thresholds, recalls)


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
        window_spans=scan.window_spans,
        window_probabilities=predicted_probabilities(scan.window_logits, unaltered),
        embedding=scan.embedding.astype(np.float32),
        logits=scan.logits,
        tested=tuple(tested),
        not_tested=tuple(not_tested),
    )


def detected_categories(indicators: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Return an int64 indicator matrix of `CATEGORIES` from one of the labels, without 'unaltered'."""
    is_member = np.array([[TAXONOMY[label].category == category for category in CATEGORIES] for label in labels])
    return (indicators @ is_member > 0).astype(np.int64)
