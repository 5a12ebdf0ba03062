"""Results of a detector for one recording."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.utils import gen_even_slices

from ..._utils.parallel import run_tasks
from .._audio.corpus import AudioCorpus
from .._audio.reading import MissingFileError, seen_from_here
from .._constants import MIN_SECONDS, RATE
from .._models.calibration import UnalteredCalibrator, exceeds_threshold, reweigh
from .._recordings.content import describe_too_short
from ..localization import EditSegment
from ..taxonomy import CATEGORIES, CHANGED_CONTENT, EDIT_LABELS, KINDS, PROCESSING, TAXONOMY, UNALTERED
from .clip_inference import ScannedClip, scan_clip
from .explanation import describe_finding, describe_limits
from .parameters import check_hop

if TYPE_CHECKING:
    from .detector import VoiceEditDetector

#: Verdicts on a recording, those that need attention first.
VERDICTS = (CHANGED_CONTENT, f"{PROCESSING} only", "cannot tell", "no edit found")


@dataclass(frozen=True, eq=False)
class ClipAnalysis:  # numpydoc ignore=PR02
    """Result of a `VoiceEditDetector` for one recording.

    >>> import numpy as np
    >>> from mmestim.voice import VoiceEditDetector
    >>> rng = np.random.default_rng(0)
    >>> clips = [np.convolve(rng.normal(size=20000), np.ones(9) / 20, "same") for _ in range(6)]
    >>> detector = VoiceEditDetector(["low_pass", "echo"], window=1.2, model="features", n_clips=60, random_state=0)
    >>> analysis = detector.fit(clips).analyze(clips[:1])[0]
    >>> analysis.duration, list(analysis.probabilities), analysis.tested
    (1.25, ['unaltered', 'low_pass', 'echo'], ('low_pass', 'echo'))

    `VoiceEditDetector.analyze` returns one for each clip, and all other methods of the detector, `scan_files` and
    `write_report` return or describe parts of it. If the detector was fitted as an ordinary classifier of clips,
    `thresholds`, `recalls`, `labels`, `segments`, `verdict`, `explanation`, `tested` and `not_tested` are empty.

    Parameters
    ----------
    duration : float
        Length of the recording in seconds.
    probabilities : dict of str to float
        Probability of each label, 'unaltered' first; for an ordinary classifier, of each class.
    thresholds : dict of str to float
        Probability from which each edit is detected.
    recalls : dict of str to float
        Fraction of the clips with each edit in which it was detected in tests; NaN if no clip had it.
    labels : tuple of str
        Detected edits, those whose probability reaches the threshold: changed content first, then the most probable.
    segments : tuple of EditSegment
        Segments of the detected edits, ordered by time; empty with ``locate=False``.
    window_spans : ndarray of shape (n_windows, 2)
        Start and end of each window in seconds; with several window lengths, of the shortest windows.
    window_probabilities : float32 ndarray of shape (n_windows, n_labels)
        Probabilities in these windows, in the order of `probabilities`.
    embedding : float32 ndarray of shape (n_embeddings,)
        Mean of the windows' embeddings, a row of `VoiceEditDetector.transform`.
    logits : ndarray of shape (n_labels,)
        Log-odds of each label, without 'unaltered', or logits of each class.
    prior : float or None, default=None
        Probability of a recording to be unedited before it is analyzed, which the probability of 'unaltered' assumes;
        `None` if it is unknown.
    cannot_tell : str, default=''
        Reason why the recording allows no verdict, such as that it is too short; empty if there is a verdict.

    See Also
    --------
    VoiceEditDetector.analyze : Returns the analysis of each clip.
    """

    duration: float
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    recalls: dict[str, float]
    labels: tuple[str, ...]
    segments: tuple[EditSegment, ...]
    window_spans: NDArray[np.float64]
    window_probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    logits: NDArray[np.floating]
    prior: float | None = None
    cannot_tell: str = ""

    @property
    def verdict(self) -> str:
        """One of ``changed content``, ``processing only``, ``no edit found`` and ``cannot tell``."""
        changed, processed, undecided, unedited = VERDICTS
        if self.cannot_tell:
            return undecided
        if not self.thresholds:
            return ""
        return changed if self.labels_of_kind(CHANGED_CONTENT) else processed if self.labels else unedited

    @property
    def explanation(self) -> str:
        """Paragraph that describes the result, as returned by `VoiceEditDetector.explain`."""
        if self.cannot_tell:
            return describe_finding(self)
        return f"{describe_finding(self)} {describe_limits(self)}" if self.thresholds else ""

    @property
    def tested(self) -> tuple[str, ...]:
        """Edits that the detector was trained on and whose recall was measured."""
        return tuple(label for label, recall in self.recalls.items() if not math.isnan(recall))

    @property
    def not_tested(self) -> tuple[str, ...]:
        """Other edits of the taxonomy. The result is no evidence for or against them."""
        return tuple(label for label in EDIT_LABELS if label not in self.tested) if self.thresholds else ()

    def labels_of_kind(self, kind: str) -> tuple[str, ...]:
        """Return the detected edits of a kind, ``'changed content'`` or ``'processing'``."""
        return tuple(label for label in self.labels if TAXONOMY[label].kind == kind)

    def with_prior(self, prior: float) -> ClipAnalysis:
        """Return the analysis with another prior, which changes the probability of 'unaltered' by Bayes' rule.

        The probabilities of the edits and the verdict do not change.

        Parameters
        ----------
        prior : float
            Probability that such a recording is unedited before it is analyzed, above 0 and below 1.

        Returns
        -------
        ClipAnalysis
            A new analysis.

        Raises
        ------
        ValueError
            If `prior` is out of bounds, or `self.prior` is unknown.
        """
        window_probabilities = self.window_probabilities.copy()
        window_probabilities[:, 0] = reweigh(window_probabilities[:, 0], self.prior, prior)
        unaltered = float(reweigh(self.probabilities[UNALTERED], self.prior, prior))
        return replace(
            self,
            probabilities={**self.probabilities, UNALTERED: unaltered},
            window_probabilities=window_probabilities,
            prior=prior,
        )

    def without_verdict(self, reason: str) -> ClipAnalysis:
        """Return the analysis of a recording that allows no verdict; `reason` is a sentence about the recording."""
        return replace(self, labels=(), segments=(), cannot_tell=reason)


def undecided_analysis(duration: float, reason: str) -> ClipAnalysis:
    """Return the analysis of a recording that was not analyzed; `reason` is a sentence about the recording."""
    nothing = np.zeros(0, np.float32)
    return ClipAnalysis(
        duration, {}, {}, {}, (), (), np.zeros((0, 2)), nothing.reshape(0, 0), nothing, nothing, cannot_tell=reason
    )


def analyze_corpus(detector: VoiceEditDetector, corpus: AudioCorpus, locate: bool) -> list[ClipAnalysis]:
    """Analyze all clips of a corpus at the rate of the models, on the CPU in parallel."""
    # One clip needs no other process.
    n_jobs = min(effective_n_jobs(detector.n_jobs) if detector.device_ == "cpu" else 1, len(corpus))
    corpus = corpus.for_workers()
    tasks = ((corpus[part], locate) for part in gen_even_slices(len(corpus), n_jobs))
    try:
        return [analysis for part in run_tasks(_analyze_part, tasks, n_jobs, shared=(detector,)) for analysis in part]
    except MissingFileError as error:
        raise seen_from_here(error) from None


def _analyze_part(detector: VoiceEditDetector, corpus: AudioCorpus, locate: bool) -> list[ClipAnalysis]:
    return [analyze_recording(detector, corpus.blocks(number), locate) for number in range(len(corpus))]


def analyze_recording(
    detector: VoiceEditDetector,
    blocks: Iterable[np.ndarray],
    locate: bool,
    gaps: Sequence[tuple[float, float]] = (),
) -> ClipAnalysis:
    """Analyze one recording at the rate of the models, except gaps; `blocks` is iterated for each window length."""
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
        gaps=gaps,
    )
    analysis = build_analysis(scan, detector.labels_.tolist(), detector._unaltered_calibrator, thresholds, recalls)
    is_too_short = scan.duration < MIN_SECONDS and thresholds is not None
    return analysis.without_verdict(describe_too_short(scan.duration)) if is_too_short else analysis


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
        The scores with their probabilities and decisions.
    """
    proba = predicted_probabilities(scan.logits[None], unaltered)
    probabilities = dict(zip(labels, proba[0].tolist(), strict=True))
    detected: list[str] = []
    if thresholds is not None:
        is_detected = predicted_labels(proba, thresholds)[0] == 1
        detected = [label for label, is_set in zip(labels, is_detected, strict=True) if is_set and label != UNALTERED]
        detected.sort(key=lambda label: (KINDS.index(TAXONOMY[label].kind), -probabilities[label]))
    return ClipAnalysis(
        duration=scan.duration,
        probabilities=probabilities,
        thresholds=_by_edit(labels, thresholds),
        recalls=_by_edit(labels, recalls),
        labels=tuple(detected),
        segments=tuple(scan.segments),
        window_spans=scan.window_spans,
        window_probabilities=predicted_probabilities(scan.window_logits, unaltered),
        embedding=scan.embedding.astype(np.float32),
        logits=scan.logits,
        prior=None if unaltered is None else unaltered.base_rate,
    )


def _by_edit(labels: Sequence[str], values: np.ndarray | None) -> dict[str, float]:
    """Return the values of the labels by name, without 'unaltered'; an empty dict for no values."""
    return {} if values is None else dict(zip(labels[1:], values[1:].tolist(), strict=True))


def detected_categories(indicators: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Return an int64 indicator matrix of `CATEGORIES` from one of the labels, without 'unaltered'."""
    is_member = np.array([[TAXONOMY[label].category == category for category in CATEGORIES] for label in labels])
    return (indicators @ is_member > 0).astype(np.int64)
