"""Parameters and fitted attributes as JSON and back: data only, never code.

What JSON has not is an object with one key, its tag: ``{"tuple": [28, 28]}``, ``{"slice": [0, 64, null]}``,
``{"dict": [["audio", 1.0]]}``, ``{"float": "inf"}``, ``{"array": {...}}``, ``{"torch.optim": "Adam"}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

# Numbers and labels that fill more than this are no longer small facts: 64 MiB of labels in a whole header.
_MAX_CHARACTERS = 2**24
_LARGEST_INT = 2**64

Tag = Callable[[Any], Any]


class NotPlain(TypeError):
    """A value that is not data."""


def encode(value: Any) -> Any:
    """What JSON can hold for a value; numpy's scalars become numbers, ranges lists, pandas' sequences arrays.

    Raises
    ------
    NotPlain
        If the value is not data, such as a function, a generator of random numbers or a long integer.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        if abs(value) >= _LARGEST_INT:
            raise NotPlain(f"an integer of {value.bit_length()} bits")
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list | range):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, slice):
        return {"slice": [encode(end) for end in (value.start, value.stop, value.step)]}
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, _KEYS)]:
            raise NotPlain(f"a dict with a {type(odd[0]).__name__} as a key")
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, type) and value in _OPTIMIZERS.values():
        return {"torch.optim": value.__name__}
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        return {"array": _encode_array(value)}
    raise NotPlain(f"a {type(value).__name__}")


def decode(value: Any, tags: Mapping[str, Tag] | None = None) -> Any:
    """The value behind what `encode` made, by further tags if given; ValueError if it made no such thing."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        if abs(value) >= _LARGEST_INT and isinstance(value, int):
            raise ValueError("an integer is longer than 64 bits.")
        return value
    if isinstance(value, list):
        return [decode(item, tags) for item in value]
    (tag, content), *others = value.items() or [("", None)]
    known = _TAGS | dict(tags or {})
    if others or tag not in known:
        raise ValueError(f"a value is marked {[*value]!r}; one mark is expected, of {[*known]}.")
    if tag in ("tuple", "dict"):
        content = decode(content, tags)
    try:
        return known[tag](content)
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError) as error:
        raise ValueError(f"a value marked {tag!r} is none: {error}") from error


def check_size(value: Any) -> None:
    """Raise ValueError if the arrays of text in what `encode` made take too much memory together."""
    if (n_characters := _n_characters(value)) > _MAX_CHARACTERS:
        raise ValueError(f"its arrays of text have {n_characters} characters; the most allowed are {_MAX_CHARACTERS}.")


def _n_characters(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_n_characters, value))
    if not isinstance(value, dict):
        return 0
    within = sum(map(_n_characters, value.values()))
    content = value.get("array")
    if isinstance(content, dict) and isinstance(content.get("values"), list):
        # numpy makes room for each value as for the longest.
        return within + (_width(content.get("dtype")) or 0) * max(1, len(content["values"]))
    return within


def _width(dtype: Any) -> int | None:
    """Characters of each value of an array of text, None of any other."""
    found = re.fullmatch(r"U([0-9]{1,18})", str(dtype))
    return int(found[1]) if found else None


def _encode_array(array: np.ndarray) -> dict[str, Any]:
    kind, values = array.dtype.kind, array.ravel().tolist()
    is_text = kind == "U" or (kind == "O" and all(isinstance(value, str) for value in values))
    if not is_text and array.dtype.name not in _ARRAY_TYPES:
        raise NotPlain(f"an array of {array.dtype}")
    if array.itemsize * array.size > 4 * _MAX_CHARACTERS:
        raise NotPlain(f"an array of {array.itemsize * array.size} bytes")
    # Of text the number of characters, of objects "O", else a name such as int64.
    dtype = f"U{array.itemsize // 4}" if kind == "U" else "O" if kind == "O" else array.dtype.name
    return {"dtype": dtype, "shape": list(array.shape), "values": [encode(value) for value in values]}


def _decode_array(content: Any) -> np.ndarray:
    dtype, shape = str(content["dtype"]), content["shape"]
    values = [decode(value) for value in _listed(content["values"])]
    kinds: tuple[type, ...] = (str,)
    if (width := _width(dtype)) is not None:
        if max(map(len, values), default=0) > width or width * max(1, len(values)) > _MAX_CHARACTERS:
            raise ValueError(f"an array of text of {width} characters cannot hold its {len(values)} values.")
    elif dtype != "O":
        if dtype not in _ARRAY_TYPES:
            raise ValueError(f"an array has dtype {dtype!r}; expected 'O', 'U' and a length, or one of {_ARRAY_TYPES}.")
        kinds = {"b": (bool,), "f": (float,)}.get(np.dtype(dtype).kind, (int,))
    if any(type(value) not in kinds for value in values):
        raise ValueError(f"an array of dtype {dtype!r} has other values.")
    return np.array(values, dtype=dtype).reshape(_whole_numbers(shape))


def _whole_numbers(values: Iterable[Any]) -> tuple[int, ...]:
    numbers = tuple(values)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"{str(numbers)[:80]}: expected integers from 0.")
    return numbers


def _ends(content: Any) -> list[int | None]:
    if len(content) != 3 or any(type(end) not in (int, type(None)) for end in content):
        raise ValueError("a slice has a start, a stop and a step.")
    return list(content)


def _pairs(content: Any) -> dict[Any, Any]:
    pairs = [(key, value) for key, value in content]
    # Numbers and text, because anyone can make tuples that all hash alike, which takes the square of their number.
    if any(not isinstance(key, _KEYS) for key, _ in pairs):
        raise ValueError("a dict has a key that is neither text nor a number.")
    found = dict(pairs)
    if len(found) != len(content):
        raise ValueError("a dict has a key twice.")
    return found


def _listed(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise ValueError("a tuple, a dict or an array is not a list.")
    return content


_ARRAY_TYPES = [
    "bool",
    *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
]
_KEYS = (type(None), bool, int, float, str, np.generic)
_SPECIAL_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_OPTIMIZERS = {
    name: found
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer)
}
_TAGS: dict[str, Tag] = {
    "float": _SPECIAL_FLOATS.__getitem__,
    "tuple": lambda content: tuple(_listed(content)),
    "slice": lambda content: slice(*_ends(content)),
    "dict": lambda content: _pairs(_listed(content)),
    "device": torch.device,
    "torch.optim": _OPTIMIZERS.__getitem__,
    "array": _decode_array,
}
