"""Saving and loading of detectors: facts for the header, tensors, and the models rebuilt without data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..._serialization.model_file import TensorSpec
from ..._serialization.module_skeleton import CPU, build_on_meta, check_specs, float32, specs_of
from ..._training.devices import available_device, seeded
from ..._utils.validation import check_number
from .._audio.windowing import PREPARATION
from .._models.base import WindowModel
from .._models.calibration import ScoreFusion, UnalteredCalibrator, check_recalls, check_thresholds
from ..taxonomy import LABELS
from .clip_inference import FittedWindowModel
from .inputs import set_labels
from .parameters import new_window_model, training_options, window_lengths

if TYPE_CHECKING:
    from .detector import VoiceEditDetector

_REQUIRED_FACTS = {"labels", "preparation", "training_report_"}
_OPTIONAL_FACTS = {"n_features_in_", "classes_", "config"}


def to_file(detector: VoiceEditDetector) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what a file stores of a fitted detector.

    Parameters
    ----------
    detector : VoiceEditDetector
        Fitted detector.

    Returns
    -------
    facts : dict of str to object
        Attributes for the header, of types that `encode` accepts.
    tensors : dict of str to Tensor
        Thresholds and recalls, and by number of window length ``<number>.arrays.*`` and the weights of networks.
    """
    facts: dict[str, Any] = {
        "labels": detector._model_labels,
        "preparation": PREPARATION,
        "training_report_": detector.training_report_,
    }
    if hasattr(detector, "n_features_in_"):
        facts["n_features_in_"] = detector.n_features_in_
    if (config := next(iter(detector.models_.values())).model.config) is not None:
        facts["config"] = config
    arrays: dict[str, Any] = {}
    if (unaltered := detector._unaltered_calibrator) is not None:
        arrays |= {"thresholds": detector.thresholds_, "recalls": detector.recalls_}
        base_rate = np.nan if unaltered.base_rate is None else unaltered.base_rate
        arrays["unaltered"] = np.array([unaltered.weight, unaltered.offset, base_rate])
    else:
        facts["classes_"] = detector.classes_
    for number, (model, fusion) in enumerate(detector.models_.values()):
        model_arrays = {"weights": fusion.weights, "offsets": fusion.offsets, **model.arrays()}
        arrays |= {f"{number}.arrays.{name}": values for name, values in model_arrays.items()}
        for kind, network in model.networks.items():
            arrays |= {f"{number}.{kind}.{name}": value for name, value in network.state_dict().items()}
    return facts, {
        name: torch.as_tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values)
        for name, values in arrays.items()
    }


def from_header(
    detector: VoiceEditDetector,
    facts: Mapping[str, Any],
    specs: Mapping[str, TensorSpec],
    device: torch.device,
    has_user_modules: bool,
) -> list[WindowModel]:
    """Set the attributes from the header, and return the models that the tensors fit.

    Parameters
    ----------
    detector : VoiceEditDetector
        Unfitted detector with the parameters of the file.
    facts : mapping of str to object
        Decoded attributes.
    specs : mapping of str to TensorSpec
        Types and shapes of all tensors in the file.
    device : torch.device
        Device of the loaded detector.
    has_user_modules : bool
        Whether the file names a network that is not built in.

    Returns
    -------
    list of WindowModel
        A model for each window length, with untrained networks.

    Raises
    ------
    ValueError
        If the attributes contradict each other, the parameters or the tensors.
    """
    allowed = _REQUIRED_FACTS | _OPTIONAL_FACTS
    if facts.get("preparation") != PREPARATION:
        raise ValueError("it is a detector of another release, which prepared windows in another way. Train it again.")
    if not _REQUIRED_FACTS <= set(facts) <= allowed:
        raise ValueError(f"it has {sorted(facts)}, expected {sorted(allowed)}.")
    training_options(detector, device)
    labels = _checked_labels(facts["labels"], is_edits="classes_" not in facts)
    classes = _checked_classes(facts["classes_"], len(labels)) if "classes_" in facts else None
    set_labels(detector, labels, classes)
    detector.training_report_ = facts["training_report_"]
    if not isinstance(detector.training_report_, dict):
        raise ValueError("its training_report_ is not a dict.")
    if "n_features_in_" in facts:
        check_number("n_features_in_", facts["n_features_in_"], low=2, integer=True)
        detector.n_features_in_ = facts["n_features_in_"]
    config = facts.get("config")
    # A config with more layers than the file has tensors would take long to build, even without memory.
    if config is not None and not (isinstance(config, dict) and config.get("encoder_num_layers", 0) <= len(specs)):
        raise ValueError("its config does not fit the number of its tensors.")
    with float32(), seeded(0, CPU):
        return [
            build_on_meta(
                partial(_untrained_model, detector, labels, config),
                partial(_check_networks, number, specs),
                is_user_defined=True,  # Built-in networks have buffers that the file does not hold, too.
                is_small_enough=has_user_modules,
            )
            for number in range(len(window_lengths(detector.window)))
        ]


def from_tensors(
    detector: VoiceEditDetector,
    models: Sequence[WindowModel],
    tensors: Mapping[str, torch.Tensor],
    device: torch.device,
) -> None:
    """Set the fitted attributes from the tensors.

    Parameters
    ----------
    detector : VoiceEditDetector
        Detector that `from_header` has set up.
    models : sequence of WindowModel
        Models from `from_header`; their networks get the weights.
    tensors : mapping of str to Tensor
        All tensors of the file.
    device : torch.device
        Device of the networks.

    Raises
    ------
    ValueError
        If a tensor is missing, invalid or not used.
    """
    labels = detector._model_labels
    used: set[str] = set()
    detector._unaltered_calibrator = None
    if detector.finds_edits_:
        detector.thresholds_ = check_thresholds(_array(tensors, "thresholds"), 1 + len(labels))
        detector.recalls_ = check_recalls(_array(tensors, "recalls"), 1 + len(labels))
        detector._unaltered_calibrator = _load_unaltered(_array(tensors, "unaltered"))
        used |= {"thresholds", "recalls", "unaltered"}
    fitted: dict[float, FittedWindowModel] = {}
    for number, (seconds, model) in enumerate(zip(window_lengths(detector.window), models, strict=True)):
        fusion, names = _load_model(model, tensors, number, len(labels))
        model.to(device, detector.precision)
        fitted[seconds] = FittedWindowModel(model, fusion)
        used |= names
    if unused := sorted(set(tensors) - used):
        raise ValueError(f"it has the tensors {unused[:3]}, which no part of the model uses.")
    detector.device_, detector.models_ = str(device), fitted


def state_on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """Return a pickled state with all tensors on the CPU, so that a machine without the device can read it."""
    if "models_" in state and state["device_"] != "cpu":
        state["models_"] = copy.deepcopy(state["models_"])
        for fitted in state["models_"].values():
            fitted.model.to(CPU, fitted.model.precision)
    return state


def restore_device(detector: VoiceEditDetector) -> None:
    """Move an unpickled detector to its device, or keep it on the CPU if this machine does not have it."""
    if "models_" not in vars(detector) or detector.device_ == "cpu":
        return
    device = available_device(detector.device_, type(detector).__name__)
    detector.device_ = str(device)
    for fitted in detector.models_.values():
        fitted.model.to(device, fitted.model.precision)


def _checked_labels(labels: Any, *, is_edits: bool) -> list[str]:
    if not isinstance(labels, list) or not labels or any(not isinstance(label, str) for label in labels):
        raise ValueError("its labels are not a list of names.")
    if is_edits and [label for label in LABELS[1:] if label in labels] != labels:
        raise ValueError(f"its labels {labels} are not labels of the taxonomy in its order.")
    return labels


def _checked_classes(classes: Any, n_labels: int) -> np.ndarray:
    if (
        not isinstance(classes, np.ndarray)
        or classes.shape != (n_labels,)
        or n_labels < 2
        or not (classes[:-1] < classes[1:]).all()
    ):
        raise ValueError("its classes_ are not sorted, or their number differs from that of its labels.")
    return classes


def _untrained_model(detector: VoiceEditDetector, labels: list[str], config: dict[str, Any] | None) -> WindowModel:
    model = new_window_model(detector, config)
    model.networks = model.new_networks(labels)
    return model


def _check_networks(number: int, specs: Mapping[str, TensorSpec], model: WindowModel) -> None:
    """Compare the tensors of a model's networks with those in the file."""
    for kind, network in model.networks.items():
        prefix = f"{number}.{kind}."
        network_specs = {name: spec for name, spec in specs.items() if name.startswith(prefix)}
        check_specs(specs_of(network, prefix), network_specs)


def _load_model(
    model: WindowModel, tensors: Mapping[str, torch.Tensor], number: int, n_labels: int
) -> tuple[ScoreFusion, set[str]]:
    """Load one window length's model, and return the fusion of its scores and the names of the tensors it used."""
    prefix = f"{number}.arrays."
    names = {name for name in tensors if name.startswith(prefix)}
    arrays = {name.removeprefix(prefix): _array(tensors, name) for name in names}
    weights, offsets = arrays.pop("weights", np.zeros(0)), arrays.pop("offsets", np.zeros(0))
    fusion = ScoreFusion.from_arrays(weights, offsets, n_labels, model.n_models)
    model.set_arrays(arrays, n_labels)
    for kind, network in model.networks.items():
        state = {name: tensors[f"{number}.{kind}.{name}"] for name in network.state_dict()}
        network.load_state_dict(state)
        names |= {f"{number}.{kind}.{name}" for name in state}
    return fusion, names


def _load_unaltered(coefficients: np.ndarray) -> UnalteredCalibrator:
    """Return the calibrator of 'unaltered'."""
    if coefficients.shape != (3,) or not np.isfinite(coefficients[:2]).all() or coefficients[0] <= 0:
        raise ValueError("its calibration of 'unaltered' is not a positive weight, an offset and a base rate.")
    weight, offset, base_rate = coefficients.tolist()
    return UnalteredCalibrator(weight, offset, base_rate if 0 < base_rate < 1 else None)


def _array(tensors: Mapping[str, torch.Tensor], name: str) -> np.ndarray:
    if name not in tensors:
        raise ValueError(f"it has no tensor {name!r}.")
    return tensors[name].numpy()
