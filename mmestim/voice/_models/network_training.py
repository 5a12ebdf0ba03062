"""Networks trained on windows, and asked about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..._data.batches import Batch
from ..._training.callbacks import one_cycle
from ..._training.devices import autocast, seed_for, seeded
from ..._training.loop import Objective, train
from ..._training.options import TrainingOptions
from ..._utils.malloc import retain_freed_memory
from .._training_data.window_set import WindowSet

# Windows that are asked about at once: on a CPU, what a layer makes of more samples is too large for its cache.
_AT_ONCE, _SAMPLES_AT_ONCE = 32, 2**18


class WindowRows:
    """Some windows with what is to be learnt of them, served in whole batches."""

    def __init__(
        self,
        windows: WindowSet,
        targets: np.ndarray,
        rows: np.ndarray,
        device: torch.device,
        statistics: np.ndarray | None = None,
    ) -> None:
        self.windows, self.targets, self.device, self.statistics = windows, targets, device, statistics
        self.rows = torch.from_numpy(np.asarray(rows, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        """Numbers of the windows of every batch, shuffled if a generator is given; all batches are of one size."""
        order = self.rows if generator is None else self.rows[torch.randperm(len(self), generator=generator)]
        batches = list(order.split(batch_size))
        if generator is not None and len(batches) > 1 and len(batches[-1]) < batch_size:
            batches.pop()  # Others come next time; BatchNorm would make much of a few.
        return batches

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Some windows, on the device."""
        numbers = rows.numpy()
        x = {"waveform": self.windows.floats(numbers), "lengths": self.windows.lengths[numbers]}
        if self.statistics is not None:
            x["statistics"] = self.statistics[numbers]
        tensors = {name: torch.from_numpy(values).to(self.device, non_blocking=True) for name, values in x.items()}
        y = torch.from_numpy(np.asarray(self.targets[numbers])).to(self.device, non_blocking=True)
        return Batch(tensors, {}, len(rows), y, None, rows)

    def eval_batch_size(self, batch_size: int) -> int:
        """Return the number of windows to evaluate at once: as many as in training."""
        return batch_size


class OnWindows(nn.Module):
    """A network of waveforms as one of batches."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embeddings."""
        return self.network(*batch.x.values())


def train_network(
    make: Callable[[], nn.Module],
    rows: WindowRows,
    objective: Objective,
    options: TrainingOptions,
    *,
    seen: int,
    lr: float,
    seed: int,
    stage: str,
    backbone_lr: float | None = None,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """A network trained on so many windows, with a learning rate that rises for a tenth of them and then falls.

    Parameters
    ----------
    make : callable
        Gives the network with its first weights.
    rows : WindowRows
        What it is trained on, again and again.
    objective : Objective
        Its loss.
    options : TrainingOptions
        How; `lr`, `lr_schedule` and `max_epochs` are replaced.
    seen : int
        Windows in all.
    lr : float
        Highest learning rate.
    seed : int
        Of weights and shuffling.
    stage : str
        What the history calls it.
    backbone_lr : float, default=None
        The highest of what the network has as `backbone`, where `lr` is not lower.

    Returns
    -------
    network : nn.Module
        In eval mode.
    history : list of dict
        One entry per epoch.
    """
    with seeded(seed_for(seed, "weights"), options.device):
        module = OnWindows(make()).to(options.device)
    n_steps = len(rows.epoch(options.batch_size, torch.Generator()))
    n_epochs = max(1, round(seen / (n_steps * min(options.batch_size, len(rows)))))
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
            rows,
            rows,
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
    network: nn.Module,
    waveforms: np.ndarray,
    lengths: np.ndarray,
    device: torch.device,
    precision: str,
    statistics: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and embeddings of windows, float32."""
    logits, embeddings = [], []
    n = _AT_ONCE if device.type != "cpu" else min(_AT_ONCE, max(1, _SAMPLES_AT_ONCE // waveforms.shape[1]))
    for start in range(0, len(waveforms), n):
        part = slice(start, start + n)
        inputs = [torch.from_numpy(waveforms[part]).to(device), torch.from_numpy(lengths[part]).to(device)]
        if statistics is not None:
            inputs.append(torch.from_numpy(statistics[part]).to(device))
        with autocast(precision, device):
            one, other = network(*inputs)
        logits.append(one.float().cpu().numpy())
        embeddings.append(other.float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(embeddings)
