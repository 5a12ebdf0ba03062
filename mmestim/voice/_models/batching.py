"""Batches of windows and the loss of their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from .._audio.windowing import Window
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from .losses import ClassLoss, LabelLoss, label_weights

BATCH_SIZE = 64  # windows


def stack_windows(windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
    """Return the waveforms of windows, of shape (n_windows, n_samples), and their numbers of samples."""
    waveforms = np.stack([window.waveform for window in windows])
    return waveforms, np.array([window.length for window in windows], dtype=np.int64)


def build_label_loss(training_set: TrainingSet, rows: np.ndarray) -> LabelLoss | ClassLoss:
    """Return the loss of the labels, weighted by their frequency in the windows that the mask `rows` selects."""
    if training_set.is_exclusive:
        return ClassLoss()
    weights = torch.from_numpy(label_weights(training_set.windows.targets[rows])).to(training_set.options.device)
    return LabelLoss(training_set.labels, weights)


def map_windows(
    windows: WindowSet,
    rows: np.ndarray,
    function: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Apply a function to windows, one batch at a time.

    Parameters
    ----------
    windows : WindowSet
        The windows.
    rows : bool ndarray of shape (n_windows,)
        Windows to use.
    function : callable
        Function of waveforms (n, n_samples), lengths (n,) and row numbers (n,) that returns an array of n rows.

    Returns
    -------
    ndarray
        Concatenated results.
    """
    numbers = np.flatnonzero(rows)
    batches = [numbers[start : start + BATCH_SIZE] for start in range(0, len(numbers), BATCH_SIZE)]
    return np.concatenate([function(windows.floats(batch), windows.lengths[batch], batch) for batch in batches])
