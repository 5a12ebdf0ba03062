"""What a detector learns by: models that answer for windows, and for windows that they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from .._training_data.training_set import TrainingSet

MIN_SECONDS = 0.35  # seconds that statistics need


class WindowOutputs(NamedTuple):
    """What a model says of windows."""

    logits: np.ndarray  # (n_windows, n_models, n_labels)
    embeddings: np.ndarray  # (n_windows, embedding_dim)
    frames: np.ndarray | None = None  # log-odds (n_windows, n_maps, n_frames) of the maps of `WindowSet.frames`


class WindowModel:
    """Base of the models."""

    n_models: ClassVar[int] = 1
    device, precision = torch.device("cpu"), "float32"  # until it is placed
    # What a network is made anew by, where the parameters do not say.
    config: dict[str, Any] | None = None
    # Of frames, where the answers have them: from which log-odds on a map is there.
    frame_thresholds: np.ndarray | None = None

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        """Learn.

        Returns
        -------
        ndarray of shape (n_held_out, n_models, n_labels)
            Log-odds of the windows that were not to be trained on.
        """
        raise NotImplementedError

    def predict(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        """What is in windows of shape (n_windows, n_samples) that have so many samples each."""
        raise NotImplementedError

    @property
    def embedding_dim(self) -> int:
        """Length of the embeddings."""
        raise NotImplementedError

    # What a file of the model holds.

    networks: dict[str, nn.Module]

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        """The networks before training, by name."""
        return {}

    def check_networks(self, labels: Sequence[str]) -> None:
        """Raise if they cannot be made, or do not answer as they have to."""
        self.new_networks(labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """What else was learnt, by name."""
        return {}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        """Take it over; a ValueError says what cannot be."""
        if arrays:
            raise ValueError(f"its model has {sorted(arrays)}, which it does not know.")

    def to(self, device: torch.device, precision: str) -> None:
        """Where networks are, and how they compute."""
        self.device, self.precision = device, precision
        for network in self.networks.values():
            network.to(device).eval()


# Statistics and trees ------------------------------------------------------------------------------


# One network ---------------------------------------------------------------------------------------
