"""Score of a detector of edits: its mean average precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score

from .._audio.corpus import AudioCorpus
from .._constants import RATE
from ..metrics import per_label_scores
from .inputs import label_matrix, resolve_clips, resolve_ground_truth
from .parameters import column_orders, default_simulator

if TYPE_CHECKING:
    from .detector import VoiceEditDetector

_SEED = 0


def mean_average_precision(detector: VoiceEditDetector, X: Any, y: Any) -> float:
    """Return the mean of the average precision over the labels, without 'unaltered'.

    Parameters
    ----------
    detector : VoiceEditDetector
        Fitted detector of edits.
    X : list, array, DataFrame or AudioCorpus
        Clips, as `VoiceEditDetector.fit` accepts them.
    y : sequence or None
        Their ground truth; None simulates edits with a fixed seed.

    Returns
    -------
    float
        Mean over the labels that some clip has.
    """
    labels = detector._model_labels
    if y is None:
        corpus = resolve_clips(detector, X, RATE, detector.sample_rate, reset=False)
        clips, y = default_simulator(detector, random_state=_SEED).simulate(corpus, detector.n_jobs)
        X = AudioCorpus(clips, sample_rate=RATE)
    proba = detector.predict_proba(X)
    indicators = label_matrix(resolve_ground_truth(y, len(proba), [labels, *column_orders(detector)]), labels)
    return float(np.nanmean(per_label_scores(average_precision_score, indicators, proba)[1:]))
