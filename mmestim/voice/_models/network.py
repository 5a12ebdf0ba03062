"""Single networks of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from .._training_data.training_set import TrainingSet
from .base import WindowModel, WindowOutputs
from .batching import in_parts, label_loss
from .network_training import WindowRows, predict_in_batches, train_network

_TRIAL = 8000  # samples


class NetworkModel(WindowModel):
    """One network, trained on most of the speakers; the others tell what its scores mean."""

    # Windows that it sees, and its highest learning rates.
    def __init__(
        self, make: Callable[[int], nn.Module], name: str, seen: int, lr: float, backbone_lr: float | None = None
    ) -> None:
        self.make, self.name, self.seen, self.lr, self.backbone_lr = make, name, seen, lr, backbone_lr
        self.networks: dict[str, nn.Module] = {}

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        return {self.name: self.make(len(labels))}

    @torch.no_grad()
    def check_networks(self, labels: Sequence[str]) -> None:
        network = self.new_networks(labels)[self.name]
        if not isinstance(network, nn.Module):
            raise TypeError(f"model={self.name} gives a {type(network).__name__}: it must give an nn.Module.")
        outputs = network.eval()(torch.zeros(1, _TRIAL), torch.tensor([_TRIAL]))
        shapes = [tuple(part.shape) for part in outputs] if isinstance(outputs, tuple) else type(outputs).__name__
        if len(shapes) != 2 or shapes[0] != (1, len(labels)) or len(shapes[1]) != 2:
            raise ValueError(
                f"model={self.name} answers for one waveform and {len(labels)} labels with {shapes}: it must give a "
                f"tuple of logits (1, {len(labels)}) and embeddings (1, n_features)."
            )

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        device, held_out = training_set.options.device, training_set.held_out
        rows = WindowRows(training_set.windows, training_set.windows.targets, np.flatnonzero(~held_out), device)
        network, history = train_network(
            lambda: self.new_networks(training_set.labels)[self.name],
            rows,
            label_loss(training_set, ~held_out),
            training_set.options,
            seen=round(training_set.budget * self.seen),
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
        return in_parts(
            training_set.windows, held_out, lambda waveforms, lengths, _: self.predict(waveforms, lengths).logits
        )

    def predict(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        logits, embeddings = predict_in_batches(
            self.networks[self.name], waveforms, lengths, self.device, self.precision
        )
        return WindowOutputs(logits[:, None], embeddings)

    @property
    def embedding_dim(self) -> int:
        silence = np.zeros((1, _TRIAL), np.float32)
        return predict_in_batches(self.networks[self.name], silence, np.array([_TRIAL]), self.device, self.precision)[
            1
        ].shape[1]
