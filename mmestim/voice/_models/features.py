"""Boosted trees on clip statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from .._features.clip_statistics import ClipStatistics
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from .base import MIN_SECONDS, WindowModel, WindowOutputs
from .batching import _AT_ONCE
from .boosted_trees import BoostedTrees

_TREES: dict[str, Any] = {"max_leaf_nodes": 15, "max_features": 0.15, "learning_rate": 0.1}


class FeatureModel(WindowModel):
    """Trees on statistics made by hand."""

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        X = compute_features(self.statistics, training_set.windows, training_set.n_jobs)
        self.trees = fit_trees(X, training_set)
        return self.trees.decision_function(X[training_set.held_out])[:, None]

    def arrays(self) -> dict[str, np.ndarray]:
        return self.trees.arrays()

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        self.trees = BoostedTrees.from_arrays(arrays, n_labels, self.embedding_dim)

    def predict(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        X = statistics_of(self.statistics, waveforms, lengths)
        return WindowOutputs(self.trees.decision_function(X)[:, None], X)

    @property
    def embedding_dim(self) -> int:
        return len(self.statistics.get_feature_names_out())


def fit_trees(X: np.ndarray, training_set: TrainingSet) -> BoostedTrees:
    """Trees on the rows of the windows that are to be trained on."""
    rows = ~training_set.held_out
    # Of few rows fewer bins and trees tell as much, in less time.
    few = rows.sum()
    options = _TREES | {
        "min_samples_leaf": max(1, min(20, few // 20)),
        "max_bins": max(16, min(63, few // 4)),
        "max_iter": max(20, min(120, few // 5)),
    }
    return BoostedTrees.fit(
        X[rows],
        training_set.is_positive[rows],
        training_set.is_labelled[rows],
        training_set.seed_for("trees"),
        training_set.n_jobs,
        **options,
    )


def compute_features(statistics: ClipStatistics, windows: WindowSet, n_jobs: int | None) -> np.ndarray:
    """Statistics of all windows."""
    starts = range(0, len(windows), _AT_ONCE)
    parts = Parallel(n_jobs)(
        delayed(_measure_some)(statistics, windows, slice(start, start + _AT_ONCE)) for start in starts
    )
    return np.concatenate(parts)


def _measure_some(statistics, windows, rows):
    return statistics_of(statistics, windows.floats(rows), windows.lengths[rows])


def statistics_of(statistics: ClipStatistics, waveforms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Statistics of windows, each as long as its clip; of very short ones with the zeros behind them."""
    shortest = min(waveforms.shape[1], round(MIN_SECONDS * statistics.sample_rate))
    return statistics.transform([w[: max(n, shortest)] for w, n in zip(waveforms, lengths, strict=True)])
