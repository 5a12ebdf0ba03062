"""Model of windows that is a single network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from .._audio.windowing import Window
from .._training_data.training_set import TrainingSet
from .base import WindowModel, WindowOutputs, map_windows, stack_windows
from .losses import build_label_loss
from .network_training import WindowRows, predict_in_batches, train_network

_PROBE_SAMPLES = 8000


class NetworkModel(WindowModel):
    """Single network of whole windows.

    Parameters
    ----------
    make : callable
        Function of the number of labels that returns the untrained network.
    name : str
        Name of the network in files and in the training history.
    n_windows : int
        Number of windows to train on, counting repetitions.
    lr : float
        Highest learning rate.
    backbone_lr : float, default=None
        Highest learning rate of the network's `backbone`; None trains it like the other layers.
    """

    def __init__(
        self, make: Callable[[int], nn.Module], name: str, n_windows: int, lr: float, backbone_lr: float | None = None
    ) -> None:
        self.make, self.name, self.n_windows, self.lr, self.backbone_lr = make, name, n_windows, lr, backbone_lr
        self.networks: dict[str, nn.Module] = {}

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        return {self.name: self.make(len(labels))}

    @torch.no_grad()
    def check_networks(self, labels: Sequence[str]) -> None:
        network = self.new_networks(labels)[self.name]
        if not isinstance(network, nn.Module):
            raise TypeError(f"model={self.name} returns a {type(network).__name__}. It must return an nn.Module.")
        outputs = network.eval()(torch.zeros(1, _PROBE_SAMPLES), torch.tensor([_PROBE_SAMPLES]))
        shapes = [tuple(part.shape) for part in outputs] if isinstance(outputs, tuple) else type(outputs).__name__
        if len(shapes) != 2 or shapes[0] != (1, len(labels)) or len(shapes[1]) != 2:
            raise ValueError(
                f"model={self.name} returns {shapes} for one waveform and {len(labels)} labels. It must return a "
                f"tuple of logits (1, {len(labels)}) and embeddings (1, n_features)."
            )

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        device, held_out = training_set.options.device, training_set.held_out
        training_set.options.log_stage(f"training the network {self.name}")
        rows = WindowRows(training_set.windows, training_set.windows.targets, np.flatnonzero(~held_out), device)
        network, history = train_network(
            lambda: self.new_networks(training_set.labels)[self.name],
            rows,
            build_label_loss(training_set, ~held_out),
            training_set.options,
            n_windows=round(training_set.budget * self.n_windows),
            lr=training_set.lr or self.lr,
            seed=training_set.seed_for(self.name),
            stage=self.name,
            backbone_lr=self.backbone_lr,
        )
        self.networks = {self.name: network}
        self.config = getattr(network, "config", None)
        self.to(device, training_set.options.precision)
        training_set.history.extend(history)
        if not held_out.any():
            return training_set.no_logits(1)
        return map_windows(
            training_set.windows, held_out, lambda waveforms, lengths, _: self._outputs(waveforms, lengths).logits
        )

    def predict(self, windows: Sequence[Window]) -> WindowOutputs:
        return self._outputs(*stack_windows(windows))

    def _outputs(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        logits, embeddings = predict_in_batches(
            self.networks[self.name], waveforms, lengths, self.device, self.precision
        )
        return WindowOutputs(logits[:, None], embeddings)

    @property
    def embedding_dim(self) -> int:
        silence = np.zeros((1, _PROBE_SAMPLES), np.float32)
        return self._outputs(silence, np.array([_PROBE_SAMPLES])).embeddings.shape[1]
