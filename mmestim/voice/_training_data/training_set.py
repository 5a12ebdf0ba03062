"""Training set of the models of one window length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._training.devices import seed_for
from ..._training.options import TrainingOptions
from .._window_labels import LABEL_UNKNOWN
from .window_set import WindowSet


@dataclass(frozen=True)
class TrainingSet:  # numpydoc ignore=PR02
    """Windows, labels and options that a model is trained with.

    Parameters
    ----------
    windows : WindowSet
        Windows of simulated or given clips.
    spliced_windows : WindowSet or None
        Windows of clips with several splices each.
    held_out : bool ndarray of shape (n_windows,)
        Windows of held-out speakers, which must not be trained on.
    spliced_held_out : bool ndarray of shape (n_spliced_windows,) or None
        Held-out windows of `spliced_windows`.
    labels : list of str
        Columns of the targets.
    is_exclusive : bool
        Whether every window has exactly one of the labels.
    options : TrainingOptions
        Options of the networks.
    lr : float or None
        Highest learning rate of the networks, instead of their own.
    budget : float
        Factor on the usual number of windows that networks are trained on.
    seed : int
        Seed of all random numbers.
    n_jobs : int or None
        Number of processes.
    history : list of dict
        Entries of all epochs, which models append.
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
        """Return the seed for a purpose."""
        return seed_for(self.seed, *purpose)

    def no_logits(self, n_models: int) -> np.ndarray:
        """Return the logits of a model for no held-out windows."""
        return np.zeros((0, n_models, len(self.labels)), np.float32)

    @property
    def is_labelled(self) -> np.ndarray:
        """Whether each target is known, of shape (n_windows, n_labels)."""
        return self.windows.targets != LABEL_UNKNOWN

    @property
    def is_positive(self) -> np.ndarray:
        """Whether each window has each label, of shape (n_windows, n_labels)."""
        return self.windows.targets == 1
