"""What the models of one window length are trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._training.devices import seed_for
from ..._training.options import TrainingOptions
from .._window_labels import LABEL_UNKNOWN
from .window_set import WindowSet


@dataclass(frozen=True)
class TrainingSet:
    """What a model is trained on, and how.

    Parameters
    ----------
    windows : Windows
        Simulated or given clips.
    dense : Windows or None
        Others with several seams each.
    held_out, dense_held_out : bool ndarray of shape (n_windows,)
        Windows, of some speakers, that are not to be trained on.
    labels : list of str
        Columns of the targets.
    is_exclusive : bool
        Whether a window has exactly one of them.
    options : TrainingOptions
        For networks.
    lr : float or None
        Highest learning rate of these, in place of their own.
    budget : float
        Times the usual number of windows that networks see.
    seed : int
        Of all that is drawn.
    n_jobs : int or None
        Processes.
    """

    windows: WindowSet
    spliced_windows: WindowSet | None
    held_out: np.ndarray
    spliced_held_out: np.ndarray | None
    labels: list[str]
    is_exclusive: bool
    options: TrainingOptions
    lr: float | None
    budget: float
    seed: int
    n_jobs: int | None
    history: list[dict[str, Any]] = field(default_factory=list)

    def seed_for(self, *purpose: str) -> int:
        """The seed of one part."""
        return seed_for(self.seed, *purpose)

    def no_logits(self, n_models: int) -> np.ndarray:
        """What a model says of held-out windows where there are none."""
        return np.zeros((0, n_models, len(self.labels)), np.float32)

    @property
    def is_labelled(self) -> np.ndarray:
        """Where the targets say something."""
        return self.windows.targets != LABEL_UNKNOWN

    @property
    def is_positive(self) -> np.ndarray:
        """Where a label is there."""
        return self.windows.targets == 1
