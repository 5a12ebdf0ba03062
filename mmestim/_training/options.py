"""Options of training, checked and resolved from the parameters of an estimator."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch

from .._distributed.processes import rank
from .._utils.validation import check_choice, check_flag, check_number
from .callbacks import Stages, check_callbacks
from .checkpoints import Checkpoints
from .devices import autocast, resolve_device

# Types of parameters.
Optimizer = Literal["adamw", "sgd"] | Callable[..., torch.optim.Optimizer]
Rate = float | Literal["auto"]
LearningRate = Rate | Mapping[str, Rate]
Schedule = Literal["auto", "step", "cosine"]
Monitor = Literal["valid_loss", "valid_accuracy"]
Precision = Literal["float32", "bf16"]

# Key of a dict of learning rates that stands for all layers outside the encoders.
HEAD = "head"

OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}

# Values of "auto". Those of AdamW were chosen on validation rows of vectors; the others are those of most papers.
AUTO_ADAMW = {"lr": 2e-3, "lr_schedule": "cosine", "weight_decay": 1.0}
AUTO_OTHERS = {"lr": 1e-2, "lr_schedule": "step", "weight_decay": 1e-4}


@dataclass(frozen=True)
class TrainingOptions:
    """Checked and resolved options of training, shared by all nets of a fit.

    Attributes
    ----------
    device : torch.device
        Device of the networks.
    optimizer : callable
        Class of the optimizer, or a function that creates one.
    optimizer_kwargs : dict of str to object
        Its arguments besides the learning rate.
    lr : float
        Initial learning rate.
    part_lr : dict of str to float
        Initial learning rates that differ from `lr`: of encoders by modality, and of the heads as ``'head'``.
    lr_schedule : {'step', 'cosine'} or None
        Schedule of the learning rate over the epochs.
    max_grad_norm : float or None
        Norm to which gradients are clipped.
    batch_size : int
        Rows of a training batch.
    accumulate : int
        Number of parts in which encoders read a training batch.
    max_epochs : int
        Maximum number of epochs.
    early_stopping : bool
        Whether to stop by scores on validation rows, and restore the best epoch.
    n_iter_no_change : int
        Epochs without improvement after which to stop.
    monitor : {'valid_loss', 'valid_accuracy'}
        Score of the validation rows that selects the epoch.
    precision : {'float32', 'bf16'}
        Precision of encoders and heads.
    compile : bool
        Whether to compile networks with torch.compile.
    callbacks : list of skorch.callbacks.Callback
        Callbacks of the user.
    verbose : int
        0 is silent, 1 shows a progress bar, larger numbers print a line per epoch.
    checkpoints : Checkpoints or None
        Files of the fit.
    stages : Stages or None
        Stages of the fit; None if it has only one.
    schedule_epochs : int or None
        Epochs of the learning-rate schedule, if they differ from `max_epochs`.
    """

    device: torch.device
    optimizer: Callable[..., torch.optim.Optimizer]
    optimizer_kwargs: dict[str, Any]
    lr: float
    lr_schedule: str | None
    max_grad_norm: float | None
    batch_size: int
    accumulate: int
    max_epochs: int
    early_stopping: bool
    n_iter_no_change: int
    monitor: Monitor
    precision: Precision
    compile: bool
    callbacks: list[Any]
    verbose: int
    part_lr: dict[str, float] = field(default_factory=dict)
    checkpoints: Checkpoints | None = None
    stages: Stages | None = None
    schedule_epochs: int | None = None

    @classmethod
    def from_parameters(
        cls,
        *,
        lr: LearningRate,
        batch_size: int,
        optimizer: Optimizer = "adamw",
        weight_decay: float | Literal["auto"] = 0.0,
        lr_schedule: Schedule | None = None,
        max_grad_norm: float | None = None,
        accumulate: int = 1,
        max_epochs: int = 1,
        early_stopping: bool = False,
        n_iter_no_change: int = 1,
        monitor: Monitor = "valid_loss",
        precision: Precision = "float32",
        compile: bool = False,
        device: str | torch.device = "auto",
        callbacks: list[Any] | None = None,
        verbose: int | bool = 0,
    ) -> TrainingOptions:
        """Return checked options; the parameters have the names and meanings of those of the estimators."""
        auto = _auto_values(optimizer)
        rates = dict(lr) if isinstance(lr, Mapping) else {}
        for name, rate in rates.items() if isinstance(lr, Mapping) else [(None, lr)]:
            parameter = "lr" if name is None else f"lr[{name!r}]"
            if not _is_auto(parameter, rate, ", or a dict of modality to one of these" if name is None else ""):
                check_number(parameter, rate, closed=False)
        if not _is_auto("weight_decay", weight_decay):
            check_number("weight_decay", weight_decay)
        check_number("batch_size", batch_size, low=1, integer=True)
        check_number("accumulate", accumulate, low=1, integer=True)
        check_number("max_epochs", max_epochs, low=1, integer=True)
        check_number("n_iter_no_change", n_iter_no_change, low=1, integer=True)
        verbose = int(verbose) if isinstance(verbose, bool) else verbose
        check_number("verbose", verbose, integer=True)
        verbose = verbose if rank() == 0 else 0
        if max_grad_norm is not None:
            check_number("max_grad_norm", max_grad_norm, closed=False)
        check_flag("early_stopping", early_stopping)
        check_flag("compile", compile)
        if compile and accumulate > 1:
            raise ValueError(
                f"accumulate={accumulate} cannot be combined with compile=True, because torch.compile does not compute "
                "activations again. Use compile=False or accumulate=1."
            )
        check_choice("monitor", monitor, get_args(Monitor))
        check_choice("precision", precision, get_args(Precision))
        schedules = [*get_args(Schedule), None]
        check_choice("lr_schedule", lr_schedule, schedules, ", or pass skorch's LRScheduler in callbacks")
        resolved_device = resolve_device(device)
        if precision == "bf16" and resolved_device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ValueError(f"precision='bf16' is not supported by {resolved_device}. Use precision='float32'.")
        if accumulate > 1 and resolved_device.type == "mps":
            raise ValueError(
                f"accumulate={accumulate} is not supported by mps, where torch does not repeat the random numbers of "
                "dropout. Use device='cpu' or accumulate=1."
            )
        optimizer_class, optimizer_kwargs = _resolve_optimizer(optimizer, weight_decay)
        return cls(
            device=resolved_device,
            optimizer=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            lr=auto["lr"] if isinstance(lr, str | Mapping) else lr,
            part_lr={name: auto["lr"] if isinstance(rate, str) else rate for name, rate in rates.items()},
            lr_schedule=auto["lr_schedule"] if lr_schedule == "auto" else lr_schedule,
            max_grad_norm=max_grad_norm,
            batch_size=batch_size,
            accumulate=int(accumulate),
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            n_iter_no_change=n_iter_no_change,
            monitor=monitor,
            precision=precision,
            compile=compile,
            callbacks=check_callbacks(callbacks),
            verbose=verbose,
        )

    def check_part_lr(self, modalities: Iterable[str]) -> None:
        """Raise ValueError unless the learning rates of parts are those of modalities and of the heads."""
        names = list(modalities)
        if unknown := [name for name in self.part_lr if name not in [*names, HEAD]]:
            raise ValueError(
                f"lr names {unknown}, which are not modalities. Use {names}, or {HEAD!r} for all layers outside the "
                "encoders."
            )
        if HEAD in self.part_lr and HEAD in names:
            raise ValueError(
                f"lr={self.part_lr} is ambiguous: {HEAD!r} stands for all layers outside the encoders, and X has a "
                "modality of this name. Rename the modality."
            )

    def scaled(self, factor: float) -> TrainingOptions:
        """Return the options with all learning rates multiplied by a factor."""
        part_lr = {name: factor * rate for name, rate in self.part_lr.items()}
        return replace(self, lr=factor * self.lr, part_lr=part_lr)

    def log_stage(self, message: str) -> None:
        """Pass the beginning of a stage of a long fit to the logger ``mmestim``, and print it if `verbose` is set."""
        logging.getLogger("mmestim").info(message)
        if self.verbose:
            print(message)

    @classmethod
    def from_estimator(cls, estimator: Any, device: str | torch.device | None = None) -> TrainingOptions:
        """Return checked options from the parameters of a classifier.

        Parameters
        ----------
        estimator : estimator
            A multimodal classifier. Its `embedding_dim` and `max_memory` are checked too.
        device : str or torch.device, default=None
            Device to use instead of the estimator's parameter.

        Returns
        -------
        TrainingOptions
            The checked options.
        """
        check_number("embedding_dim", estimator.embedding_dim, low=1, integer=True)
        check_number("max_memory", estimator.max_memory)
        names = inspect.signature(cls.from_parameters).parameters
        parameters = {name: getattr(estimator, name) for name in names}
        if device is not None:
            parameters["device"] = device
        return cls.from_parameters(**parameters)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which encoders and heads run."""
        return autocast(self.precision, self.device)


def _is_auto(name: str, value: Any, otherwise: str = "") -> bool:
    """Return whether the value of a parameter is 'auto', and raise ValueError for other strings."""
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"{name}={value!r} is not supported. Use a number or 'auto'{otherwise}.")
    return isinstance(value, str)


def _auto_values(optimizer: Any) -> dict[str, Any]:
    """Return the values of 'auto' for an optimizer."""
    optimizer_class = getattr(optimizer, "func", optimizer)  # of a functools.partial
    return AUTO_ADAMW if optimizer_class in ("adamw", torch.optim.AdamW) else AUTO_OTHERS


def _resolve_optimizer(
    optimizer: Any, weight_decay: float | str
) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
    is_auto = isinstance(weight_decay, str)
    weight_decay = _auto_values(optimizer)["weight_decay"] if is_auto else weight_decay
    if isinstance(optimizer, str):
        check_choice("optimizer", optimizer, OPTIMIZERS, ", or a torch.optim class")
        # Fused kernels save time because small networks spend much of a step in the optimizer.
        kwargs: dict[str, Any] = {"momentum": 0.9, "fused": True} if optimizer == "sgd" else {"fused": True}
        return OPTIMIZERS[optimizer], {**kwargs, "weight_decay": weight_decay}
    if not callable(optimizer):
        raise TypeError(f"optimizer={optimizer!r} must be one of {list(OPTIMIZERS)} or a torch.optim class.")
    if optimizer is torch.optim.LBFGS:
        raise ValueError("optimizer=LBFGS needs a closure, which mini-batches cannot give. Use 'sgd' or 'adamw'.")
    accepted = inspect.signature(optimizer).parameters
    if "weight_decay" in getattr(optimizer, "keywords", {}):
        return optimizer, {}  # A functools.partial with its own weight decay.
    if "weight_decay" in accepted:
        return optimizer, {"weight_decay": weight_decay}
    if weight_decay and not is_auto:
        name = getattr(optimizer, "__name__", repr(optimizer))
        raise ValueError(f"weight_decay={weight_decay}: the optimizer {name} takes none. Set weight_decay=0.")
    return optimizer, {}
