"""Checks of parameters, each error with the parameter, the value, what is allowed and the way out."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np


def check_choice(name: str, value: Any, allowed: Iterable[Any], otherwise: str = "") -> None:
    """Raise unless `value` is one of `allowed`; `otherwise` says what else would do."""
    options = list(allowed)
    if not any(value is option or (isinstance(value, str) and value == option) for option in options):
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name}={value!r} is not known. Use one of {listed}{otherwise}.")


def check_number(
    name: str,
    value: Any,
    *,
    low: float = 0,
    high: float = float("inf"),
    integer: bool = False,
    closed: bool = True,
) -> None:
    """Raise unless `value` is a number from `low` (`closed`: itself allowed) to `high`."""
    kind = numbers.Integral if integer else numbers.Real
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        raise TypeError(f"{name}={value!r} must be {'an integer' if integer else 'a number'}.")
    number = float(value)
    if not (low <= number if closed else low < number) or not number <= high:
        above = f"{'at least' if closed else 'above'} {low}"
        below = "" if high == float("inf") else f" and at most {high}"
        raise ValueError(f"{name}={value!r} must be {above}{below}.")


def check_flag(name: str, value: Any) -> None:
    """Raise unless `value` is a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} must be True or False.")


def check_confidence_level(value: Any) -> None:
    """Raise unless `value` can be a confidence level."""
    check_number("confidence_level", value, closed=False)
    if value >= 1:
        raise ValueError(f"confidence_level={value!r} must be below 1.")
