"""Base class of the models that score windows, and batches of windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from .._audio.windowing import Window
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet

BATCH_SIZE = 64  # windows


class WindowOutputs(NamedTuple):
    """Outputs of a model for a batch of windows."""

    logits: np.ndarray  # (n_windows, n_models, n_labels)
    embeddings: np.ndarray  # (n_windows, embedding_dim)
    frames: np.ndarray | None = None  # log-odds (n_windows, n_maps, n_frames) of the maps of `WindowSet.frames`


class WindowModel:
    """Base class of the models of one window length.

    Attributes
    ----------
    n_models : int
        Number of scores for each label, which a `ScoreFusion` combines.
    networks : dict of str to nn.Module
        Networks by name; their weights are saved under these names.
    config : dict or None
        Architecture of a network that the detector's parameters do not describe.
    frame_thresholds : ndarray of shape (n_maps,) or None
        Probability from which a frame is positive on each map; None if the model has no scores of frames.
    """

    n_models: ClassVar[int] = 1
    networks: dict[str, nn.Module]
    config: dict[str, Any] | None = None
    frame_thresholds: np.ndarray | None = None
    # Values until `to` is called.
    device, precision = torch.device("cpu"), "float32"

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        """Train on the windows that are not held out.

        Parameters
        ----------
        training_set : TrainingSet
            Windows, labels and options.

        Returns
        -------
        ndarray of shape (n_held_out, n_models, n_labels)
            Logits of the held-out windows.
        """
        raise NotImplementedError

    def predict(self, windows: Sequence[Window]) -> WindowOutputs:
        """Score windows.

        Parameters
        ----------
        windows : sequence of Window
            Successive windows of one recording.

        Returns
        -------
        WindowOutputs
            Logits, embeddings and scores of frames.
        """
        raise NotImplementedError

    @property
    def embedding_dim(self) -> int:
        """Length of the embeddings."""
        raise NotImplementedError

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        """Return untrained networks by name."""
        return {}

    def check_networks(self, labels: Sequence[str]) -> None:
        """Raise an error if the networks cannot be built, or if their outputs have wrong shapes."""
        self.new_networks(labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all fitted values by name, except the weights of networks."""
        return {}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        """Restore the result of `arrays`, or raise ValueError if it is invalid."""
        if arrays:
            raise ValueError(f"its model has the unknown arrays {sorted(arrays)}.")

    def to(self, device: torch.device, precision: str) -> None:
        """Move the networks to a device, and set the precision of their arithmetic."""
        self.device, self.precision = device, precision
        for network in self.networks.values():
            network.to(device).eval()


def stack_windows(windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
    """Return the waveforms of windows, of shape (n_windows, n_samples), and their numbers of samples."""
    waveforms = np.stack([window.waveform for window in windows])
    return waveforms, np.array([window.length for window in windows], dtype=np.int64)


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
