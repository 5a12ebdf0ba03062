"""Saving and loading of classifiers: attributes for the header, tensors, and the network rebuilt without data."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from .._data.batches import Batch
from .._data.layouts import channels_first
from .._data.modalities import resolve_modalities, resolve_shapes
from .._networks.fold_networks import FoldEncoders
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
from .._training.devices import available_device, seeded
from .._training.options import TrainingOptions
from ..encoders.choice import encoder_for, is_built_in

if TYPE_CHECKING:
    from .base import MultimodalClassifier

# Limits for a user's module that cannot be built on the meta device: features per encoder and weights of the fusion
# head. A file that holds more values than these raises the limit to its own number.
_MAX_FEATURES, _MAX_HEAD_WEIGHTS = 1024, 2**24

# The smallest built-in encoder has vectors of tokens, a weight and a bias.
_MIN_ENCODER_TENSORS = 3


def to_file(estimator: MultimodalClassifier) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the attributes and tensors that a file stores for a fitted classifier.

    Parameters
    ----------
    estimator : MultimodalClassifier
        Fitted classifier.

    Returns
    -------
    facts : dict of str to object
        Attributes for the header, of types that `encode` accepts.
    tensors : dict of str to Tensor
        Weights as ``module.*``, column numbers as ``columns.*`` and offsets as ``offsets.*``.
    """
    names = ("classes_", "n_features_in_", "shapes_", *estimator._saved_attributes)
    facts = {name: getattr(estimator, name) for name in names}
    facts["modalities_"] = list(estimator.modalities_)
    if hasattr(estimator, "feature_names_in_"):
        facts["feature_names_in_"] = estimator.feature_names_in_
    else:
        facts["column_names"] = estimator._column_names
    if estimator._channels_last:
        facts["channels_last"] = estimator._channels_last
    tensors = {f"module.{name}": value for name, value in estimator.module_.state_dict().items()}
    if non_tensors := [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]:
        raise TypeError(f"the network keeps {non_tensors[0]!r}, which is not a tensor: keep it in a buffer.")
    columns = {f"columns.{name}": torch.from_numpy(numbers) for name, numbers in estimator.modalities_.items()}
    offsets = {f"offsets.{name}": torch.from_numpy(values) for name, values in estimator.offsets_.items()}
    return facts, tensors | columns | offsets


def from_header(
    estimator: MultimodalClassifier,
    facts: Mapping[str, Any],
    specs: Mapping[str, TensorSpec],
    device: torch.device,
    has_user_modules: bool,
) -> MultimodalModule:
    """Set the attributes from the header, and return the network that the tensors fit.

    Built-in encoders are on the meta device, without memory, until `from_tensors` loads the weights.

    Parameters
    ----------
    estimator : MultimodalClassifier
        Unfitted classifier with the parameters of the file.
    facts : mapping of str to object
        Decoded attributes.
    specs : mapping of str to TensorSpec
        Types and shapes of all tensors in the file.
    device : torch.device
        Device of the loaded network.
    has_user_modules : bool
        Whether the file names encoders or a balancer that are not built in.

    Returns
    -------
    MultimodalModule
        The network without its weights.

    Raises
    ------
    ValueError
        If the attributes contradict each other, the parameters or the tensors.
    """
    facts = _of_earlier_version(facts) | dict(facts)
    required = {"classes_", "n_features_in_", "shapes_", "modalities_", *estimator._saved_attributes}
    if "branch_scores_" not in facts and "anchor_" not in estimator._saved_attributes:
        required -= {"branch_scores_"}  # Late fusion did not store them before it was cross-fitted.
    if missing := required - set(facts):
        raise ValueError(f"it lacks {sorted(missing)}.")
    if "fusion_weights_" not in estimator._saved_attributes:
        facts.pop("fusion_weights_")
    if unknown := set(facts) - required - {"feature_names_in_", "column_names", "channels_last"}:
        raise ValueError(f"it has {sorted(unknown)}, which {type(estimator).__name__} does not have.")
    for name in sorted(required - {"shapes_", "modalities_"}):
        setattr(estimator, name, facts[name])
    # Before the tensors are read, only the number of columns is available.
    names = _checked_strings("modalities_", facts["modalities_"], are_distinct=True)
    n_columns = {name: _count_columns(name, specs) for name in names}
    estimator.modalities_ = {name: cast(Any, range(number)) for name, number in n_columns.items()}
    estimator.shapes_ = resolve_shapes(facts["shapes_"], estimator.modalities_)
    estimator._channels_last = _checked_strings("channels_last", facts.get("channels_last", []), are_distinct=True)
    if any(len(estimator.shapes_.get(name, ())) != 3 for name in estimator._channels_last):
        raise ValueError("channels_last names a modality that has no images.")
    _check_classes(estimator.classes_)
    n_total, n_features_in = sum(n_columns.values()), estimator.n_features_in_
    if type(n_features_in) is not int or n_features_in != n_total or not n_columns:
        raise ValueError(f"n_features_in_={n_features_in!r} differs from the {n_total} columns of its modalities.")
    _set_feature_names(estimator, facts, n_columns)
    estimator._check_saved_attributes()
    TrainingOptions.from_estimator(estimator, device)
    estimator._check_parameters()
    return _build_network(estimator, specs, has_user_modules)


def state_on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """Return a pickled state with all tensors on the CPU, so that a machine without the device can read it."""
    if "module_" in state and state["device_"] != "cpu":
        state["module_"] = copy.deepcopy(state["module_"]).cpu()
    return state


def restore_device(classifier: MultimodalClassifier) -> None:
    """Move an unpickled classifier to its device, or keep it on the CPU if this machine does not have it."""
    if "module_" not in vars(classifier) or classifier.device_ == "cpu":
        return
    device = available_device(classifier.device_, type(classifier).__name__)
    classifier.device_ = str(device)
    classifier.module_.to(device)


def _of_earlier_version(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that files of earlier versions lack, whose networks were fused as equals, one per branch."""
    names = facts.get("modalities_")
    weights = dict.fromkeys(map(str, names), 1.0) if isinstance(names, list) else {}
    return {"n_networks_": 1, "fusion_weights_": weights}


def from_tensors(
    estimator: MultimodalClassifier, module: MultimodalModule, tensors: Mapping[str, torch.Tensor], device: torch.device
) -> None:
    """Set the columns of the modalities, and load the weights into the network that `from_header` returned.

    Parameters
    ----------
    estimator : MultimodalClassifier
        Classifier that `from_header` prepared.
    module : MultimodalModule
        Its network.
    tensors : mapping of str to Tensor
        Contents of the file.
    device : torch.device
        Device to move the network to.

    Raises
    ------
    ValueError
        If the columns do not partition X, or contradict the parameters.
    """
    estimator.modalities_ = {name: tensors[f"columns.{name}"].numpy() for name in estimator.modalities_}
    columns = np.concatenate(list(estimator.modalities_.values()))
    if not np.array_equal(np.sort(columns), np.arange(estimator.n_features_in_)):
        raise ValueError("its modalities do not partition the columns of X: one is missing, repeated or too high.")
    estimator.offsets_ = {
        name: tensors[f"offsets.{name}"].numpy() for name in estimator.modalities_ if f"offsets.{name}" in tensors
    }
    if not all(np.isfinite(offsets).all() for offsets in estimator.offsets_.values()):
        raise ValueError("its offsets are not finite.")
    _check_modality_parameters(estimator)
    if (names := getattr(estimator, "feature_names_in_", None)) is not None:
        estimator._column_names = {name: [*names[numbers]] for name, numbers in estimator.modalities_.items()}
    state = {name.removeprefix("module."): value for name, value in tensors.items() if name.startswith("module.")}
    load_weights(module, state)
    estimator.module_, estimator.device_ = module.to(device).eval(), str(device)


def check_rebuilt(estimator: MultimodalClassifier, rebuilt: MultimodalClassifier) -> None:
    """Raise ValueError unless the rebuilt network, which has the same weights, gives the same outputs."""
    saved_names, rebuilt_buffers = estimator.module_.state_dict(), dict(rebuilt.module_.named_buffers())
    for name, buffer in estimator.module_.named_buffers():
        if name not in saved_names and not _is_same_tensor(buffer.detach().cpu(), rebuilt_buffers.get(name)):
            raise ValueError(
                f"the buffer {name!r} of its network is not persistent and differs from that of a new network: "
                "register it with persistent=True."
            )
    shapes = {name: estimator._sample_shape(name) for name in estimator.modalities_}
    outputs, rebuilt_outputs = (_probe_outputs(classifier.module_, shapes) for classifier in (estimator, rebuilt))
    for output, rebuilt_output in zip(outputs, rebuilt_outputs, strict=True):
        is_same_shape = output.shape == rebuilt_output.shape
        if not is_same_shape or not torch.allclose(output, rebuilt_output, 1e-4, 1e-5, equal_nan=True):
            raise ValueError("a network built from its parameters gives different outputs.")


def check_feature_names(names: Any, n_features: int) -> None:
    """Raise ValueError unless `names` is None or an object array with one name per column."""
    if names is None or (isinstance(names, np.ndarray) and names.dtype == object and names.shape == (n_features,)):
        return
    raise ValueError(f"feature_names_in_ does not have one name for each of the {n_features} columns.")


def _check_modality_parameters(estimator: MultimodalClassifier) -> None:
    """Raise unless `modalities` and `shapes` describe the columns and shapes of the fitted network."""
    if estimator.modalities is not None:
        feature_names = getattr(estimator, "feature_names_in_", None)
        columns = resolve_modalities(estimator.modalities, estimator.n_features_in_, feature_names)
        if [*columns] != [*estimator.modalities_] or any(
            not np.array_equal(columns[name], numbers) for name, numbers in estimator.modalities_.items()
        ):
            raise ValueError("its parameter modalities differs from what it was fitted with.")
    given = resolve_shapes(estimator.shapes, estimator.modalities_)
    # Version 0.1.0 did not move the channels of images.
    if any(estimator.shapes_.get(name) not in (shape, channels_first(shape)) for name, shape in given.items()):
        raise ValueError("its parameter shapes differs from what it was fitted with.")


def _set_feature_names(estimator: MultimodalClassifier, facts: Mapping[str, Any], n_columns: Mapping[str, int]) -> None:
    """Set the names of the columns: of all of X, or per modality if X was a dict."""
    if "feature_names_in_" in facts:
        check_feature_names(facts["feature_names_in_"], sum(n_columns.values()))
        estimator.feature_names_in_ = facts["feature_names_in_"]
        return
    column_names = estimator._column_names = facts.get("column_names", {})
    if not isinstance(column_names, dict) or not set(column_names) <= set(n_columns):
        raise ValueError("column_names are not those of its modalities.")
    for name, columns in column_names.items():
        if len(_checked_strings("column_names", columns)) != n_columns[name]:
            raise ValueError(f"column_names has {len(columns)} names for {n_columns[name]} column(s) of {name!r}.")


def _build_network(
    estimator: MultimodalClassifier, specs: Mapping[str, TensorSpec], has_user_modules: bool
) -> MultimodalModule:
    """Build the network that the parameters describe, checking each part against the file before the next one."""
    specs_by_encoder, n_classes = _group_by_encoder(specs), len(estimator.classes_)
    branches: dict[str, Branch] = {}
    with seeded(0, CPU), float32():
        for i, name in enumerate(sorted(estimator.modalities_)):
            prefix = f"module.branches.{i}.encoder."
            encoder, n_features = _build_encoder(estimator, name, prefix, specs_by_encoder[prefix])
            with torch.device("meta"):
                branches[name] = Branch(name, encoder, n_features, n_classes)
        column_specs = {
            f"columns.{name}": TensorSpec(torch.int64, (len(numbers),))
            for name, numbers in estimator.modalities_.items()
        }
        offset_specs = {
            f"offsets.{name}": TensorSpec(torch.float64, estimator._sample_shape(name))
            for name in estimator.modalities_
            if f"offsets.{name}" in specs
        }
        n_weights = n_classes * sum(branch.embedding_dim for branch in branches.values())
        head_specs = {name: spec for name, spec in specs.items() if name.startswith("module.fusion_head.")}
        return build_on_meta(
            lambda: estimator._assemble(branches, n_classes),
            lambda module: check_specs(specs_of(module, "module.") | column_specs | offset_specs, specs),
            is_user_defined=has_user_modules,
            is_small_enough=n_weights <= max(_MAX_HEAD_WEIGHTS, count_values(head_specs)),
        )


def _build_encoder(
    estimator: MultimodalClassifier, name: str, prefix: str, specs: Mapping[str, TensorSpec]
) -> tuple[nn.Module, int]:
    """Build the encoder of one modality, and return it with its number of features, if it fits its tensors."""
    encoder = encoder_for(estimator.encoder, name)
    # Reject a file without weights at once: building thousands of networks would take long.
    if is_built_in(encoder) and len(specs) < _MIN_ENCODER_TENSORS:
        raise ValueError(f"its {len(specs)} tensors are too few for the encoder of modality {name!r}.")
    if estimator.n_networks_ > max(1, len(specs)):
        raise ValueError(f"its {len(specs)} tensors are too few for {estimator.n_networks_} networks of {name!r}.")
    n_features = 0 if isinstance(encoder, nn.Module) else estimator.embedding_dim
    n_networks = estimator.n_networks_
    prefixes = [prefix] if n_networks == 1 else [f"{prefix}encoders.{k}." for k in range(n_networks)]

    def check_all(built: tuple[nn.Module, int]) -> None:
        check_specs({name: spec for part in prefixes for name, spec in specs_of(built[0], part).items()}, specs)

    # The first encoder is checked before memory is taken for the others.
    networks = [
        build_on_meta(
            lambda: estimator._new_encoder(name),
            check_all if number == 0 else lambda built: None,
            is_user_defined=not is_built_in(encoder),
            is_small_enough=n_features <= max(_MAX_FEATURES, count_values(specs)),
        )
        for number in range(n_networks)
    ]
    encoders, sizes = zip(*networks, strict=True)
    return (encoders[0] if n_networks == 1 else FoldEncoders(encoders)), sum(sizes)


def _group_by_encoder(specs: Mapping[str, TensorSpec]) -> defaultdict[str, dict[str, TensorSpec]]:
    """Group the tensors of each encoder by the prefix of their names, such as ``module.branches.0.encoder.``."""
    groups: defaultdict[str, dict[str, TensorSpec]] = defaultdict(dict)
    for name, spec in specs.items():
        *path, _ = name.split(".", 4)
        if path[3:] == ["encoder"]:
            groups[".".join([*path, ""])][name] = spec
    return groups


@torch.no_grad()
def _probe_outputs(module: MultimodalModule, shapes: Mapping[str, tuple[int, ...]]) -> list[torch.Tensor]:
    """Return the features of zeros, and all logits of random features, computed on the CPU.

    Zeros are the input on which every encoder was tried when it was built.
    """
    if any(tensor.device != CPU for tensor in module.state_dict().values()):
        module = copy.deepcopy(module).to(CPU)
    zeros = {name: torch.zeros(2, *shape, dtype=torch.float32, device=CPU) for name, shape in shapes.items()}
    batch = Batch(zeros, {}, 2)
    with seeded(0, CPU):
        features = module.encode(batch)
        generator = torch.Generator(CPU).manual_seed(0)
        random_features = {
            name: torch.randn(f.shape, generator=generator, dtype=torch.float32, device=CPU)
            for name, f in features.items()
        }
        unimodal_logits = [module.unimodal_logits(random_features, name) for name in module.names]
        return [*features.values(), *unimodal_logits, module.fuse(random_features, batch)]


def _is_same_tensor(left: torch.Tensor, right: torch.Tensor | None) -> bool:
    """Return whether type, shape and values are equal, NaN included."""
    if right is None or TensorSpec.from_tensor(left) != TensorSpec.from_tensor(right):
        return False
    return bool(((left == right) | ((left != left) & (right != right))).all())


def _count_columns(name: str, specs: Mapping[str, TensorSpec]) -> int:
    """Return the number of columns of a modality."""
    spec = specs.get(f"columns.{name}")
    if spec is None or spec.dtype is not torch.int64 or len(spec.shape) != 1 or spec.n_values == 0:
        raise ValueError(f"its columns of modality {name!r} are missing, or are not a list of int64.")
    return spec.n_values


def _checked_strings(name: str, values: Any, are_distinct: bool = False) -> list[str]:
    """Return `values` if it is a list of strings, and raise ValueError otherwise."""
    if not isinstance(values, list) or any(not isinstance(value, str) for value in values):
        raise ValueError(f"{name} is not a list of names.")
    if are_distinct and ("" in values or len(set(values)) < len(values)):
        raise ValueError(f"{name} contains a name twice, or an empty one.")
    return values


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) < 2:
        raise ValueError("classes_ is not an array of two or more classes.")
    if not (classes[:-1] < classes[1:]).all():
        raise ValueError("classes_ are not sorted, or one occurs twice.")
