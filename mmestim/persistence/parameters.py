"""Parameters of an estimator as JSON and back; classes are ours by name, or the user's, who names them again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from .. import balancers
from .._serialization.json_values import NotPlain, decode, encode
from ..balancers import Balancer

_BALANCERS: dict[str, type] = {
    name: found
    for name, found in vars(balancers).items()
    if isinstance(found, type) and issubclass(found, Balancer) and found is not Balancer
}


def encode_parameters(estimator: Any) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """Parameters as JSON can hold them, the types of those that defaults stand in for, and what is only named."""
    defaults = inspect.signature(type(estimator)).parameters
    stays, with_modules = (
        getattr(estimator, name, ()) for name in ("_parameters_left_out", "_parameters_with_modules")
    )
    parameters: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    modules: dict[str, Any] = {}
    for name, value in estimator.get_params(deep=False).items():
        try:
            if name in stays and not _is_nothing(value):
                raise NotPlain
            if name in with_modules:
                parameters[name] = _encode_modules(name, value, modules)
            elif isinstance(value, Balancer):
                parameters[name] = _encode_balancer(value, modules)
            else:
                parameters[name] = encode(value)
        except NotPlain:
            parameters[name] = encode(defaults[name].default)
            left_out[name] = type(value).__name__
    return parameters, left_out, modules


def decode_parameters(parameters: Mapping[str, Any], modules: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The parameters, and the names of what is the user's, in whose place `modules` has what they mean, if it has."""
    named = set()

    def module(name: Any) -> Any:
        if not isinstance(name, str):
            raise ValueError("the name of a module is no text.")
        named.add(name)
        return modules.get(name)

    def balancer(content: Any) -> Any:
        name = content["class"]
        kind = module(name) if content["own"] else _BALANCERS[name]
        if name in named and name not in modules:
            return None
        if not isinstance(kind, type) or not issubclass(kind, Balancer):
            raise ValueError(f"modules[{name!r}] is {kind!r}, expected a subclass of mmestim.balancers.Balancer.")
        return kind(**{key: decode(value) for key, value in content["parameters"].items()})

    tags = {"module": module, "balancer": balancer}
    return {name: decode(value, tags) for name, value in parameters.items()}, named


def _is_nothing(value):
    return value is None or (hasattr(value, "__len__") and len(value) == 0)  # tables have no truth of their own


def _encode_modules(parameter: str, value: Any, modules: dict[str, Any]) -> Any:
    """Names as they are; classes, functions and instances by a name of theirs, which different ones do not share."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        modules[name := _name_of(parameter, value)] = value
        return {"module": name}
    names = {key: _name_of(parameter, item) for key, item in value.items() if not isinstance(item, str)}
    for key, name in list(names.items()):
        if any(_name_of(parameter, value[other]) == name and value[other] is not value[key] for other in names):
            names[key] = f"{key}.{name}"
    modules.update({name: value[key] for key, name in names.items()})
    return {"dict": [[key, {"module": names[key]} if key in names else item] for key, item in value.items()]}


def _name_of(parameter: str, value: Any) -> str:
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__name__", type(value).__name__)
    if not callable(value) or name == "<lambda>":
        raise TypeError(
            f"{parameter} holds {value!r}, which has no name that mmestim.load could be told. Fit with a function that "
            "is defined by def, a class, or an instance of one."
        )
    return name


def _encode_balancer(balancer: Balancer, modules: dict[str, Any]) -> Any:
    kind, parameters = type(balancer), {}
    for name, value in balancer.get_params(deep=False).items():
        try:
            parameters[name] = encode(value)
        except NotPlain as error:
            raise TypeError(
                f"balancer {kind.__name__} has {name}={value!r}, which is {error} and no data. Take numbers, text and "
                "lists as parameters, and keep the rest in the class."
            ) from error
    if is_own := _BALANCERS.get(kind.__name__) is not kind:
        modules[kind.__name__] = kind
    return {"balancer": {"class": kind.__name__, "own": is_own, "parameters": parameters}}
