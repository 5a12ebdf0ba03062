"""JSON encoding of the parameters of an estimator; classes of the user are replaced by their names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from .. import balancers
from .._serialization.json_values import UnsupportedValueError, decode, encode
from ..balancers import Balancer

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

    decoders = {"module": decode_module, "balancer": decode_balancer}
    return {name: decode(value, decoders) for name, value in parameters.items()}, module_names


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)  # bool() of a DataFrame raises


def _encode_modules(parameter: str, value: Any, modules: dict[str, Any]) -> Any:
    """Encode encoders: built-in names unchanged, and modules of the user by names that are unique to them."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        modules[name := _module_name(parameter, value)] = value
        return {"module": name}
    names = {key: _module_name(parameter, item) for key, item in value.items() if not isinstance(item, str)}
    for key, name in list(names.items()):
        if any(_module_name(parameter, value[other]) == name and value[other] is not value[key] for other in names):
            names[key] = f"{key}.{name}"
    modules.update({name: value[key] for key, name in names.items()})
    return {"dict": [[key, {"module": names[key]} if key in names else item] for key, item in value.items()]}


def _module_name(parameter: str, value: Any) -> str:
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__name__", type(value).__name__)
    if not callable(value) or name == "<lambda>":
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
