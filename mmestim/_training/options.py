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
    def from_parameters(
        cls,
        *,
        lr: float,
        batch_size: int,
        optimizer: Any = "adamw",
        weight_decay: float = 0.0,
        lr_schedule: str | None = None,
        max_grad_norm: float | None = None,
        max_epochs: int = 1,
        early_stopping: bool = False,
        n_iter_no_change: int = 1,
        precision: str = "float32",
        compile: bool = False,
        device: str | torch.device = "auto",
        callbacks: list[Any] | None = None,
        verbose: int | bool = 0,
    ) -> TrainingOptions:
        """Return checked options from parameters, named as those of the estimators.

        Raises
        ------
        TypeError, ValueError
            For the first parameter whose type or value is not allowed.
        """
        check_number("lr", lr, closed=False)
        check_number("weight_decay", weight_decay)
        check_number("batch_size", batch_size, low=1, integer=True)
        check_number("max_epochs", max_epochs, low=1, integer=True)
        check_number("n_iter_no_change", n_iter_no_change, low=1, integer=True)
        verbose = int(verbose) if isinstance(verbose, bool) else verbose
        check_number("verbose", verbose, integer=True)
        if not isinstance(callbacks or [], list):
            raise TypeError(f"callbacks={callbacks!r} must be a list of skorch callbacks, or None.")
        if max_grad_norm is not None:
            check_number("max_grad_norm", max_grad_norm, closed=False)
        check_flag("early_stopping", early_stopping)
        check_flag("compile", compile)
        check_choice("precision", precision, PRECISIONS)
        check_choice("lr_schedule", lr_schedule, SCHEDULES, ", or pass skorch's LRScheduler in callbacks")
        resolved_device = resolve_device(device)
        if precision == "bf16" and resolved_device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ValueError(f"precision='bf16' is not supported by {resolved_device}. Use precision='float32'.")
        optimizer_class, optimizer_kwargs = _resolve_optimizer(optimizer, weight_decay)
        return cls(
            device=resolved_device,
            optimizer=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            lr=lr,
            lr_schedule=lr_schedule,
            max_grad_norm=max_grad_norm,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            n_iter_no_change=n_iter_no_change,
            precision=precision,
            compile=compile,
            callbacks=list(callbacks or []),
            verbose=verbose,
        )

    @classmethod
    def from_estimator(cls, estimator: Any, device: str | torch.device | None = None) -> TrainingOptions:
        """Return checked options from the parameters of a classifier.

        Parameters
        ----------
        estimator : estimator
            A multimodal classifier. Its `embedding_dim` and `max_memory` are checked too.
        device : str or torch.device, default=None
            Device to use instead of the estimator's parameter.
        """
        check_number("embedding_dim", estimator.embedding_dim, low=1, integer=True)
        check_number("max_memory", estimator.max_memory)
        names = inspect.signature(cls.from_parameters).parameters
        parameters = {name: getattr(estimator, name) for name in names}
        if device is not None:
            parameters["device"] = device
        return cls.from_parameters(**parameters)

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
