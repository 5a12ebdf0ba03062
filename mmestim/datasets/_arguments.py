"""Validation of arguments that name modalities or give one number per modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._utils.validation import check_number


def check_names(parameter: str, names: Sequence[str], allowed: Iterable[str] | None = None) -> list[str]:
    """Return names as a list, after checking that they are distinct and, if `allowed` is given, among its names."""
    if isinstance(names, str) or not isinstance(names, Sequence) or {type(name) for name in names} - {str}:
        raise TypeError(f"{parameter}={names!r} must be a sequence of names, such as ['audio', 'image'].")
    if allowed is not None and (unknown := [name for name in names if name not in allowed]):
        raise ValueError(f"{parameter} has {unknown[0]!r}, which is unknown. Choose from {list(allowed)}.")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{parameter}={names!r} must hold one or more names without repetition.")
    return list(names)


def number_per_modality(parameter: str, value: Any, names: Sequence[str], **limits: Any) -> dict[str, Any]:
    """Return a validated number for each modality.

    Parameters
    ----------
    parameter : str
        Name of the parameter, for error messages.
    value : number, sequence of numbers or mapping of str to number
        One number for all modalities, one number each in the order of `names`, or numbers by name.
    names : sequence of str
        Names of the modalities.
    **limits
        Keyword arguments of `check_number`.

    Returns
    -------
    dict of str to number
        One number per modality, in the order of `names`.
    """
    if isinstance(value, Mapping):
        numbers = dict(value)
    elif np.ndim(value):
        numbers = dict(zip(names, value, strict=False)) if len(value) == len(names) else {}
    else:
        numbers = dict.fromkeys(names, value)
    if set(numbers) != set(names):
        raise ValueError(
            f"{parameter}={value!r} does not fit the modalities {list(names)}. Pass one value for all, "
            "a sequence of one value each in this order, or a dict with these keys."
        )
    for name in names:
        check_number(f"{parameter}[{name!r}]", numbers[name], **{"high": 1e6, **limits})
    return {name: numbers[name] for name in names}
