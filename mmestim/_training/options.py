"""How networks are trained: the parameters of an estimator, resolved and checked."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .._utils.validation import check_choice, check_flag, check_number
from .checkpoints import Checkpoints
from .devices import autocast, resolve_device

OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
SCHEDULES = ("step", "cosine", None)
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class TrainingOptions:
    """How to train, resolved and checked: one per fit, shared by all of its nets."""

    device: torch.device
    optimizer: Callable[..., torch.optim.Optimizer]
    optimizer_kwargs: dict[str, Any]
    lr: float
    lr_schedule: str | None
    max_grad_norm: float | None
    batch_size: int
    max_epochs: int
    early_stopping: bool
    n_iter_no_change: int
    precision: str
    compile: bool
    callbacks: list[Any]
    verbose: int
    checkpoints: Checkpoints | None = None

    @classmethod
    def from_estimator(cls, estimator: Any) -> TrainingOptions:
        """Options from the parameters of an estimator, with an error for the first bad one."""
        p = estimator
        for name in ("lr", "weight_decay"):
            check_number(name, getattr(p, name), closed=name != "lr")
        for name in ("batch_size", "max_epochs", "n_iter_no_change", "embedding_dim"):
            check_number(name, getattr(p, name), low=1, integer=True)
        verbose = int(p.verbose) if isinstance(p.verbose, bool) else p.verbose
        check_number("verbose", verbose, integer=True)
        check_number("max_memory", p.max_memory)
        if not isinstance(p.callbacks or [], list):
            raise TypeError(f"callbacks={p.callbacks!r} must be a list of skorch callbacks, or None.")
        if p.max_grad_norm is not None:
            check_number("max_grad_norm", p.max_grad_norm, closed=False)
        check_flag("early_stopping", p.early_stopping)
        check_flag("compile", p.compile)
        check_choice("precision", p.precision, PRECISIONS)
        check_choice("lr_schedule", p.lr_schedule, SCHEDULES, ", or pass skorch's LRScheduler in callbacks")
        device = resolve_device(p.device)
        if p.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ValueError(f"precision='bf16' is not supported by {device}. Use precision='float32'.")
        optimizer, kwargs = _resolve_optimizer(p.optimizer, p.weight_decay)
        return cls(
            device,
            optimizer,
            kwargs,
            p.lr,
            p.lr_schedule,
            p.max_grad_norm,
            p.batch_size,
            p.max_epochs,
            p.early_stopping,
            p.n_iter_no_change,
            p.precision,
            p.compile,
            list(p.callbacks or []),
            verbose,
        )

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which encoders and heads train."""
        return autocast(self.precision, self.device)


def _resolve_optimizer(optimizer, weight_decay):
    if isinstance(optimizer, str):
        check_choice("optimizer", optimizer, OPTIMIZERS, ", or a torch.optim class")
        # One kernel for all parameters: small networks spend much of a step in the optimizer.
        kwargs = {"momentum": 0.9, "fused": True} if optimizer == "sgd" else {"fused": True}
        return OPTIMIZERS[optimizer], {**kwargs, "weight_decay": weight_decay}
    if not callable(optimizer):
        raise TypeError(f"optimizer={optimizer!r} must be one of {list(OPTIMIZERS)} or a torch.optim class.")
    if optimizer is torch.optim.LBFGS:
        raise ValueError("optimizer=LBFGS needs a closure, which mini-batch training has not. Use 'sgd' or 'adamw'.")
    accepted = inspect.signature(optimizer).parameters
    if "weight_decay" in getattr(optimizer, "keywords", {}):
        return optimizer, {}  # A functools.partial that has its own.
    if "weight_decay" in accepted:
        return optimizer, {"weight_decay": weight_decay}
    if weight_decay:
        name = getattr(optimizer, "__name__", repr(optimizer))
        raise ValueError(f"weight_decay={weight_decay}: the optimizer {name} takes none. Set weight_decay=0.")
    return optimizer, {}
