"""Stages of a fit, and extensions of skorch's training: learning rate schedule, progress bar and others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from skorch.callbacks import (
    BatchScoring,
    Callback,
    EpochScoring,
    InputShapeSetter,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
)
from tqdm.auto import tqdm

_NO_BATCH_SCORES = "reads scores per batch, but the history has scores per epoch: use EpochScoring"
# Callbacks of skorch that do not work with `Net`, and the reason with the way out.
_UNSUPPORTED = {
    BatchScoring: _NO_BATCH_SCORES,
    PassthroughScoring: _NO_BATCH_SCORES,
    InputShapeSetter: "sets a parameter of skorch's module: use an encoder class that takes input_shape",
}


def check_callbacks(callbacks: Any) -> list[Any]:
    """Return the parameter `callbacks` as a list, and raise for entries that are not callbacks or do not work.

    Parameters
    ----------
    callbacks : list or None
        Callbacks of skorch, as instances, classes, or pairs of a name and one of these.

    Returns
    -------
    list
        The entries.

    Raises
    ------
    TypeError
        If `callbacks` is not a list, or an entry is not a callback.
    ValueError
        If a callback does not work with nets of this package.
    """
    if not isinstance(callbacks, list | None):
        raise TypeError(f"callbacks={callbacks!r} must be a list of skorch callbacks, or None.")
    for entry in callbacks or []:
        is_named = isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], str)
        callback = entry[1] if is_named else entry
        if callback is None:  # skorch skips it.
            continue
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise TypeError(
                f"callbacks has {entry!r}, which is neither a skorch callback nor a pair of a name and a callback."
            )
        for unsupported, reason in _UNSUPPORTED.items():
            if issubclass(kind, unsupported):
                raise ValueError(f"callbacks has {kind.__name__}, which {reason}.")
        if isinstance(callback, EpochScoring) and not callback.use_caching:
            raise ValueError(
                f"callbacks has EpochScoring(use_caching={callback.use_caching}), which needs a dataset of skorch: "
                "use_caching=True scores the predictions of the epoch."
            )
    return list(callbacks or [])


class Stages:
    """Stages of one fit, counted as they start.

    Parameters
    ----------
    n_stages : int
        Number of stages of the whole fit.

    Attributes
    ----------
    n_started : int
        Number of stages that have started.
    n_epochs : int
        Number of complete epochs of the latest stage.
    """

    def __init__(self, n_stages: int) -> None:
        self.n_stages, self.n_started, self.n_epochs = n_stages, 0, 0
        self._title, self._is_running = "", False

    @contextlib.contextmanager
    def start(self, net: Any) -> Iterator[None]:
        """Count the training of a net inside the context, and name it in the net's heading.

        A training inside another one, such as that of a balancer's helper network, is not a stage of its own.

        Parameters
        ----------
        net : Net
            The net, before its training.
        """
        if self._is_running:
            yield
            return
        self.n_started, self.n_epochs, self._title, self._is_running = self.n_started + 1, 0, net.title, True
        if self.n_stages > 1:
            net.heading = f"stage {self.n_started} of {self.n_stages}: {net.title}"
        try:
            yield
        finally:
            self.n_epochs, self._is_running = len(net.history or []), False

    def interruption(self, owner: str, checkpoint: Any, is_fitted: bool) -> str:
        """Return the message of a fit that Ctrl-C has ended: where it was, what is kept, and how to resume.

        Parameters
        ----------
        owner : str
            Name of the classifier.
        checkpoint : path-like or None
            Its parameter `checkpoint`.
        is_fitted : bool
            Whether the epochs so far give a classifier.

        Returns
        -------
        str
            The message.
        """
        stage = f" of stage {self.n_started} of {self.n_stages} ({self._title})" if self.n_stages > 1 else ""
        place = f"after {self.n_epochs} complete epoch(s){stage}" if self.n_started else "before its first stage"
        kept = "Nothing is kept: the classifier is not fitted."
        if is_fitted:
            n_left = self.n_stages - self.n_started
            left = f", without {n_left} later stage(s)" if n_left else ""
            kept = f"The classifier is fitted with the epochs so far{left}."
        resume = f"The next fit with checkpoint={str(checkpoint)!r} resumes from there."
        if checkpoint is None:
            resume = "With checkpoint='folder' and an int as random_state, the next fit could resume from there."
        return f"{owner}.fit was interrupted {place}. {kept} {resume}"


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


class EpochTable(PrintLog):
    """Table of the epochs under the title of the training.

    Parameters
    ----------
    title : str
        Title of the training.
    keys_ignored : list of str
        Entries of the history that are not shown.
    """

    def __init__(self, title: str, keys_ignored: list[str]) -> None:
        super().__init__(keys_ignored=keys_ignored)
        self.title = title

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Print the title."""
        self.sink(self.title)


def discard_output(*args: Any) -> None:
    """Discard the messages of EarlyStopping; the history holds the same information."""
