"""The one place that knows skorch: nets, how they are trained, and callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, EpochTimer, LRScheduler, PrintLog
from torch import nn

from .._data.batches import Batch, RowSource
from .callbacks import _Progress, _silent, fill_momentum
from .checkpoints import Checkpoint
from .devices import default_generators
from .evaluation import evaluate, selection_score
from .options import TrainingOptions

if TYPE_CHECKING:
    from .loop import Objective

# A name that no callback of a user's has.
EARLY_STOPPING_NAME = "mmestim_early_stopping"

# What a fit that goes on takes up of skorch's callbacks, a user's included.
RESUMABLE_CALLBACK_STATE = {
    LRScheduler: ("lr_scheduler_", "batch_idx_"),
    EarlyStopping: ("misses_", "dynamic_threshold_", "best_model_weights_", "best_epoch_"),
    EpochScoring: ("best_score_",),
}


class Net(NeuralNetClassifier):
    """A skorch net whose epoch loop serves whole batches and reads nothing back within an epoch.

    skorch builds optimizer, schedule and compiled module and runs the callbacks; batch callbacks
    are called only if one is given.
    """

    history: Any
    module_: Any
    optimizer_: Any
    callbacks_: Any

    def __init__(
        self, module: nn.Module, *, objective: Objective, options: TrainingOptions, n_classes: int, title: str
    ) -> None:
        self.objective, self.options, self.title = objective, options, title
        callbacks = list(options.callbacks)
        if options.early_stopping:
            # Last, because it ends the round of callbacks when it stops.
            callbacks.append(
                (
                    EARLY_STOPPING_NAME,
                    EarlyStopping(
                        "selection_score",
                        options.n_iter_no_change,
                        lower_is_better=False,
                        threshold=0,
                        threshold_mode="abs",
                        sink=_silent,
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
    def _default_callbacks(self):
        defaults: list[tuple[str, Callback]] = [("epoch_timer", EpochTimer())]
        epochs = self.options.max_epochs
        if self.options.lr_schedule == "step":
            # A tenth at 70 % of the epochs, the field's convention (OGM-GE).
            milestone = max(1, round(0.7 * epochs))
            schedule = {"policy": torch.optim.lr_scheduler.MultiStepLR, "milestones": [milestone], "gamma": 0.1}
            defaults.append(("lr_schedule", LRScheduler(**schedule, event_name="lr")))
        elif self.options.lr_schedule == "cosine":
            policy = torch.optim.lr_scheduler.CosineAnnealingLR
            defaults.append(("lr_schedule", LRScheduler(policy=policy, T_max=epochs, event_name="lr")))
        if self.options.verbose == 1:
            defaults.append(("progress", _Progress(self.title)))
        elif self.options.verbose > 1:
            defaults.append(("print_log", PrintLog()))
        return defaults

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """As skorch does, and with momentum for every parameter."""
        super().initialize_optimizer(*args, **kwargs)
        fill_momentum(self.optimizer_)
        return self

    def run(self, train: RowSource, valid: RowSource | None, seed: int) -> bool:
        """Train for at most `max_epochs`; whether Ctrl-C ended it, with the best epoch restored."""
        self.train_rows = train
        generator = torch.Generator().manual_seed(seed)
        checkpoint = None if self.options.checkpoints is None else self.options.checkpoints.start()
        self.initialize()
        self.gradient_listeners: list[Callback] = []
        self.objective.begin(self)
        self._initialize_callbacks()  # Nets that were trained in `begin` have taken over the user's.
        is_new = checkpoint is None or not checkpoint.is_finished
        if is_new:
            self.notify("on_train_begin", X=train, y=None)
        if checkpoint is not None:
            self._restore(checkpoint, generator)
        interrupted = is_new and self._run_epochs(train, valid, generator, checkpoint)
        if is_new:
            self.notify("on_train_end", X=train, y=None)
        self.objective.end(self)
        self.check_finite(all(torch.isfinite(p).all() for p in self.module_.parameters()), "weights are not finite")
        if checkpoint is not None and is_new and not interrupted:
            checkpoint.write(self._parts(generator), finished=True)
        return interrupted

    def _parts(self, generator: torch.Generator) -> dict[str, Any]:
        """What the next epoch depends on besides the data, by name."""
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
        """Take up what the checkpoint has, if anything."""
        parts = checkpoint.restore(self._parts(generator))
        for name, callback in self.callbacks_:
            if isinstance(kept := parts["callbacks"].get(name), dict):
                vars(callback).update(kept)
        for name, parameter in parts["module"].named_parameters():
            parameter.requires_grad_(parts["trainable"][name])
        self.history[:] = parts["history"]
        if self.options.verbose and self.history:
            print(f"{self.title}: epochs 1 to {len(self.history)} are in {str(checkpoint.path)!r}")

    def _run_epochs(self, train, valid, generator, checkpoint):
        """Train to the end; whether it came by Ctrl-C."""
        try:
            while len(self.history) < self.max_epochs:
                if not self._run_epoch(train, valid, generator):
                    break
                if checkpoint is not None and len(self.history) < self.max_epochs:
                    checkpoint.write(self._parts(generator))
        except KeyboardInterrupt:
            if self.history and "train_loss" not in self.history[-1]:
                self.history.pop()
            if not self.history:
                raise
            best = getattr(dict(self.callbacks_).get(EARLY_STOPPING_NAME), "best_model_weights_", None)
            if best is not None:  # The epoch under way has moved the weights on from it.
                self.module_.load_state_dict(best)
            return True
        return False

    def _run_epoch(self, train, valid, generator):
        self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
        self.history.new_batch()  # For callbacks that look at the latest one.
        epoch = train.epoch(self.batch_size, generator)
        self.objective.begin_epoch(self, epoch)
        scores = {"train_loss": self.train_epoch(train, epoch)}
        self.check_finite(np.isfinite(scores["train_loss"]), f"training loss is {scores['train_loss']}")
        if valid is not None:
            scores["valid_loss"], scores["valid_accuracy"] = self.validate(valid)
            self.check_finite(np.isfinite(scores["valid_loss"]), f"validation loss is {scores['valid_loss']}")
            scores["selection_score"] = selection_score(scores["valid_loss"], scores["valid_accuracy"])
        for name, score in scores.items():
            before = [row[name] for row in self.history[:-1]]
            self.history.record(name, score)
            if name.endswith("loss"):
                self.history.record(f"{name}_best", score < min(before, default=np.inf))
        self.objective.end_epoch(self)
        try:
            self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
        except KeyboardInterrupt:  # How skorch's callbacks say that training is done.
            return False
        return True

    def train_epoch(self, train, epoch):
        self.module_.train()
        before, after = self._listeners("on_batch_begin"), self._listeners("on_batch_end")
        self.gradient_listeners = self._listeners("on_grad_computed")
        losses = torch.empty(len(epoch), device=self.options.device)
        for step, rows in enumerate(epoch):
            batch = train.batch(rows, training=True)
            for callback in before:
                callback.on_batch_begin(self, batch=(batch.x, batch.y), training=True)
            losses[step], logits = self.objective.train_batch(self, batch)
            for callback in after:
                callback.on_batch_end(self, batch=(batch.x, batch.y), training=True, loss=losses[step], y_pred=logits)
        sizes = torch.tensor([len(rows) for rows in epoch], dtype=torch.float32)
        return float((losses.cpu() * sizes).sum() / sizes.sum())

    def step(self, batch: Batch) -> None:
        """Move the weights by the gradients that are there."""
        for callback in self.gradient_listeners:
            named = list(self.module_.named_parameters())
            callback.on_grad_computed(self, named_parameters=named, X=batch.x, y=batch.y, training=True)
        if self.options.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.module_.parameters(), self.options.max_grad_norm)
        self.optimizer_.step()

    def defer_early_stopping(self, n_epochs: int = 0) -> None:
        """Put early stopping off for `n_epochs`, to be said before each of them; with 0 it begins anew."""
        if stopper := dict(self.callbacks_).get(EARLY_STOPPING_NAME):
            if n_epochs == 0:
                stopper.on_train_begin(self)
            stopper.misses_ = -n_epochs

    def infer(self, batch: Batch, **fit_params: Any) -> Any:
        """The module's outputs for a batch, in the chosen precision."""
        with self.options.autocast():
            return self.module_(batch)

    def forward_iter(self, X: RowSource, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """First output of the module for every batch of `X`, for skorch's scoring callbacks."""
        self.module_.train(training)
        with torch.set_grad_enabled(training):
            for rows in X.epoch(X.eval_batch_size(self.batch_size)):
                yield self.infer(X.batch(rows))[0].to(device)

    def validate(self, valid: RowSource) -> tuple[float, float]:
        """Cross-entropy and accuracy, both weighted, of the module in eval mode."""
        callbacks = self._listeners("on_batch_end")

        def tell(batch: Batch, logits: torch.Tensor) -> None:
            loss = F.cross_entropy(logits, batch.y)
            for callback in callbacks:
                callback.on_batch_end(self, batch=(batch.x, batch.y), training=False, loss=loss, y_pred=logits)

        loss, accuracy, _ = evaluate(self.module_, valid, self.options, tell if callbacks else None)
        return loss, accuracy

    def _listeners(self, event):
        return [cb for _, cb in self.callbacks_ if getattr(type(cb), event) is not getattr(Callback, event)]

    def check_finite(self, finite, what):
        if finite:
            return
        clip = "" if self.options.max_grad_norm is not None else ", set max_grad_norm=1.0"
        raise ValueError(
            f"training diverged ({self.title}, epoch {len(self.history)}): the {what}. Lower lr (now {self.lr}){clip}, "
            "or bring the columns of X to a common scale."
        )
