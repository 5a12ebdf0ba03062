"""What of a fitted detector travels in a file, and how it is built again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

from ..._serialization.model_file import TensorSpec
from ..._serialization.module_skeleton import CPU, build_on_meta, check_specs, float32, specs_of
from ..._training.devices import available_device, seeded
from ..._utils.validation import check_number
from .._models.base import WindowModel
from .._models.calibration import ScoreFusion, UnalteredCalibrator, check_recalls, check_thresholds
from ..taxonomy import CATEGORIES, LABELS, UNALTERED
from .clip_inference import FittedWindowModel


class SavedDetector:
    """What `mmestim.save` and `load` ask of a detector: facts for the header, tensors, and both back."""

    # Of the detector.
    labels_: np.ndarray
    classes_: Any
    thresholds_: np.ndarray
    recalls_: np.ndarray
    models_: dict[float, FittedWindowModel]
    precision: str
    _columns: list[str]
    training_report_: dict[str, Any]
    n_features_in_: int
    _unaltered: UnalteredCalibrator
    _options: Callable[[Any], Any]
    _windows: Callable[[], list[float]]
    _new_model: Callable[[Any], WindowModel]
    _config: dict[str, Any] | None
    device_: str

    _parameters_with_modules: ClassVar[tuple[str, ...]] = ("model",)
    # Audio, and what it is edited by.
    _parameters_left_out: ClassVar[tuple[str, ...]] = (
        "weights",
        "simulator",
        "sources",
        "noises",
        "impulse_responses",
    )

    @property
    def _finds_edits(self) -> bool:
        raise NotImplementedError

    def __getstate__(self):
        state = super().__getstate__()
        if "models_" in state and self.device_ != "cpu":
            # Tensors travel on the CPU, so that a machine without this device can read them.
            state["models_"] = copy.deepcopy(self.models_)
            for fitted in state["models_"].values():
                fitted.model.to(CPU, fitted.model.precision)
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "models_" not in state or self.device_ == "cpu":
            return
        device = available_device(self.device_, type(self).__name__)
        self.device_ = str(device)
        for fitted in self.models_.values():
            fitted.model.to(device, fitted.model.precision)

    _facts: ClassVar[tuple[str, ...]] = ("labels", "training_report_")

    def _to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Facts, which `encode` can take, and tensors by name."""
        facts = {"labels": self._columns, "training_report_": self.training_report_}
        facts |= {name: getattr(self, name) for name in ("n_features_in_",) if hasattr(self, name)}
        if (config := next(iter(self.models_.values())).model.config) is not None:
            facts["config"] = config
        arrays: dict[str, Any] = {}
        if self._finds_edits:
            arrays |= {"thresholds": self.thresholds_, "recalls": self.recalls_}
            arrays["unaltered"] = np.array([self._unaltered.weight, self._unaltered.offset])
        else:
            facts["classes_"] = self.classes_
        for number, (model, fusion) in enumerate(self.models_.values()):
            own = {"weights": fusion.weights, "offsets": fusion.offsets, **model.arrays()}
            arrays |= {f"{number}.arrays.{name}": values for name, values in own.items()}
            for kind, network in model.networks.items():
                arrays |= {f"{number}.{kind}.{name}": value for name, value in network.state_dict().items()}
        return facts, {
            name: torch.as_tensor(np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v)
            for name, v in arrays.items()
        }

    def _from_header(
        self, facts: Mapping[str, Any], specs: Mapping[str, TensorSpec], device: torch.device, has_users_modules: bool
    ) -> list[WindowModel]:
        """Take over the facts; models without what they learnt, once all networks are known to fit the tensors."""
        known = {*self._facts, "n_features_in_", "classes_", "config"}
        if not set(self._facts) <= set(facts) <= known:
            raise ValueError(f"it has {sorted(facts)}, expected {sorted(known)}.")
        self._options(device)
        labels, self.training_report_ = facts["labels"], facts["training_report_"]
        if not isinstance(labels, list) or not labels or any(not isinstance(label, str) for label in labels):
            raise ValueError("its labels are not a list of names.")
        if not isinstance(self.training_report_, dict):
            raise ValueError("its training_report_ is not a dict.")
        if "n_features_in_" in facts:
            check_number("n_features_in_", facts["n_features_in_"], low=2, integer=True)
            self.n_features_in_ = facts["n_features_in_"]
        self._columns = labels
        if "classes_" in facts:
            classes = facts["classes_"]
            if (
                not isinstance(classes, np.ndarray)
                or classes.shape != (len(labels),)
                or len(labels) < 2
                or not (classes[:-1] < classes[1:]).all()
            ):
                raise ValueError("classes_ are not in order, or not as many as labels.")
            self.classes_ = classes
        else:
            if [label for label in LABELS[1:] if label in labels] != labels:
                raise ValueError(f"its labels {labels} are not labels of the taxonomy in its order.")
            self.classes_ = [np.array([0, 1])] * (1 + len(labels))
        # As many layers as the file has weights for: more would take long even without memory.
        self._config = facts.get("config")
        if self._config is not None and not (
            isinstance(self._config, dict) and self._config.get("encoder_num_layers", 0) <= len(specs)
        ):
            raise ValueError("its config is not that of a model of this size.")
        models = []
        with float32(), seeded(0, CPU):
            for number in range(len(self._windows())):
                models.append(
                    build_on_meta(
                        self._sketch,
                        partial(_check_networks, number, specs),
                        is_user_defined=True,
                        is_small_enough=has_users_modules,
                    )
                )
        return models

    def _from_tensors(
        self, models: list[WindowModel], tensors: Mapping[str, torch.Tensor], device: torch.device
    ) -> None:
        """Take over the tensors."""
        n_labels = len(self._columns)
        self.labels_ = np.array([UNALTERED, *self._columns] if self._finds_edits else self._columns)
        self.categories_ = np.array(CATEGORIES)
        used = set()
        if self._finds_edits:
            self.thresholds_ = check_thresholds(_array(tensors, "thresholds"), 1 + n_labels)
            self.recalls_ = check_recalls(_array(tensors, "recalls"), 1 + n_labels)
            line = _array(tensors, "unaltered")
            if line.shape != (2,) or not np.isfinite(line).all() or line[0] <= 0:
                raise ValueError("its calibration of 'unaltered' is none.")
            self._unaltered = UnalteredCalibrator(*line.tolist())
            used |= {"thresholds", "recalls", "unaltered"}
        fitted = {}
        for number, (seconds, model) in enumerate(zip(self._windows(), models, strict=True)):
            start = f"{number}.arrays."
            arrays = {name.removeprefix(start): _array(tensors, name) for name in tensors if name.startswith(start)}
            weights, offsets = arrays.pop("weights", np.zeros(0)), arrays.pop("offsets", np.zeros(0))
            fusion = ScoreFusion.from_arrays(weights, offsets, n_labels, model.n_models)
            model.set_arrays(arrays, n_labels)
            used |= {name for name in tensors if name.startswith(start)}
            for kind, network in model.networks.items():
                state = {name: tensors[f"{number}.{kind}.{name}"] for name in network.state_dict()}
                network.load_state_dict(state)
                used |= {f"{number}.{kind}.{name}" for name in state}
            model.to(device, self.precision)
            fitted[seconds] = FittedWindowModel(model, fusion)
        if unused := sorted(set(tensors) - used):
            raise ValueError(f"it has the tensors {unused[:3]}, which belong to nothing.")
        self.device_, self.models_ = str(device), fitted

    def _sketch(self) -> WindowModel:
        model = self._new_model(self._config)
        model.networks = model.new_networks(self._columns)
        return model


def _array(tensors, name):
    if name not in tensors:
        raise ValueError(f"it has no tensor {name!r}.")
    return tensors[name].numpy()


def _check_networks(number, specs, model):
    """Compare the networks' tensors with those in the file."""
    for kind, network in model.networks.items():
        start = f"{number}.{kind}."
        own = {name: spec for name, spec in specs.items() if name.startswith(start)}
        check_specs(specs_of(network, start), own)
