"""Schedules, progress bars and other parts of skorch's training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler
from tqdm.auto import tqdm


def one_cycle(rates: Sequence[float], n_steps: int) -> Callback:
    """A schedule by steps: up to the rate of each group for a tenth of them, then down by a half cosine."""
    policy, total = torch.optim.lr_scheduler.OneCycleLR, n_steps + 1
    total += total == 10  # of which the rise is no step long, by which torch divides
    return LRScheduler(
        policy=policy, step_every="batch", max_lr=rates, total_steps=total, pct_start=0.1, cycle_momentum=False
    )


def fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Zero momentum where there is none: fused SGD fails where some parameters get their first gradient later."""
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum"):
            for parameter in filter(lambda p: p.requires_grad, group["params"]):
                optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))


class _Progress(Callback):
    """A bar over the epochs with the latest scores."""

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_ = tqdm(total=net.max_epochs, desc=self.title, unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        shown = ("train_loss", "valid_loss", "valid_accuracy")
        self.bar_.set_postfix({name: net.history[-1][name] for name in shown if name in net.history[-1]})
        self.bar_.update(len(net.history) - self.bar_.n)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar_.close()


def _silent(*args: Any) -> None:
    """Nowhere for EarlyStopping to print to; the history says the same."""
