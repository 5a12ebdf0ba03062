"""Checks of a detector's parameters, and the objects that they describe."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import clone
from torch import nn

from ..._training.devices import seeded
from ..._training.options import TrainingOptions
from ..._utils.validation import check_choice, check_flag, check_number
from .._constants import MIN_SECONDS, RATE
from .._models.base import WindowModel
from .._models.registry import MODELS, ModelName, make_model
from .._simulation.plan_sampling import resolve_ranges
from .._simulation.simulator import EditSimulator, check_simulator
from ..taxonomy import LABELS

if TYPE_CHECKING:
    from .detector import VoiceEditDetector

Model = ModelName | Callable[..., nn.Module]

_MIN_HOP_SECONDS, _MAX_WINDOW_SECONDS = 0.01, 60.0


def check_parameters(detector: VoiceEditDetector) -> TrainingOptions:
    """Check all parameters before any audio is read, and return the options of the networks."""
    options = training_options(detector)
    check_simulator(resolve_simulator(detector))
    new_window_model(detector)
    return options


def check_networks(detector: VoiceEditDetector, labels: list[str]) -> None:
    """Build the networks and run them once, so that a faulty one is found before hours of simulation."""
    with seeded(0, torch.device("cpu")):
        new_window_model(detector).check_networks(labels)


def window_lengths(window: Any) -> list[float]:
    """Return the window lengths in seconds, the shortest first."""
    lengths = list(window) if isinstance(window, list | tuple) else [window]
    if not lengths:
        raise ValueError("window=[] must have one length or more.")
    for seconds in lengths:
        check_number("window", seconds, low=MIN_SECONDS, high=_MAX_WINDOW_SECONDS)
    if len(set(lengths)) < len(lengths):
        raise ValueError(f"window={window!r} has a length twice. Name each once.")
    return sorted(lengths)


def check_hop(hop: Any, shortest: float) -> None:
    """Raise unless windows of the shortest length, `hop` seconds apart, leave no gap."""
    if hop is not None:
        check_number("hop", hop, low=_MIN_HOP_SECONDS, high=shortest)


def training_options(detector: VoiceEditDetector, device: Any = None) -> TrainingOptions:
    """Check the parameters that need neither audio nor a simulator, and return the options of the networks.

    Parameters
    ----------
    detector : VoiceEditDetector
        Its parameters are checked.
    device : torch.device, default=None
        Device to use instead of the detector's parameter.

    Returns
    -------
    TrainingOptions
        Options for all networks, with a learning rate of 1 if `lr` is None.
    """
    check_hop(detector.hop, window_lengths(detector.window)[0])
    model = detector.model
    if isinstance(model, nn.Module):
        raise TypeError(
            f"model is an instance of {type(model).__name__}. Pass its class, or a function that builds it."
        )
    if isinstance(model, str) or not callable(model):
        check_choice("model", model, MODELS, ", or a class of nn.Module")
    if model == "hybrid" and detector.batch_size == 1:
        raise ValueError("batch_size=1: the networks of model='hybrid' need at least 2, for batch normalisation.")
    folder = detector.temp_folder
    if folder is not None and not (isinstance(folder, str | os.PathLike) and os.path.isdir(folder)):
        raise ValueError(f"temp_folder={folder!r} is not the path of a folder. Create the folder, or pass None.")
    if detector.n_clips is not None:
        check_number("n_clips", detector.n_clips, low=1, integer=True)
    check_number("training_budget", detector.training_budget, closed=False)
    check_flag("fine_tune", detector.fine_tune)
    check_number("sample_rate", detector.sample_rate, low=1, integer=True)
    check_number("max_false_alarm_rate", detector.max_false_alarm_rate, high=1)
    if detector.simulator is not None and not isinstance(detector.simulator, EditSimulator):
        raise TypeError(f"simulator={detector.simulator!r} must be an EditSimulator, or None.")
    return TrainingOptions.from_parameters(
        lr=1.0 if detector.lr is None else detector.lr,
        batch_size=detector.batch_size,
        optimizer=detector.optimizer,
        weight_decay=detector.weight_decay,
        max_grad_norm=detector.max_grad_norm,
        precision=detector.precision,
        device=detector.device if device is None else device,
        verbose=detector.verbose,
    )


def new_window_model(detector: VoiceEditDetector, config: dict[str, Any] | None = None) -> WindowModel:
    """Return an untrained model of windows; `config` describes a network whose weights come from a saved detector."""
    return make_model(detector.model, detector.weights, RATE, fine_tune=detector.fine_tune, config=config)


def resolve_simulator(detector: VoiceEditDetector) -> EditSimulator:
    """Return a copy of the detector's simulator, or the default one."""
    if detector.simulator is None:
        return default_simulator(detector)
    if detector.simulator.sample_rate != RATE:
        raise ValueError(
            f"simulator has sample_rate={detector.simulator.sample_rate}. Set it to {RATE}, the rate of the models."
        )
    return clone(detector.simulator)


def default_simulator(detector: VoiceEditDetector, random_state: int | None = None) -> EditSimulator:
    """Return a simulator of the detector's edits with its sources, noises and impulse responses."""
    return EditSimulator(
        detector.edits,
        sample_rate=RATE,
        sources=detector.sources,
        noises=detector.noises,
        impulse_responses=detector.impulse_responses,
        random_state=random_state,
    )


def column_orders(detector: VoiceEditDetector) -> list[list[str]]:
    """Return the possible columns of an indicator matrix without names, each without 'unaltered'."""
    return [list(resolve_ranges(resolve_simulator(detector).edits)), list(LABELS[1:])]
