"""Checks of parameters, whose errors name the parameter, its value and the allowed values."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np


def check_choice(name: str, value: Any, allowed: Iterable[Any], otherwise: str = "") -> None:
    """Raise ValueError unless `value` is one of `allowed`.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
        Its value.
    allowed : iterable of object
        Allowed values.
    otherwise : str, default=""
        Text for the error message that describes further allowed values.
    """
    options = list(allowed)
    if not any(value is option or (isinstance(value, str) and value == option) for option in options):
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name}={value!r} is not supported. Use one of {listed}{otherwise}.")


def check_number(
    name: str,
    value: Any,
    *,
    low: float = 0,
    high: float = float("inf"),
    integer: bool = False,
    closed: bool = True,
) -> None:
    """Raise unless `value` is a number between two bounds.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
        Its value.
    low, high : float, default=0 and infinity
        Bounds; `high` itself is allowed.
    integer : bool, default=False
        Whether the number must be an integer.
    closed : bool, default=True
        Whether `low` itself is allowed.

    Raises
    ------
    TypeError
        If the value is not a number, or not an integer where one is required.
    ValueError
        If the value is out of bounds.
    """
    number_type = numbers.Integral if integer else numbers.Real
    if isinstance(value, bool | np.bool_) or not isinstance(value, number_type):
        raise TypeError(f"{name}={value!r} must be {'an integer' if integer else 'a number'}.")
    number = float(value)
    if not (low <= number if closed else low < number) or not number <= high:
        lower_bound = f"{'at least' if closed else 'above'} {low}"
        upper_bound = "" if high == float("inf") else f" and at most {high}"
        raise ValueError(f"{name}={value!r} must be {lower_bound}{upper_bound}.")


def check_flag(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} must be True or False.")


def check_confidence_level(value: Any) -> None:
    """Raise unless `value`, the parameter `confidence_level`, is above 0 and below 1."""
    check_number("confidence_level", value, closed=False)
    if value >= 1:
        raise ValueError(f"confidence_level={value!r} must be below 1.")
