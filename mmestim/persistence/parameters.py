"""JSON encoding of the parameters of an estimator; classes of the user are replaced by their names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from .. import balancers
from .._serialization.json_values import UnsupportedValueError, decode, encode
from ..balancers import Balancer
from ..encoders.augmentation import Augmentation, Augmented
from ..encoders.choice import AUGMENTATION_CLASSES, ENCODER_CLASSES

_ENCODERS: dict[str, Any] = {encoder.__name__: encoder for encoder in ENCODER_CLASSES}
_AUGMENTATIONS: dict[str, Any] = {augmentation.__name__: augmentation for augmentation in AUGMENTATION_CLASSES}
# Parameters of encoders that are paths on the training machine.
_PATHS = {"weights"}
_BALANCERS: dict[str, type] = {
    name: value
    for name, value in vars(balancers).items()
    if isinstance(value, type) and issubclass(value, Balancer) and value is not Balancer
}


def encode_parameters(estimator: Any) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """Encode the parameters of an estimator as JSON.

    Parameters
    ----------
    estimator : object
        Estimator of this package.

    Returns
    -------
    parameters : dict of str to object
        JSON of each parameter, or of its default if the value cannot be saved.
    left_out : dict of str to str
        Types of the values that were replaced by defaults.
    modules : dict of str to object
        Classes, functions and instances of the user, by the names that stand for them in `parameters`.
    """
    defaults = inspect.signature(type(estimator)).parameters
    never_saved = getattr(estimator, "_parameters_left_out", ())
    with_modules = getattr(estimator, "_parameters_with_modules", ())
    parameters: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    modules: dict[str, Any] = {}
    for name, value in estimator.get_params(deep=False).items():
        try:
            if name in never_saved and not _is_empty(value):
                raise UnsupportedValueError
            if name in with_modules:
                parameters[name] = _encode_modules(name, value, modules)
            elif isinstance(value, Balancer):
                parameters[name] = _encode_balancer(value, modules)
            else:
                parameters[name] = encode(value)
        except UnsupportedValueError:
            parameters[name] = encode(defaults[name].default)
            left_out[name] = type(value).__name__
    return parameters, left_out, modules


def decode_parameters(parameters: Mapping[str, Any], modules: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Decode the parameters of an estimator.

    Parameters
    ----------
    parameters : mapping of str to object
        JSON that `encode_parameters` returned.
    modules : mapping of str to object
        Classes, functions and instances of the user by name.

    Returns
    -------
    decoded : dict of str to object
        Parameters; None replaces a module that is missing from `modules`.
    module_names : set of str
        All names that must be keys of `modules`.
    """
    module_names = set()

    def decode_module(name: Any) -> Any:
        if not isinstance(name, str):
            raise ValueError("the name of a module is not a string.")
        module_names.add(name)
        return modules.get(name)

    def decode_balancer(content: Any) -> Any:
        name = content["class"]
        balancer_class = decode_module(name) if content["own"] else _BALANCERS[name]
        if name in module_names and name not in modules:
            return None
        if not isinstance(balancer_class, type) or not issubclass(balancer_class, Balancer):
            raise ValueError(
                f"modules[{name!r}] is {balancer_class!r}; expected a subclass of mmestim.balancers.Balancer."
            )
        return balancer_class(**{key: decode(value) for key, value in content["parameters"].items()})

    def decode_augmented(content: Any) -> Any:
        augmentations = [_AUGMENTATIONS[part["class"]](**_decoded_arguments(part)) for part in content["augmentations"]]
        return Augmented(decode(content["encoder"], {"encoder": _decode_encoder}), *augmentations)

    decoders = {
        "module": decode_module,
        "balancer": decode_balancer,
        "encoder": _decode_encoder,
        "augmented": decode_augmented,
    }
    return {name: decode(value, decoders) for name, value in parameters.items()}, module_names


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)  # bool() of a DataFrame raises


def _encode_modules(parameter: str, value: Any, modules: dict[str, Any]) -> Any:
    """Encode encoders: built-in ones with their parameters, and those of the user by names that are unique to them."""
    if not isinstance(value, Mapping):
        encoded = _encode_built_in(value)
        if encoded is None:
            modules[name := _module_name(parameter, value)] = value
            encoded = {"module": name}
        return encoded
    built_in = {key: _encode_built_in(item) for key, item in value.items()}
    names = {key: _module_name(parameter, value[key]) for key, encoded in built_in.items() if encoded is None}
    for key, name in list(names.items()):
        if any(_module_name(parameter, value[other]) == name and value[other] is not value[key] for other in names):
            names[key] = f"{key}.{name}"
    modules.update({name: value[key] for key, name in names.items()})
    return {"dict": [[key, {"module": names[key]} if key in names else built_in[key]] for key in value]}


def _encode_built_in(encoder: Any) -> Any:
    """Encode the name, class, partial or augmented form of a built-in encoder; return None for anything else.

    An encoder whose weights are from a file is not encoded, because a path would be that of the training machine.
    """
    if isinstance(encoder, str):
        return encoder
    if isinstance(encoder, Augmented):
        inner = _encode_built_in(encoder.encoder)
        parts = [_encode_augmentation(augmentation) for augmentation in encoder.augmentations]
        return None if inner is None or None in parts else {"augmented": {"encoder": inner, "augmentations": parts}}
    is_partial = isinstance(encoder, functools.partial) and not encoder.args
    encoder_class, arguments = (encoder.func, encoder.keywords) if is_partial else (encoder, {})
    if encoder_class not in ENCODER_CLASSES or _PATHS & set(arguments):
        return None
    try:
        encoded = {name: encode(argument) for name, argument in arguments.items()}
    except UnsupportedValueError:
        return None
    return {"encoder": {"class": encoder_class.__name__, "parameters": encoded}}


def _encode_augmentation(augmentation: Augmentation) -> Any:
    if type(augmentation) not in AUGMENTATION_CLASSES:
        return None
    names = inspect.signature(type(augmentation)).parameters
    arguments = {name: encode(getattr(augmentation, name)) for name in names}
    return {"class": type(augmentation).__name__, "parameters": arguments}


def _decode_encoder(content: Any) -> Any:
    encoder_class, arguments = _ENCODERS[content["class"]], _decoded_arguments(content)
    if paths := sorted(_PATHS & set(arguments)):  # `fit` would read a path that the file chose.
        raise ValueError(f"its encoder sets {paths}, which mmestim.save never saves.")
    return functools.partial(encoder_class, **arguments) if arguments else encoder_class


def _decoded_arguments(content: Any) -> dict[str, Any]:
    return {name: decode(value) for name, value in content["parameters"].items()}


def _module_name(parameter: str, value: Any) -> str:
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__name__", type(value).__name__)
    if not (callable(value) or isinstance(value, Augmented)) or name == "<lambda>":
        raise TypeError(
            f"{parameter} holds {value!r}, which has no name by which mmestim.load could refer to it. Fit with a "
            "class, an instance of a class, or a function that is defined by def."
        )
    return name


def _encode_balancer(balancer: Balancer, modules: dict[str, Any]) -> Any:
    balancer_class, parameters = type(balancer), {}
    for parameter, value in balancer.get_params(deep=False).items():
        try:
            parameters[parameter] = encode(value)
        except UnsupportedValueError as error:
            raise TypeError(
                f"balancer {balancer_class.__name__} has {parameter}={value!r}, which is {error} and cannot be "
                "saved. Accept numbers, text and lists as parameters, and define the rest in the class."
            ) from error
    name = balancer_class.__name__
    if is_user_defined := _BALANCERS.get(name) is not balancer_class:
        modules[name] = balancer_class
    return {"balancer": {"class": name, "own": is_user_defined, "parameters": parameters}}
