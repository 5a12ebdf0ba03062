"""Windows served to networks in batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from .losses import ClassLoss, LabelLoss, label_weights

_AT_ONCE = 64


def label_loss(training_set: TrainingSet, rows: np.ndarray) -> LabelLoss | ClassLoss:
    """The loss of the labels, with weights by the windows that are trained on."""
    if training_set.is_exclusive:
        return ClassLoss()
    weights = torch.from_numpy(label_weights(training_set.windows.targets[rows])).to(training_set.options.device)
    return LabelLoss(training_set.labels, weights)


def in_parts(
    windows: WindowSet, rows: np.ndarray, read: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """What `read` makes of the waveforms, lengths and numbers of some windows, a part of them at a time."""
    numbers = np.flatnonzero(rows)
    parts = [numbers[start : start + _AT_ONCE] for start in range(0, len(numbers), _AT_ONCE)]
    return np.concatenate([read(windows.floats(part), windows.lengths[part], part) for part in parts])
