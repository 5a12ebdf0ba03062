"""Boosted trees on clip statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._utils.parallel import run_tasks
from .._audio.windowing import Window
from .._constants import MIN_SECONDS
from .._features.clip_statistics import ClipStatistics
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from .base import BATCH_SIZE, WindowModel, WindowOutputs, stack_windows
from .boosted_trees import BoostedTrees

_TREE_OPTIONS: dict[str, Any] = {"max_leaf_nodes": 15, "max_features": 0.15, "learning_rate": 0.1}


class FeatureModel(WindowModel):
    """Boosted trees on hand-crafted statistics, which also serve as embeddings.

    Parameters
    ----------
    sample_rate : int
        Samples per second.
    """

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        X = compute_features(self.statistics, training_set)
        self.trees = fit_trees(X, training_set)
        return self.trees.decision_function(X[training_set.held_out])[:, None]

    def arrays(self) -> dict[str, np.ndarray]:
        return self.trees.arrays()

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        self.trees = BoostedTrees.from_arrays(arrays, n_labels, self.embedding_dim)

    def predict(self, windows: Sequence[Window]) -> WindowOutputs:
        X = window_statistics(self.statistics, *stack_windows(windows))
        return WindowOutputs(self.trees.decision_function(X)[:, None], X)

    @property
    def embedding_dim(self) -> int:
        return len(self.statistics.get_feature_names_out())


def fit_trees(X: np.ndarray, training_set: TrainingSet) -> BoostedTrees:
    """Fit trees on the features of the windows that are not held out."""
    rows = ~training_set.held_out
    training_set.options.log_stage(f"fitting trees to {X.shape[1]} features of {np.count_nonzero(rows)} windows")
    # On few rows, fewer bins and trees are as accurate and take less time.
    n_rows = rows.sum()
    options = _TREE_OPTIONS | {
        "min_samples_leaf": max(1, min(20, n_rows // 20)),
        "max_bins": max(16, min(63, n_rows // 4)),
        "max_iter": max(20, min(120, n_rows // 5)),
    }
    return BoostedTrees.fit(
        X[rows],
        training_set.is_positive[rows],
        training_set.is_labelled[rows],
        training_set.seed_for("trees"),
        training_set.n_jobs,
        **options,
    )


def compute_features(statistics: ClipStatistics, training_set: TrainingSet) -> np.ndarray:
    """Return the statistics of all windows, float32 of shape (n_windows, n_features)."""
    windows = training_set.windows
    training_set.options.log_stage(f"computing the statistics of {len(windows)} windows")
    tasks = ((slice(start, start + BATCH_SIZE),) for start in range(0, len(windows), BATCH_SIZE))
    return np.concatenate(list(run_tasks(_compute_batch, tasks, training_set.n_jobs, shared=(statistics, windows))))


def window_statistics(statistics: ClipStatistics, waveforms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the statistics of padded windows.

    Parameters
    ----------
    statistics : ClipStatistics
        Transformer of waveforms.
    waveforms : float32 ndarray of shape (n_windows, n_samples)
        Waveforms, padded with zeros.
    lengths : int64 ndarray of shape (n_windows,)
        Number of samples of each window without the padding. Padding is removed, except where a window would be
        too short for the statistics.

    Returns
    -------
    float32 ndarray of shape (n_windows, n_features)
        The statistics.
    """
    shortest = min(waveforms.shape[1], round(MIN_SECONDS * statistics.sample_rate))
    return statistics.transform(
        [waveform[: max(length, shortest)] for waveform, length in zip(waveforms, lengths, strict=True)]
    )


def _compute_batch(statistics: ClipStatistics, windows: WindowSet, rows: slice) -> np.ndarray:
    return window_statistics(statistics, windows.floats(rows), windows.lengths[rows])
