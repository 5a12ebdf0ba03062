"""The one place that knows skorch: nets, how they are trained, and callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, EpochTimer, LRScheduler, PrintLog
from torch import nn
from torch._functorch import config as functorch_config
from tqdm.auto import tqdm

from .._data.batches import Batch, Rows
from .checkpoints import Checkpoint, Stateful
from .devices import default_generators, seed_for, seeded
from .options import TrainingOptions

# A name that no callback of a user's has.
EARLY_STOPPING_NAME = "mmestim_early_stopping"

# What a fit that goes on takes up of skorch's callbacks, a user's included.
RESUMABLE_CALLBACK_STATE = {
    LRScheduler: ("lr_scheduler_", "batch_idx_"),
    EarlyStopping: ("misses_", "dynamic_threshold_", "best_model_weights_", "best_epoch_"),
    EpochScoring: ("best_score_",),
}


def one_cycle(rates: Sequence[float], n_steps: int) -> Callback:
    """A schedule by steps: up to the rate of each group for a tenth of them, then down by a half cosine."""
    policy, total = torch.optim.lr_scheduler.OneCycleLR, n_steps + 1
    total += total == 10  # of which the rise is no step long, by which torch divides
    return LRScheduler(
        policy=policy, step_every="batch", max_lr=rates, total_steps=total, pct_start=0.1, cycle_momentum=False
    )


def weighted_cross_entropy(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of a batch, each row counted by its weight."""
    if batch.weight is None:
        return F.cross_entropy(logits, batch.y)
    return (F.cross_entropy(logits, batch.y, reduction="none") * batch.weight).mean()


def unimodal_cross_entropy(logits: torch.Tensor, batch: Batch, name: str) -> torch.Tensor:
    """The same of logits for all rows, on those that have modality `name`; 0 where none has."""
    if not len(batch.x[name]):
        return logits.new_zeros(())
    having = batch.with_modality(name)
    return weighted_cross_entropy(logits if having is batch else logits[batch.present[name]], having)


@torch.no_grad()
def evaluate(
    module: nn.Module, rows: Rows, options: TrainingOptions, on_batch: Callable[..., None] | None = None
) -> tuple[float, float, float]:
    """Cross-entropy, accuracy and entropy of the predictions, weighted means of a module in eval mode."""
    module.eval()
    totals = torch.zeros(4, device=options.device)
    for part in rows.epoch(rows.eval_batch_size(options.batch_size)):
        batch = rows.batch(part)
        with options.autocast():
            logits = module(batch)[0]
        log_shares = F.log_softmax(logits, dim=1)
        scores = [
            F.nll_loss(log_shares, batch.y, reduction="none"),
            (logits.argmax(1) == batch.y).float(),
            -(log_shares.exp() * log_shares).sum(1),
            torch.ones_like(log_shares[:, 0]),
        ]
        weight = 1.0 if batch.weight is None else batch.weight
        totals += torch.stack([(score * weight).sum() for score in scores])
        if on_batch is not None:
            on_batch(batch, logits)
    loss, hits, entropy, weight = totals.tolist()
    return loss / weight, hits / weight, entropy / weight


def selection_score(loss: float, accuracy: float) -> float:
    """What the best state of a module has most of: accuracy, and of equal ones the lowest loss."""
    return accuracy - 1e-6 * loss


class Objective(Stateful):
    """What a net minimises: cross-entropy of the first output. Subclasses add to it.

    The hooks are called in the order of the methods; `net` gives `module_`, `history`, `options`
    and `train_rows`. Nothing in `loss` or `after_backward` may read a value back to the CPU.
    What changes after `begin`, other than the net, is the state.
    """

    def begin(self, net: Net) -> None:
        """Before the first epoch, on the net's device and under its seed."""

    def begin_epoch(self, net: Net, epoch: list[torch.Tensor]) -> None:
        """Before each epoch, with the row numbers of its batches."""

    def loss(self, net: Net, output: Any, batch: Batch) -> torch.Tensor:
        """Loss of one batch from what the module returned."""
        return weighted_cross_entropy(output[0], batch)

    def after_backward(self, net: Net, batch: Batch) -> None:
        """Between backward and the optimizer's step."""

    def train_batch(self, net: Net, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Learn from one batch; its loss and its logits."""
        net.optimizer_.zero_grad()
        output = net.infer(batch)
        loss = self.loss(net, output, batch)
        loss.backward()
        self.after_backward(net, batch)
        net.step(batch)
        return loss.detach(), output[0]

    def end_epoch(self, net: Net) -> None:
        """After each epoch."""

    def end(self, net: Net) -> None:
        """After the last epoch."""


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

    def run(self, train: Rows, valid: Rows | None, seed: int) -> bool:
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
        self._check_finite(all(torch.isfinite(p).all() for p in self.module_.parameters()), "weights are not finite")
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
        scores = {"train_loss": self._train_epoch(train, epoch)}
        self._check_finite(np.isfinite(scores["train_loss"]), f"training loss is {scores['train_loss']}")
        if valid is not None:
            scores["valid_loss"], scores["valid_accuracy"] = self.validate(valid)
            self._check_finite(np.isfinite(scores["valid_loss"]), f"validation loss is {scores['valid_loss']}")
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

    def _train_epoch(self, train, epoch):
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

    def restart_stopping(self, n_epochs: int = 0) -> None:
        """Put early stopping off for `n_epochs`, to be said before each of them; with 0 it begins anew."""
        if stopper := dict(self.callbacks_).get(EARLY_STOPPING_NAME):
            if n_epochs == 0:
                stopper.on_train_begin(self)
            stopper.misses_ = -n_epochs

    def infer(self, batch: Batch, **fit_params: Any) -> Any:
        """The module's outputs for a batch, in the chosen precision."""
        with self.options.autocast():
            return self.module_(batch)

    def forward_iter(self, X: Rows, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """First output of the module for every batch of `X`, for skorch's scoring callbacks."""
        self.module_.train(training)
        with torch.set_grad_enabled(training):
            for rows in X.epoch(X.eval_batch_size(self.batch_size)):
                yield self.infer(X.batch(rows))[0].to(device)

    def validate(self, valid: Rows) -> tuple[float, float]:
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

    def _check_finite(self, finite, what):
        if finite:
            return
        clip = "" if self.options.max_grad_norm is not None else ", set max_grad_norm=1.0"
        raise ValueError(
            f"training diverged ({self.title}, epoch {len(self.history)}): the {what}. Lower lr (now {self.lr}){clip}, "
            "or bring the columns of X to a common scale."
        )


def fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Zero momentum where there is none: fused SGD fails where some parameters get their first gradient later."""
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum"):
            for parameter in filter(lambda p: p.requires_grad, group["params"]):
                optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))


class ShadowNetwork(Stateful):
    """A network of the same kind trained beside a net, with its objective and learning rate, on other rows."""

    def __init__(self, module: nn.Module, rows: Rows, net: Net, seed: int, title: str) -> None:
        quiet = replace(net.options, callbacks=[], early_stopping=False, lr_schedule=None, verbose=0)
        self.net = Net(module, objective=net.objective, options=quiet, n_classes=len(net.classes), title=title)
        self.net.initialize()
        self.rows, self.seed, self.generator = rows, seed, torch.Generator().manual_seed(seed)

    def train_epoch(self, lr: float) -> None:
        """One pass over the rows, with random numbers of its own."""
        self.net.history.new_epoch()
        for group in self.net.optimizer_.param_groups:
            group["lr"] = lr
        with seeded(seed_for(self.seed, str(len(self.net.history))), self.net.options.device):
            loss = self.net._train_epoch(self.rows, self.rows.epoch(self.net.batch_size, self.generator))
        self.net._check_finite(np.isfinite(loss), f"training loss is {loss}")

    def state_dict(self) -> dict[str, Any]:
        """What changes in training."""
        net, generator = self.net, self.generator
        n_epochs = len(net.history)
        return {"module": net.module_, "optimizer": net.optimizer_, "generator": generator, "n_epochs": n_epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        for _ in range(len(self.net.history), state["n_epochs"]):
            self.net.history.new_epoch()


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


class TrainingRun(NamedTuple):
    """What one call of `train` leaves behind besides the trained module."""

    history: list[dict[str, Any]]
    interrupted: bool


def train(
    module: nn.Module,
    train_rows: Rows,
    valid_rows: Rows,
    options: TrainingOptions,
    *,
    n_classes: int,
    seed: int,
    stage: str,
    modality: str | None = None,
    objective: Objective | None = None,
) -> TrainingRun:
    """Train `module` in place.

    With early stopping the best epoch on `valid_rows` is kept, and Ctrl-C after the first epoch
    ends the run there; before that it is raised on.
    """
    title = stage if modality is None else f"{stage} {modality}"
    net = Net(module, objective=objective or Objective(), options=options, n_classes=n_classes, title=title)
    # Compiled graphs are shared by the fits of a process, and some objectives go back through them twice.
    keeping = functorch_config.patch(donated_buffer=False) if options.compile else contextlib.nullcontext()
    with keeping, seeded(seed, options.device):
        interrupted = net.run(train_rows, valid_rows if options.early_stopping else None, seed)
    module.eval()
    kept = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "lr", "dur")
    history = [
        {"stage": stage, "modality": modality, **{key: row[key] for key in kept if key in row}} for row in net.history
    ]
    return TrainingRun(history, interrupted)


def _silent(*args: Any) -> None:
    """Nowhere for EarlyStopping to print to; the history says the same."""
