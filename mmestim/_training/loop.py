"""Training of one network, and the objective that it minimises."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch._functorch import config as functorch_config

from .._data.batches import Batch, RowSource
from .._distributed.exchange import from_first
from .devices import seeded
from .losses import weighted_cross_entropy
from .net import SELECTION, Net
from .options import TrainingOptions
from .state_encoding import Stateful


class Objective(Stateful):
    """Objective of a net with hooks for subclasses, by default the cross-entropy of the first output.

    The hooks are called in the order in which they are defined. They read `module_`, `history`,
    `options` and `train_rows` of the net. `loss` and `after_backward` must not copy values to the CPU.
    Everything that changes after `begin`, apart from the net, belongs to the state.
    """

    def begin(self, net: Net) -> None:
        """Prepare for the first epoch, on the net's device and under its seed."""

    def begin_epoch(self, net: Net, epoch: list[torch.Tensor]) -> None:
        """Prepare for an epoch, given the row numbers of its batches."""

    def loss(self, net: Net, output: Any, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, given the output of the module."""
        return weighted_cross_entropy(output[0], batch)

    def after_backward(self, net: Net, batch: Batch) -> None:
        """Modify gradients between the backward pass and the optimizer's step."""

    def train_batch(self, net: Net, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on one batch, and return its loss and logits."""
        net.zero_grad()
        output = net.infer(batch)
        loss = self.loss(net, output, batch)
        loss.backward()
        net.average_gradients()
        self.after_backward(net, batch)
        net.step(batch)
        return loss.detach(), output[0]

    def end_epoch(self, net: Net) -> None:
        """Finish an epoch."""

    def end(self, net: Net) -> None:
        """Finish the training after the last epoch."""


class TrainingRun(NamedTuple):
    """Record of one call of `train`.

    Attributes
    ----------
    history : list of dict
        Scores of each epoch.
    interrupted : bool
        Whether Ctrl-C ended the training.
    n_best : int
        Number of epochs after which the weights were kept.
    """

    history: list[dict[str, Any]]
    interrupted: bool
    n_best: int


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
    fold: int | None = None,
    objective: Objective | None = None,
) -> TrainingRun:
    """Train `module` in place.

    With early stopping the epoch with the best score on `valid_rows` is restored. Ctrl-C ends the
    training after the last complete epoch; before the first is complete, it is raised again.

    Parameters
    ----------
    module : nn.Module
        Network that maps a batch to a sequence of outputs, logits first.
    train_rows, valid_rows : RowSource
        Rows to train on, and rows for early stopping.
    options : TrainingOptions
        Options of the training.
    n_classes : int
        Number of classes.
    seed : int
        Seed of shuffling and of random layers.
    stage : str
        Name of the training in the history.
    modality : str, default=None
        Modality that is trained alone.
    fold : int, default=None
        Number of the fold whose network is trained, if the networks of the folds train one after the other.
    objective : Objective, default=None
        Objective to minimise, by default the cross-entropy.

    Returns
    -------
    TrainingRun
        History of the epochs.
    """
    kind, comma, detail = stage.partition(",")  # As in "unimodal audio, all rows".
    title = stage if modality is None else f"{kind} {modality}{comma}{detail}"
    title += "" if fold is None else f", fold {fold}"
    net = Net(module, objective=objective or Objective(), options=options, n_classes=n_classes, title=title)
    # Some objectives run backward twice through a compiled graph, whose buffers must not be reused then.
    graph_settings = functorch_config.patch(donated_buffer=False) if options.compile else contextlib.nullcontext()
    counted = contextlib.nullcontext() if options.stages is None else options.stages.start(net)
    with graph_settings, seeded(seed, options.device), counted:
        interrupted = net.run(train_rows, valid_rows if options.early_stopping else None, seed)
    module.eval()
    keys = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "lr", "dur")
    origin = {"stage": stage, "modality": modality, "fold": fold}
    # Durations differ between processes.
    history = from_first([origin | {key: row[key] for key in keys if key in row} for row in net.history])
    selection = [row[SELECTION] for row in net.history if SELECTION in row]
    return TrainingRun(history, interrupted, int(np.argmin(selection)) + 1 if selection else len(history))
