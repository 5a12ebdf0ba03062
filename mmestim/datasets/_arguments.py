"""Checks of arguments that name modalities or hold a number for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._utils.validation import check_number


def check_names(parameter: str, names: Sequence[str], allowed: Iterable[str] | None = None) -> list[str]:
    """Names as a list, each one once and, if given, of `allowed`."""
    if isinstance(names, str) or not isinstance(names, Sequence) or {type(name) for name in names} - {str}:
        raise TypeError(f"{parameter}={names!r} must be a sequence of names, such as ['audio', 'image'].")
    if allowed is not None and (unknown := [name for name in names if name not in allowed]):
        raise ValueError(f"{parameter} has {unknown[0]!r}, which is not known here. Choose from {list(allowed)}.")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{parameter}={names!r} must hold one name or more, and each once.")
    return list(names)


def number_per_modality(parameter: str, value: Any, names: Sequence[str], **limits: Any) -> dict[str, Any]:
    """One checked number for each modality, from one for all, one each in order, or a dict."""
    if isinstance(value, Mapping):
        each = dict(value)
    elif np.ndim(value):
        each = dict(zip(names, value, strict=False)) if len(value) == len(names) else {}
    else:
        each = dict.fromkeys(names, value)
    if set(each) != set(names):
        raise ValueError(
            f"{parameter}={value!r} does not fit the modalities {list(names)}. Give one value for all, "
            "a sequence of one each in this order, or a dict with these keys."
        )
    for name in names:
        check_number(f"{parameter}[{name!r}]", each[name], **{"high": 1e6, **limits})
    return {name: each[name] for name in names}
