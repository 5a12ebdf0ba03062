"""Training of one network, and the objectives that it minimises."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch._functorch import config as functorch_config

from .._data.batches import Batch, RowSource
from .devices import seed_for, seeded
from .losses import weighted_cross_entropy
from .net import Net
from .options import TrainingOptions
from .state_encoding import Stateful


class Objective(Stateful):
    """What a net minimises: cross-entropy of the first output. Subclasses add to it.

    The hooks are called in the order of the methods; `net` gives `module_`, `history`, `options`
    and `train_rows`. Nothing in `loss` or `after_backward` may read a value back to the CPU.
    What changes after `begin`, other than the net, is the state.
    """

    def begin(self, net: Net) -> None:
        """Before the first epoch, on the net's device and under its seed."""

    def begin_epoch(self, net: Net, epoch: list[torch.Tensor]) -> None:
        """Before each epoch, with the row numbers of its batches."""

    def loss(self, net: Net, output: Any, batch: Batch) -> torch.Tensor:
        """Loss of one batch from what the module returned."""
        return weighted_cross_entropy(output[0], batch)

    def after_backward(self, net: Net, batch: Batch) -> None:
        """Between backward and the optimizer's step."""

    def train_batch(self, net: Net, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from one batch; its loss and its logits."""
        net.optimizer_.zero_grad()
        output = net.infer(batch)
        loss = self.loss(net, output, batch)
        loss.backward()
        self.after_backward(net, batch)
        net.step(batch)
        return loss.detach(), output[0]

    def end_epoch(self, net: Net) -> None:
        """After each epoch."""

    def end(self, net: Net) -> None:
        """After the last epoch."""


class ShadowNetwork(Stateful):
    """A network of the same kind trained beside a net, with its objective and learning rate, on other rows."""

    def __init__(self, module: nn.Module, rows: RowSource, net: Net, seed: int, title: str) -> None:
        quiet = replace(net.options, callbacks=[], early_stopping=False, lr_schedule=None, verbose=0)
        self.net = Net(module, objective=net.objective, options=quiet, n_classes=len(net.classes), title=title)
        self.net.initialize()
        self.rows, self.seed, self.generator = rows, seed, torch.Generator().manual_seed(seed)

    def train_epoch(self, lr: float) -> None:
        """One pass over the rows, with random numbers of its own."""
        self.net.history.new_epoch()
        for group in self.net.optimizer_.param_groups:
            group["lr"] = lr
        with seeded(seed_for(self.seed, str(len(self.net.history))), self.net.options.device):
            loss = self.net.train_epoch(self.rows, self.rows.epoch(self.net.batch_size, self.generator))
        self.net.check_finite(np.isfinite(loss), f"training loss is {loss}")

    def state_dict(self) -> dict[str, Any]:
        """What changes in training."""
        net, generator = self.net, self.generator
        n_epochs = len(net.history)
        return {"module": net.module_, "optimizer": net.optimizer_, "generator": generator, "n_epochs": n_epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        for _ in range(len(self.net.history), state["n_epochs"]):
            self.net.history.new_epoch()


class TrainingRun(NamedTuple):
    """What one call of `train` leaves behind besides the trained module."""

    history: list[dict[str, Any]]
    interrupted: bool


def train(
    module: nn.Module,
    train_rows: RowSource,
    valid_rows: RowSource,
    options: TrainingOptions,
    *,
    n_classes: int,
    seed: int,
    stage: str,
    modality: str | None = None,
    objective: Objective | None = None,
) -> TrainingRun:
    """Train `module` in place.

    With early stopping the best epoch on `valid_rows` is kept, and Ctrl-C after the first epoch
    ends the run there; before that it is raised on.
    """
    title = stage if modality is None else f"{stage} {modality}"
    net = Net(module, objective=objective or Objective(), options=options, n_classes=n_classes, title=title)
    # Compiled graphs are shared by the fits of a process, and some objectives go back through them twice.
    keeping = functorch_config.patch(donated_buffer=False) if options.compile else contextlib.nullcontext()
    with keeping, seeded(seed, options.device):
        interrupted = net.run(train_rows, valid_rows if options.early_stopping else None, seed)
    module.eval()
    kept = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "lr", "dur")
    history = [
        {"stage": stage, "modality": modality, **{key: row[key] for key in kept if key in row}} for row in net.history
    ]
    return TrainingRun(history, interrupted)
