"""Skorch net that trains a network in batches from a `RowSource`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, EpochTimer, LRScheduler
from torch import nn

from .._data.batches import Batch, RowSource, read_ahead
from .._data.folds import PADDING, samples
from .._distributed.batch_norm import synchronized_batch_norm
from .._distributed.exchange import any_process, average, from_first, synchronize
from .._distributed.processes import leave, n_processes, rank
from .callbacks import EpochTable, ProgressBar, discard_output, fill_momentum
from .checkpoints import Checkpoint
from .devices import default_generators, seed_for
from .evaluation import evaluate, selection_loss
from .options import HEAD, TrainingOptions

if TYPE_CHECKING:
    from .loop import Objective

# Entry of the history that early stopping reads, the lower the better.
SELECTION = "selection_loss"

# Epochs whose validation losses are averaged if there are fewer validation rows than this. Both are our choice.
_SMOOTHED_EPOCHS, _FEW_ROWS = 3, 200

# Name of the early-stopping callback, with a prefix that keeps it apart from callbacks of the user.
EARLY_STOPPING_NAME = "mmestim_early_stopping"

# Attributes that a resumed fit restores, of skorch's callbacks and of callbacks of the user that derive from them.
RESUMABLE_CALLBACK_STATE = {
    LRScheduler: ("lr_scheduler_", "batch_idx_"),
    EarlyStopping: ("misses_", "dynamic_threshold_", "best_model_weights_", "best_epoch_"),
    EpochScoring: ("best_score_",),
}


class Net(NeuralNetClassifier):
    """Skorch net whose epoch loop takes whole batches and copies nothing to the CPU within an epoch.

    skorch builds the optimizer, the schedule and the compiled module, and runs the callbacks. Callbacks
    per batch are called only if one is given.

    Parameters
    ----------
    module : nn.Module
        Network that maps a batch to a sequence of outputs, logits first.
    objective : Objective
        Objective to minimise.
    options : TrainingOptions
        Options of the training.
    n_classes : int
        Number of classes.
    title : str
        Title in error messages.

    Attributes
    ----------
    heading : str
        Title in the progress bar and above the table of epochs.
    train_rows : RowSource
        Rows of the training under way.
    gradient_listeners : list of skorch.callbacks.Callback
        Callbacks that receive the gradients of each step.
    """

    history: Any
    module_: Any
    optimizer_: Any
    callbacks_: Any

    def __init__(
        self, module: nn.Module, *, objective: Objective, options: TrainingOptions, n_classes: int, title: str
    ) -> None:
        self.objective, self.options, self.title, self.heading = objective, options, title, title
        callbacks = list(options.callbacks)
        if options.early_stopping:
            # It must be last, because callbacks after the one that stops are not called.
            callbacks.append(
                (
                    EARLY_STOPPING_NAME,
                    EarlyStopping(
                        SELECTION,
                        options.n_iter_no_change,
                        threshold=0,
                        threshold_mode="abs",
                        sink=discard_output,
                        load_best=True,
                    ),
                )
            )
        super().__init__(
            module,
            criterion=nn.CrossEntropyLoss,
            optimizer=options.optimizer,
            lr=options.lr,
            max_epochs=options.max_epochs,
            batch_size=options.batch_size,
            train_split=None,
            callbacks=callbacks,
            classes=list(range(n_classes)),
            verbose=options.verbose,
            device=str(options.device),
            compile=options.compile,
            **{f"optimizer__{name}": value for name, value in options.optimizer_kwargs.items()},
        )

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        defaults: list[tuple[str, Callback]] = [("epoch_timer", EpochTimer())]
        epochs = self.options.schedule_epochs or self.options.max_epochs
        if self.options.lr_schedule == "step":
            # The rate falls to 10 % after 70 % of the epochs, as in OGM-GE.
            milestone = max(1, round(0.7 * epochs))
            schedule = {"policy": torch.optim.lr_scheduler.MultiStepLR, "milestones": [milestone], "gamma": 0.1}
            defaults.append(("lr_schedule", LRScheduler(**schedule, event_name="lr")))
        elif self.options.lr_schedule == "cosine":
            policy = torch.optim.lr_scheduler.CosineAnnealingLR
            defaults.append(("lr_schedule", LRScheduler(policy=policy, T_max=epochs, event_name="lr")))
        if self.options.verbose == 1:
            defaults.append(("progress", ProgressBar(self.heading)))
        elif self.options.verbose > 1:
            defaults.append(("print_log", EpochTable(self.heading, [SELECTION, f"{SELECTION}_best"])))
        return defaults

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Return the arguments of the optimizer, with a group for the heads and for each encoder if rates differ."""
        (groups,), kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if not self.options.part_lr:
            return (groups,), kwargs
        module = getattr(self.module_, "_orig_mod", self.module_)
        owners: dict[nn.Parameter, str] = {}
        for name, encoder in module.encoders():
            for parameter in encoder.parameters():
                if self._part_lr(owners.setdefault(parameter, name)) != self._part_lr(name):
                    raise ValueError(
                        f"lr={self.options.part_lr} has different rates for {owners[parameter]!r} and {name!r}, whose "
                        "encoders share parameters. Give them the same rate, or encoders of their own."
                    )
        parts: dict[str, list[nn.Parameter]] = {HEAD: []}  # Schedulers record the rate of the first group.
        for parameter in (parameter for group in groups for parameter in group["params"]):
            parts.setdefault(owners.get(parameter, HEAD), []).append(parameter)
        return ([{"params": part, "lr": self._part_lr(name), "part": name} for name, part in parts.items()],), kwargs

    def _part_lr(self, name: str) -> float:
        """Return the initial learning rate of an encoder or of the heads."""
        return self.options.part_lr.get(name, self.options.lr)

    def current_lr(self) -> dict[str, Any]:
        """Return the current learning rates as fields of the options of another training."""
        groups = self.optimizer_.param_groups
        return {"lr": groups[0]["lr"], "part_lr": {group["part"]: group["lr"] for group in groups if "part" in group}}

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Initialize the optimizer as skorch does, with momentum for every parameter."""
        super().initialize_optimizer(*args, **kwargs)
        fill_momentum(self.optimizer_)
        return self

    def run(self, train: RowSource, valid: RowSource | None, seed: int) -> bool:
        """Train for at most `max_epochs`.

        Parameters
        ----------
        train : RowSource
            Rows to train on.
        valid : RowSource or None
            Rows for early stopping.
        seed : int
            Seed of the shuffling.

        Returns
        -------
        bool
            Whether Ctrl-C ended the training. The best epoch is restored then.
        """
        self.train_rows, self._seed, self._is_averaged = train, seed, False
        generator = torch.Generator().manual_seed(seed)
        checkpoint = None if self.options.checkpoints is None else self.options.checkpoints.start()
        self.initialize()
        synchronize(self.module_)
        self.gradient_listeners: list[Callback] = []
        self.objective.begin(self)
        self._initialize_callbacks()  # `begin` may train other nets, which initialize the user's callbacks too.
        is_new = checkpoint is None or not checkpoint.is_finished
        if is_new:
            self.notify("on_train_begin", X=train, y=None)
        if checkpoint is not None:
            self._restore(checkpoint, generator)
        with synchronized_batch_norm(self.module_):
            interrupted = is_new and self._run_epochs(train, valid, generator, checkpoint)
        if is_new:
            self.notify("on_train_end", X=train, y=None)
            synchronize(self.module_)  # If a callback stops one process, its best epoch may be another one.
        self.objective.end(self)
        is_finite = all(bool(torch.isfinite(parameter).all()) for parameter in self.module_.parameters())
        self.check_finite(is_finite, "weights are not finite")
        if checkpoint is not None and is_new and not interrupted:
            checkpoint.write(self._parts(generator), finished=True)
        return interrupted

    def _parts(self, generator: torch.Generator) -> dict[str, Any]:
        """Return everything that the next epoch depends on, apart from the data, by name."""
        callbacks: dict[str, Any] = {}
        for name, callback in self.callbacks_:
            if hasattr(callback, "load_state_dict"):
                callbacks[name] = callback
            for kind, names in RESUMABLE_CALLBACK_STATE.items():
                if isinstance(callback, kind):
                    callbacks[name] = {key: vars(callback)[key] for key in names if key in vars(callback)}
        module = getattr(self.module_, "_orig_mod", self.module_)
        return {
            "module": module,
            "optimizer": self.optimizer_,
            "objective": self.objective,
            "callbacks": callbacks,
            "trainable": {name: p.requires_grad for name, p in module.named_parameters()},
            "shuffling": generator,
            "random": default_generators(self.options.device),
            "history": list(self.history),
        }

    def _restore(self, checkpoint: Checkpoint, generator: torch.Generator) -> None:
        """Restore the state in the checkpoint, if it has one."""
        parts = checkpoint.restore(self._parts(generator))
        for name, callback in self.callbacks_:
            if isinstance(state := parts["callbacks"].get(name), dict):
                vars(callback).update(state)
        for name, parameter in parts["module"].named_parameters():
            parameter.requires_grad_(parts["trainable"][name])
        self.history[:] = parts["history"]
        if self.options.verbose and self.history:
            print(f"{self.title}: epochs 1 to {len(self.history)} are in {str(checkpoint.path)!r}")

    def _run_epochs(
        self, train: RowSource, valid: RowSource | None, generator: torch.Generator, checkpoint: Checkpoint | None
    ) -> bool:
        """Train the remaining epochs, and return whether Ctrl-C ended the training."""
        try:
            with checkpoint or contextlib.nullcontext():
                while len(self.history) < self.max_epochs:
                    if not self._run_epoch(train, valid, generator):
                        if self._is_out_of_patience():
                            self._warn_if_loss_still_fell()
                        break
                    if checkpoint is not None and len(self.history) < self.max_epochs:
                        checkpoint.write(self._parts(generator))
        except KeyboardInterrupt:
            if n_processes() > 1:  # The other processes may be in another step.
                leave()
                raise
            if self.history and "train_loss" not in self.history[-1]:
                self.history.pop()
            if not self.history:
                raise
            best = getattr(dict(self.callbacks_).get(EARLY_STOPPING_NAME), "best_model_weights_", None)
            if best is not None:  # The interrupted epoch has changed the weights since.
                self.module_.load_state_dict(best)
            return True
        return False

    def _run_epoch(self, train: RowSource, valid: RowSource | None, generator: torch.Generator) -> bool:
        """Train for one epoch, and return whether to continue."""
        self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
        self.history.new_batch()  # Callbacks may read the latest batch.
        epoch = train.epoch(self.batch_size, generator)
        self.objective.begin_epoch(self, epoch)
        scores = {"train_loss": self.train_epoch(train, epoch)}
        synchronize(self.module_)  # A callback, or a random layer outside the encoders, may have set them apart.
        self.check_finite(bool(np.isfinite(scores["train_loss"])), f"training loss is {scores['train_loss']}")
        if valid is not None:
            scores["valid_loss"], scores["valid_accuracy"] = from_first(self.validate(valid))
            self.check_finite(bool(np.isfinite(scores["valid_loss"])), f"validation loss is {scores['valid_loss']}")
            scores[SELECTION] = self._selection_loss(len(valid), scores["valid_loss"], scores["valid_accuracy"])
        for name, score in scores.items():
            previous_scores = [row[name] for row in self.history[:-1]]
            self.history.record(name, score)
            if name in ("train_loss", "valid_loss"):
                self.history.record(f"{name}_best", score < min(previous_scores, default=np.inf))
        self.objective.end_epoch(self)
        stops = False
        try:
            self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
        except KeyboardInterrupt:  # skorch's callbacks raise it to stop the training.
            stops = True
        return not any_process(stops)

    def train_epoch(self, train: RowSource, epoch: list[torch.Tensor]) -> float:
        """Train on every batch of an epoch, and return the mean loss of its rows."""
        self.module_.train()
        self._seed_random_layers()
        begin_listeners, end_listeners = self._listeners("on_batch_begin"), self._listeners("on_batch_end")
        self.gradient_listeners = self._listeners("on_grad_computed")
        losses = torch.empty(len(epoch), device=self.options.device)
        for step, batch in enumerate(read_ahead(train, epoch, training=True)):
            for callback in begin_listeners:
                callback.on_batch_begin(self, batch=samples(batch), training=True)
            losses[step], logits = self.objective.train_batch(self, batch)
            for callback in end_listeners:
                callback.on_batch_end(self, batch=samples(batch), training=True, loss=losses[step], y_pred=logits)
        sizes = torch.tensor([rows.numel() for rows in epoch], dtype=torch.float32)
        return float((losses.cpu() * sizes).sum() / sizes.sum())

    def _seed_random_layers(self) -> None:
        """Give random layers numbers of their own on every process but the first."""
        if rank() > 0:
            for generator in default_generators(self.options.device):
                generator.manual_seed(seed_for(self._seed, "process", str(rank()), str(len(self.history))))

    def zero_grad(self) -> None:
        """Clear all gradients."""
        self.optimizer_.zero_grad()
        self._is_averaged = False

    def average_gradients(self) -> None:
        """Average the gradients over the processes, unless this has been done since they were cleared."""
        if n_processes() > 1 and not self._is_averaged:
            parameters = [p for p in self.module_.parameters() if p.requires_grad]
            for p, gradient in zip(parameters, average([p.grad for p in parameters], parameters), strict=True):
                p.grad = gradient
            self._is_averaged = True

    def step(self, batch: Batch) -> None:
        """Update the weights by their gradients."""
        self.average_gradients()
        self._is_averaged = False
        for callback in self.gradient_listeners:
            named = list(self.module_.named_parameters())
            x, y = samples(batch)
            callback.on_grad_computed(self, named_parameters=named, X=x, y=y, training=True)
        if self.options.max_grad_norm is not None:
            module = getattr(self.module_, "_orig_mod", self.module_)
            for part in getattr(module, "parts", [module]):  # Networks of folds train as if each were alone.
                nn.utils.clip_grad_norm_(part.parameters(), self.options.max_grad_norm)
        self.optimizer_.step()

    def defer_early_stopping(self, n_epochs: int = 0) -> None:
        """Suspend early stopping for `n_epochs`, or restart it if 0. Call it before each of these epochs."""
        if stopper := dict(self.callbacks_).get(EARLY_STOPPING_NAME):
            if n_epochs == 0:
                stopper.on_train_begin(self)
            stopper.misses_ = -n_epochs

    def infer(self, batch: Batch, **fit_params: Any) -> Any:
        """Return the outputs of the module for a batch, in the chosen precision."""
        with self.options.autocast():
            return self.module_(batch, **fit_params)

    def forward_iter(self, X: RowSource, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the first output of the module for every batch of `X`, for skorch's scoring callbacks."""
        self.module_.train(training)
        with torch.set_grad_enabled(training):
            for rows in X.epoch(X.eval_batch_size(self.batch_size)):
                yield self.infer(X.batch(rows))[0].flatten(0, -2).to(device)

    def validate(self, valid: RowSource) -> tuple[float, float]:
        """Return weighted cross-entropy and accuracy of the module in eval mode."""
        callbacks = self._listeners("on_batch_end")

        def notify_callbacks(batch: Batch, logits: torch.Tensor) -> None:
            x, y = samples(batch)
            logits = logits if len(logits) == len(y) else logits[batch.rows.flatten() != PADDING]
            loss = F.cross_entropy(logits, y)
            for callback in callbacks:
                callback.on_batch_end(self, batch=(x, y), training=False, loss=loss, y_pred=logits)

        loss, accuracy, _ = evaluate(self.module_, valid, self.options, notify_callbacks if callbacks else None)
        return loss, accuracy

    def _selection_loss(self, n_valid: int, loss: float, accuracy: float) -> float:
        """Return the value of the current epoch by which epochs are selected, the lower the better."""
        if self.options.monitor != "valid_loss" or n_valid >= _FEW_ROWS:
            return selection_loss(self.options.monitor, loss, accuracy)
        earlier = [row["valid_loss"] for row in self.history[-_SMOOTHED_EPOCHS:-1]]
        return float(np.mean([*earlier, loss]))

    def _is_out_of_patience(self) -> bool:
        """Return whether early stopping, rather than another callback, ended the training."""
        stopper = dict(self.callbacks_).get(EARLY_STOPPING_NAME)
        return stopper is not None and stopper.misses_ >= stopper.patience

    def _warn_if_loss_still_fell(self) -> None:
        """Warn if patience ran out while the validation loss still fell, which patience in accuracy allows."""
        losses = [row["valid_loss"] for row in self.history]
        n_since_lowest = len(losses) - 1 - int(np.argmin(losses))
        if self.options.monitor == "valid_accuracy" and n_since_lowest < max(1, self.options.n_iter_no_change // 3):
            warnings.warn(
                f"{self.title}: training stopped after epoch {len(losses)} of {self.max_epochs}, because the accuracy "
                f"on the validation rows had not improved for {self.options.n_iter_no_change} epochs, but their loss "
                "still fell. Use monitor='valid_loss', or raise n_iter_no_change.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _listeners(self, event: str) -> list[Callback]:
        """Return the callbacks that override the method `event`."""
        return [cb for _, cb in self.callbacks_ if getattr(type(cb), event) is not getattr(Callback, event)]

    def check_finite(self, is_finite: bool, problem: str) -> None:
        """Raise an error that describes the problem and its remedies unless `is_finite`."""
        if is_finite:
            return
        clip = "" if self.options.max_grad_norm is not None else ", set max_grad_norm=1.0"
        lr = self.options.part_lr or self.lr
        raise ValueError(
            f"training diverged ({self.title}, epoch {len(self.history)}): the {problem}. Lower lr (now {lr})"
            f"{clip}, or bring the columns of X to a common scale."
        )
