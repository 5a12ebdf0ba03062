"""Learning rate schedule, progress bar and other extensions of skorch's training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler
from tqdm.auto import tqdm


def one_cycle(rates: Sequence[float], n_steps: int) -> Callback:
    """Return a schedule per step that rises for 10 % of the steps and then falls by a half cosine.

    Parameters
    ----------
    rates : sequence of float
        Highest learning rate of each parameter group.
    n_steps : int
        Steps of the whole training.

    Returns
    -------
    skorch.callbacks.LRScheduler
        Callback that sets the learning rate.
    """
    policy, total_steps = torch.optim.lr_scheduler.OneCycleLR, n_steps + 1
    total_steps += total_steps == 10  # With 10 steps the rise would have length 0, by which torch divides.
    return LRScheduler(
        policy=policy, step_every="batch", max_lr=rates, total_steps=total_steps, pct_start=0.1, cycle_momentum=False
    )


def fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Set missing momentum buffers to zero, because fused SGD fails if only some parameters have one."""
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum"):
            for parameter in filter(lambda p: p.requires_grad, group["params"]):
                optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))


class ProgressBar(Callback):
    """Progress bar over the epochs that shows the latest scores.

    Parameters
    ----------
    title : str
        Title of the training.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Create the bar."""
        self.bar_ = tqdm(total=net.max_epochs, desc=self.title, unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Advance the bar and show the scores."""
        shown = ("train_loss", "valid_loss", "valid_accuracy")
        self.bar_.set_postfix({name: net.history[-1][name] for name in shown if name in net.history[-1]})
        self.bar_.update(len(net.history) - self.bar_.n)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar_.close()


def discard_output(*args: Any) -> None:
    """Discard the messages of EarlyStopping; the history holds the same information."""
