"""Joint training with a balancing method."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..._data.batches import Batch
from ..._training.loop import Objective
from ...balancers._base import Balancer
from ...balancers._joint_training import Training
from ..fit_context import FitContext


class BalancedObjective(Objective):
    """Objective that forwards the hooks of training to a balancer."""

    state_attributes = ("training", "balancer")

    def __init__(self, unimodal_weight: float, balancer: Balancer, context: FitContext) -> None:
        self.unimodal_weight, self.balancer, self.context = unimodal_weight, balancer, context

    def begin(self, net: Any) -> None:
        self.training = Training(net, self.context, self.balancer.unimodal, self.unimodal_weight)
        self.balancer.begin(self.training)

    def begin_epoch(self, net: Any, epoch: list[torch.Tensor]) -> None:
        self.training.epoch, self.training.batches = len(net.history) - 1, epoch
        self.balancer.begin_epoch(self.training)

    def train_batch(self, net: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return self.balancer.train_batch(self.training, batch)

    def end_epoch(self, net: Any) -> None:
        self.balancer.end_epoch(self.training)
        self.training.end_epoch()

    def end(self, net: Any) -> None:
        """Convert the state of the balancer to arrays."""
        self.balancer.end()

    def history(self, n_epochs: int) -> dict[str, np.ndarray]:
        """Return the records as arrays with one row per epoch, NaN in epochs without a record."""
        records = self.training.records[:n_epochs]
        shapes = {name: value.shape for record in records for name, value in record.items()}
        return {
            name: np.stack([record.get(name, np.full(shape, np.nan, dtype=np.float32)) for record in records])
            for name, shape in shapes.items()
        }
