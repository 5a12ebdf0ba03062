"""Scores of a detector: of each clip, as log-odds, and of the whole detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score

from .._audio.corpus import AudioCorpus
from .._constants import RATE
from ..metrics import per_label_scores
from .inputs import label_matrix, resolve_clips, resolve_ground_truth
from .parameters import column_orders, default_simulator

if TYPE_CHECKING:
    from .detector import VoiceEditDetector

_SEED = 0


def log_odds(detector: VoiceEditDetector, X: Any) -> np.ndarray:
    """Return the log-odds of each label, or class, in each clip; one column for two classes."""
    if detector.finds_edits_:
        proba = detector.predict_proba(X).astype(np.float64).clip(1e-7, 1 - 1e-7)
        return np.log(proba / (1 - proba)).astype(np.float32)
    logits = np.stack([analysis.logits for analysis in detector.analyze(X, locate=False)]).astype(np.float32)
    return logits[:, 1] - logits[:, 0] if len(detector.classes_) == 2 else logits


def score_clips(detector: VoiceEditDetector, X: Any, y: Any) -> float:
    """Return the score of a detector, as `VoiceEditDetector.score` describes it.

    Parameters
    ----------
    detector : VoiceEditDetector
        Fitted detector.
    X : list, array, DataFrame or AudioCorpus
        Clips, as `VoiceEditDetector.fit` accepts them.
    y : sequence or None
        Their ground truth; None simulates edits with a fixed seed.

    Returns
    -------
    float
        Mean of the average precision over the labels that some clip has, without 'unaltered'; the accuracy, if fitted
        as an ordinary classifier.
    """
    if not detector.finds_edits_:
        return float(accuracy_score(y, detector.predict(X)))
    labels = detector._model_labels
    if y is None:
        corpus = resolve_clips(detector, X, reset=False)
        clips, y = default_simulator(detector, random_state=_SEED).simulate(corpus, detector.n_jobs)
        X = AudioCorpus(clips, sample_rate=RATE)
    proba = detector.predict_proba(X)
    indicators = label_matrix(resolve_ground_truth(y, len(proba), [labels, *column_orders(detector)]), labels)
    return float(np.nanmean(per_label_scores(average_precision_score, indicators, proba)[1:]))
