"""Training of networks on windows, and their outputs in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..._data.batches import Batch
from ..._distributed.exchange import gather, share_of
from ..._training.callbacks import one_cycle
from ..._training.devices import autocast, seed_for, seeded
from ..._training.loop import Objective, train
from ..._training.options import TrainingOptions
from ..._utils.malloc import retain_freed_memory
from .._training_data.window_set import WindowSet

_BATCH_SIZE = 32  # windows
# Samples per batch on a CPU; the activations of more do not fit its cache.
_MAX_SAMPLES = 2**18


class WindowRows:
    """Windows with their targets, served in whole batches.

    Parameters
    ----------
    windows : WindowSet
        The windows.
    targets : ndarray of shape (n_windows, ...)
        Targets of all windows.
    rows : int ndarray of shape (n_rows,)
        Numbers of the windows to use.
    device : torch.device
        Device of the batches.
    """

    reads_on_demand = False  # Reading is too quick to be worth a thread.

    def __init__(self, windows: WindowSet, targets: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.windows, self.targets, self.device = windows, targets, device
        self.rows = torch.from_numpy(np.asarray(rows, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        """Return the window numbers of each batch, shuffled and of equal size if a generator is given."""
        order = self.rows if generator is None else self.rows[torch.randperm(len(self), generator=generator)]
        batches = list(order.split(batch_size))
        if generator is not None and len(batches) > 1 and len(batches[-1]) < batch_size:
            batches.pop()  # BatchNorm is unreliable on a small batch. The next epoch drops other windows.
        return batches

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return windows by their numbers, on the device."""
        numbers = rows.numpy()
        x = {"waveform": self.windows.floats(numbers), "lengths": self.windows.lengths[numbers]}
        tensors = {name: torch.from_numpy(values).to(self.device, non_blocking=True) for name, values in x.items()}
        y = torch.from_numpy(np.asarray(self.targets[numbers])).to(self.device, non_blocking=True)
        return Batch(tensors, {}, len(rows), y, None, rows)

    def eval_batch_size(self, batch_size: int) -> int:
        """Return the number of windows to evaluate at once: as many as in training."""
        return batch_size


class FeatureRows(WindowRows):
    """Features of windows with their labels.

    Parameters
    ----------
    features : float32 ndarray of shape (n_windows, n_features)
        Features of all windows.
    targets : ndarray of shape (n_windows, n_labels)
        Targets of all windows.
    rows : int ndarray of shape (n_rows,)
        Numbers of the windows to use.
    device : torch.device
        Device of the batches.
    """

    def __init__(self, features: np.ndarray, targets: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.features, self.targets, self.device = features, targets, device
        self.rows = torch.from_numpy(np.asarray(rows, dtype=np.int64))

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return the features of windows by their numbers, on the device."""
        numbers = rows.numpy()
        x, y = (
            torch.from_numpy(values[numbers]).to(self.device, non_blocking=True)
            for values in (self.features, self.targets)
        )
        return Batch({"features": x}, {}, len(rows), y, None, rows)


class SharedWindows:
    """Windows of which each process of a fit reads its share of a batch; without several processes, all of it.

    Parameters
    ----------
    rows : WindowRows
        The windows.
    """

    def __init__(self, rows: WindowRows) -> None:
        self.rows, self.reads_on_demand = rows, rows.reads_on_demand
        self.epoch, self.eval_batch_size = rows.epoch, rows.eval_batch_size

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return windows by their numbers, with the targets of all of them."""
        share = share_of(len(rows))
        if share is None:
            return self.rows.batch(rows, training)
        part = self.rows.batch(share.of(rows), training)
        shares = dict.fromkeys(part.x, share)
        return part._replace(size=len(rows), y=gather(part.y, share), rows=rows, shares=shares)


class BatchAdapter(nn.Module):
    """Network of waveforms that is called with a `Batch`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and embeddings."""
        logits, embeddings = self.network(*batch.x.values())
        return batch.gather(logits, next(iter(batch.x))), embeddings  # No loss reads the embeddings.


def train_network(
    make: Callable[[], nn.Module],
    rows: WindowRows,
    objective: Objective,
    options: TrainingOptions,
    *,
    n_windows: int,
    lr: float,
    seed: int,
    stage: str,
    backbone_lr: float | None = None,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train a network, with a one-cycle learning rate that rises for the first tenth of the steps.

    Parameters
    ----------
    make : callable
        Function without arguments that returns the network with its initial weights.
    rows : WindowRows
        Windows to train on, repeated in epochs.
    objective : Objective
        The loss.
    options : TrainingOptions
        Options; `lr`, `lr_schedule`, `max_epochs` and `early_stopping` are replaced.
    n_windows : int
        Number of windows to train on, counting repetitions; it is rounded to whole epochs.
    lr : float
        Highest learning rate.
    seed : int
        Seed of the initial weights and of the shuffling.
    stage : str
        Name of this training in the history.
    backbone_lr : float, default=None
        Highest learning rate of the attribute `backbone` of the network, if lower than `lr`.

    Returns
    -------
    network : nn.Module
        The trained network in eval mode.
    history : list of dict
        One entry per epoch.

    Raises
    ------
    KeyboardInterrupt
        If the training was interrupted.
    """
    with seeded(seed_for(seed, "weights"), options.device):
        module = BatchAdapter(make()).to(options.device)
    n_steps = len(rows.epoch(options.batch_size, torch.Generator()))
    n_epochs = max(1, round(n_windows / (n_steps * min(options.batch_size, len(rows)))))
    rates, kwargs = [lr], options.optimizer_kwargs
    if backbone_lr is not None:
        rates = [min(backbone_lr, lr), lr]
        kwargs = {**kwargs, "param_groups": [("network.backbone.*", {"lr": rates[0]})]}
    options = replace(
        options,
        lr=lr,
        lr_schedule=None,
        max_epochs=n_epochs,
        early_stopping=False,
        optimizer_kwargs=kwargs,
        callbacks=[*options.callbacks, one_cycle(rates, n_epochs * n_steps)],
    )
    with retain_freed_memory():
        run = train(
            module,
            SharedWindows(rows),
            SharedWindows(rows),
            options,
            n_classes=2,
            seed=seed_for(seed, "training"),
            stage=stage,
            objective=objective,
        )
    if run.interrupted:
        raise KeyboardInterrupt
    return module.network.eval(), run.history


@torch.no_grad()
def predict_in_batches(
    network: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    waveforms: np.ndarray,
    lengths: np.ndarray,
    device: torch.device,
    precision: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs of a network for windows.

    Parameters
    ----------
    network : callable
        Network in eval mode on the device.
    waveforms : float32 ndarray of shape (n_windows, n_samples)
        Waveforms, padded with zeros.
    lengths : int64 ndarray of shape (n_windows,)
        Number of samples of each window without the padding.
    device : torch.device
        Device of the network.
    precision : {'float32', 'bf16'}
        Arithmetic of the network.

    Returns
    -------
    logits, embeddings : float32 ndarray of n_windows rows
        The two outputs of the network.
    """
    batch_logits, batch_embeddings = [], []
    size = _BATCH_SIZE if device.type != "cpu" else min(_BATCH_SIZE, max(1, _MAX_SAMPLES // waveforms.shape[1]))
    for start in range(0, len(waveforms), size):
        part = slice(start, start + size)
        inputs = (torch.from_numpy(values[part]).to(device) for values in (waveforms, lengths))
        with autocast(precision, device):
            logits, embeddings = network(*inputs)
        batch_logits.append(logits.float().cpu().numpy())
        batch_embeddings.append(embeddings.float().cpu().numpy())
    return np.concatenate(batch_logits), np.concatenate(batch_embeddings)
