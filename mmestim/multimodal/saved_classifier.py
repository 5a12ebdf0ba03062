"""What of a fitted classifier travels in a file, and how its network is built again without data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from .._data.modalities import resolve_modalities, resolve_shapes
from .._networks.multimodal_networks import Branch, MultimodalModule
from .._serialization.model_file import TensorSpec
from .._serialization.module_skeleton import (
    CPU,
    build_on_meta,
    check_specs,
    count_values,
    float32,
    load_weights,
    specs_of,
)
from .._training.devices import seeded
from .._training.options import TrainingOptions
from .._utils.validation import check_number
from ..encoders.choice import encoder_of
from .saved_classifier_checks import by_encoder, probe_outputs

# What of a user's no sketch can be made of may ask for features, or weights of a head, in this number, or in that of
# its values in the file.
_MODEST_FEATURES, _MODEST_HEAD = 1024, 2**24

# Three of standardisation, weights and bias: what every encoder of ours has at least.
_LEAST_TENSORS = 5


class SavedNetwork:
    """What `mmestim.save` and `load` ask of a classifier: facts for the header, tensors, and both back."""

    # Of the classifier.
    modalities: Any
    shapes: Any
    embedding_dim: int
    classes_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray
    modalities_: dict[str, Any]
    shapes_: dict[str, tuple[int, ...]]
    module_: MultimodalModule
    device_: str
    n_iter_: int
    get_params: Callable[..., dict[str, Any]]
    _column_names: dict[str, list[str]]
    _check_parameters: Callable[[], None]
    encoder: Any
    _assemble: Callable[[dict[str, Branch], int], MultimodalModule]
    _new_encoder: Callable[[str], tuple[nn.Module, int]]
    _sample_shape: Callable[[str], tuple[int, ...]]

    # Fitted attributes that a reader of the model wants, beside those that predictions need.
    _facts: ClassVar[tuple[str, ...]] = ("n_iter_",)
    # Parameters that hold classes, functions or networks, which a file can only name.
    _parameters_with_modules: ClassVar[tuple[str, ...]] = ("encoder",)
    # Parameters of the machine that trains.
    _parameters_left_out: ClassVar[tuple[str, ...]] = ("callbacks", "checkpoint")

    def _to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Facts, which `encode` can take, and tensors by name."""
        facts = {name: getattr(self, name) for name in ("classes_", "n_features_in_", "shapes_", *self._facts)}
        facts["modalities_"] = list(self.modalities_)
        if hasattr(self, "feature_names_in_"):
            facts["feature_names_in_"] = self.feature_names_in_
        else:
            facts["column_names"] = self._column_names
        tensors = {f"module.{name}": value for name, value in self.module_.state_dict().items()}
        if odd := [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]:
            raise TypeError(f"the network keeps {odd[0]!r}, which is no tensor: keep it in a buffer.")
        columns = {f"columns.{name}": torch.from_numpy(index) for name, index in self.modalities_.items()}
        return facts, tensors | columns

    def _from_header(
        self, facts: Mapping[str, Any], specs: Mapping[str, TensorSpec], device: torch.device, has_users_modules: bool
    ) -> MultimodalModule:
        """Take over the facts; the network, ours in no memory, once all tensors are known to fit it."""
        known = {"classes_", "n_features_in_", "shapes_", "modalities_", *self._facts}
        if missing := known - set(facts):
            raise ValueError(f"it lacks {sorted(missing)}.")
        if unknown := set(facts) - known - {"feature_names_in_", "column_names"}:
            raise ValueError(f"it has {sorted(unknown)}, which {type(self).__name__} does not know.")
        for name in ("classes_", "n_features_in_", *self._facts):
            setattr(self, name, facts[name])
        # Of the columns only their number is known before the tensors are read.
        sizes = {name: _length(name, specs) for name in _strings("modalities_", facts["modalities_"], distinct=True)}
        self.modalities_ = {name: range(size) for name, size in sizes.items()}
        self.shapes_ = resolve_shapes(facts["shapes_"], self.modalities_)
        _check_classes(self.classes_)
        if type(self.n_features_in_) is not int or self.n_features_in_ != sum(sizes.values()) or not sizes:
            raise ValueError(
                f"n_features_in_={self.n_features_in_!r} is not the {sum(sizes.values())} of its modalities."
            )
        self._take_names(facts, sizes)
        self._check_facts()
        TrainingOptions.from_estimator(SimpleNamespace(**self.get_params(deep=False) | {"device": device}))
        self._check_parameters()
        return self._sketch(specs, has_users_modules)

    def _from_tensors(
        self, module: MultimodalModule, tensors: Mapping[str, torch.Tensor], device: torch.device
    ) -> None:
        """Take over the tensors, which fit the network."""
        self.modalities_ = {name: tensors[f"columns.{name}"].numpy() for name in self.modalities_}
        columns = np.concatenate(list(self.modalities_.values()))
        if not np.array_equal(np.sort(columns), np.arange(self.n_features_in_)):
            raise ValueError("its modalities do not part the columns of X: one is missing, twice or too high.")
        self._check_groups()
        if (names := getattr(self, "feature_names_in_", None)) is not None:
            self._column_names = {name: [*names[index]] for name, index in self.modalities_.items()}
        state = {name.removeprefix("module."): value for name, value in tensors.items() if name.startswith("module.")}
        load_weights(module, state)
        self.module_, self.device_ = module.to(device).eval(), str(device)

    def _check_facts(self) -> None:
        """Check the values of the facts; subclasses add theirs."""
        check_number("n_iter_", self.n_iter_, integer=True)

    def _check_groups(self) -> None:
        """Hold the parameters to the columns and shapes that the network was fitted with."""
        if self.modalities is not None:
            groups = resolve_modalities(self.modalities, self.n_features_in_, getattr(self, "feature_names_in_", None))
            if [*groups] != [*self.modalities_] or any(
                not np.array_equal(groups[name], index) for name, index in self.modalities_.items()
            ):
                raise ValueError("its parameter modalities is not what it was fitted with.")
        if not resolve_shapes(self.shapes, self.modalities_).items() <= self.shapes_.items():
            raise ValueError("its parameter shapes is not what it was fitted with.")

    def _take_names(self, facts: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        if "feature_names_in_" in facts:
            check_feature_names(facts["feature_names_in_"], sum(sizes.values()))
            self.feature_names_in_ = facts["feature_names_in_"]
            return
        self._column_names = facts.get("column_names", {})
        if not isinstance(self._column_names, dict) or not set(self._column_names) <= set(sizes):
            raise ValueError("column_names are not those of its modalities.")
        for name, columns in self._column_names.items():
            if len(_strings("column_names", columns)) != sizes[name]:
                raise ValueError(f"column_names has {len(columns)} names for {sizes[name]} column(s) of {name!r}.")

    def _sketch(self, specs: Mapping[str, TensorSpec], has_users_modules: bool) -> MultimodalModule:
        """The network as the parameters say, each part held against the file before the next one is made."""
        in_file, branches, n_classes = by_encoder(specs), {}, len(self.classes_)
        with seeded(0, CPU), float32():
            for i, name in enumerate(sorted(self.modalities_)):
                prefix = f"module.branches.{i}.encoder."
                encoder, size = self._sketch_encoder(name, prefix, in_file[prefix])
                with torch.device("meta"):
                    branches[name] = Branch(name, encoder, size, n_classes)
            columns = {f"columns.{name}": TensorSpec(torch.int64, (len(at),)) for name, at in self.modalities_.items()}
            n_weights = n_classes * sum(branch.embedding_dim for branch in branches.values())
            in_head = {name: spec for name, spec in specs.items() if name.startswith("module.fusion_head.")}
            return build_on_meta(
                lambda: self._assemble(branches, n_classes),
                lambda made: check_specs(specs_of(made, "module.") | columns, specs),
                is_user_defined=has_users_modules,
                is_small_enough=n_weights <= max(_MODEST_HEAD, count_values(in_head)),
            )

    def _sketch_encoder(self, name: str, prefix: str, found: Mapping[str, TensorSpec]) -> tuple[nn.Module, int]:
        """One modality's encoder and its number of features, if its tensors are those that were found."""
        given = encoder_of(self.encoder, name)
        # To sketch thousands of networks takes longer than to see that they came without weights.
        if isinstance(given, str) and len(found) < _LEAST_TENSORS:
            raise ValueError(f"its {len(found)} tensors are too few for the encoder of modality {name!r}.")
        n_features = 0 if isinstance(given, nn.Module) else self.embedding_dim
        return build_on_meta(
            lambda: self._new_encoder(name),
            lambda made: check_specs(specs_of(made[0], prefix), found),
            is_user_defined=not isinstance(given, str),
            is_small_enough=n_features <= max(_MODEST_FEATURES, count_values(found)),
        )

    def _check_rebuilt(self, rebuilt: SavedNetwork) -> None:
        """Raise ValueError unless the network that was built again, from the same weights, answers the same."""
        kept, fresh = self.module_.state_dict(), dict(rebuilt.module_.named_buffers())
        for name, buffer in self.module_.named_buffers():
            if name not in kept and not _is_same(buffer.detach().cpu(), fresh.get(name)):
                raise ValueError(
                    f"the buffer {name!r} of its network, which is not persistent, is not that of a new one: register "
                    "it with persistent=True."
                )
        shapes = {name: self._sample_shape(name) for name in self.modalities_}
        for mine, other in zip(*(probe_outputs(clf.module_, shapes) for clf in (self, rebuilt)), strict=True):
            if mine.shape != other.shape or not torch.allclose(mine, other, 1e-4, 1e-5, equal_nan=True):
                raise ValueError("the network that they describe gives other answers.")


def check_feature_names(names: Any, n_features: int) -> None:
    """Raise unless these are None or one name for each column, as scikit-learn keeps them."""
    if names is None or (isinstance(names, np.ndarray) and names.dtype == object and names.shape == (n_features,)):
        return
    raise ValueError(f"feature_names_in_ is not one name for each of {n_features} columns.")


def _is_same(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None or TensorSpec.from_tensor(one) != TensorSpec.from_tensor(other):
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _length(name: str, specs: Mapping[str, TensorSpec]) -> int:
    spec = specs.get(f"columns.{name}")
    if spec is None or spec.dtype is not torch.int64 or len(spec.shape) != 1 or spec.n_values == 0:
        raise ValueError(f"it has no columns of modality {name!r}, or not as a list of int64.")
    return spec.n_values


def _strings(name: str, values: Any, distinct: bool = False) -> list[str]:
    if not isinstance(values, list) or any(not isinstance(value, str) for value in values):
        raise ValueError(f"{name} is not a list of names.")
    if distinct and ("" in values or len(set(values)) < len(values)):
        raise ValueError(f"{name} has a name twice, or an empty one.")
    return values


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) < 2:
        raise ValueError("classes_ is not an array of two classes or more.")
    if not (classes[:-1] < classes[1:]).all():
        raise ValueError("classes_ are not in order, or one is there twice.")
