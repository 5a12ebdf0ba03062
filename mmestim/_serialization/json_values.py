"""JSON encoding of parameters and fitted attributes: data only, never code.

A type that JSON lacks becomes an object with one key, its tag: ``{"tuple": [28, 28]}``, ``{"slice": [0, 64, null]}``,
``{"dict": [["audio", 1.0]]}``, ``{"float": "inf"}``, ``{"array": {...}}``, ``{"torch.optim": "Adam"}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

# Limit on the characters of all text arrays in a header, which numpy stores in 64 MiB.
_MAX_CHARACTERS = 2**24
_MAX_INTEGER = 2**64

# Function that returns the value of a tag's content.
TagDecoder = Callable[[Any], Any]


class UnsupportedValueError(TypeError):
    """Error raised for a value that cannot be encoded because it is not data."""


def encode(value: Any) -> Any:
    """Encode a value as JSON.

    numpy scalars become numbers, ranges become lists, and pandas sequences become arrays.

    Parameters
    ----------
    value : object
        Value to encode.

    Returns
    -------
    object
        Value that the json module can write.

    Raises
    ------
    UnsupportedValueError
        If the value is not data, such as a function or a random generator, or an integer is longer than 64 bits.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        if abs(value) >= _MAX_INTEGER:
            raise UnsupportedValueError(f"an integer of {value.bit_length()} bits")
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list | range):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, slice):
        return {"slice": [encode(bound) for bound in (value.start, value.stop, value.step)]}
    if isinstance(value, Mapping):
        if unsupported := [key for key in value if not isinstance(key, _KEY_TYPES)]:
            raise UnsupportedValueError(f"a dict with a {type(unsupported[0]).__name__} as a key")
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, type) and value in _OPTIMIZERS.values():
        return {"torch.optim": value.__name__}
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        return {"array": _encode_array(value)}
    raise UnsupportedValueError(f"a {type(value).__name__}")


def decode(value: Any, extra_decoders: Mapping[str, TagDecoder] | None = None) -> Any:
    """Decode a value that `encode` encoded.

    Parameters
    ----------
    value : object
        Parsed JSON.
    extra_decoders : mapping of str to callable, default=None
        Decoders of further tags.

    Returns
    -------
    object
        The original value.

    Raises
    ------
    ValueError
        If `encode` cannot have produced `value`.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        if abs(value) >= _MAX_INTEGER and isinstance(value, int):
            raise ValueError("an integer is longer than 64 bits.")
        return value
    if isinstance(value, list):
        return [decode(item, extra_decoders) for item in value]
    (tag, content), *other_items = value.items() or [("", None)]
    decoders = _DECODERS | dict(extra_decoders or {})
    if other_items or tag not in decoders:
        raise ValueError(f"a value has the tags {[*value]!r}; expected exactly one of {[*decoders]}.")
    if tag in ("tuple", "dict"):
        content = decode(content, extra_decoders)
    try:
        return decoders[tag](content)
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError) as error:
        raise ValueError(f"a value with the tag {tag!r} cannot be decoded: {error}") from error


def check_text_size(value: Any) -> None:
    """Raise ValueError if the text arrays of an encoded value would take too much memory."""
    if (n_characters := _count_characters(value)) > _MAX_CHARACTERS:
        raise ValueError(f"its text arrays have {n_characters} characters; at most {_MAX_CHARACTERS} are allowed.")


def _count_characters(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_count_characters, value))
    if not isinstance(value, dict):
        return 0
    n_nested = sum(map(_count_characters, value.values()))
    content = value.get("array")
    if isinstance(content, dict) and isinstance(content.get("values"), list):
        # numpy allocates the width of the longest value for each one.
        return n_nested + (_text_width(content.get("dtype")) or 0) * max(1, len(content["values"]))
    return n_nested


def _text_width(dtype: Any) -> int | None:
    """Return the number of characters of a text dtype, None for any other dtype."""
    match = re.fullmatch(r"U([0-9]{1,18})", str(dtype))
    return int(match[1]) if match else None


def _encode_array(array: np.ndarray) -> dict[str, Any]:
    kind, values = array.dtype.kind, array.ravel().tolist()
    is_text = kind == "U" or (kind == "O" and all(isinstance(value, str) for value in values))
    if not is_text and array.dtype.name not in _ARRAY_TYPES:
        raise UnsupportedValueError(f"an array of {array.dtype}")
    if array.itemsize * array.size > 4 * _MAX_CHARACTERS:
        raise UnsupportedValueError(f"an array of {array.itemsize * array.size} bytes")
    # "U" with the number of characters, "O", or a name such as int64.
    dtype = f"U{array.itemsize // 4}" if kind == "U" else "O" if kind == "O" else array.dtype.name
    return {"dtype": dtype, "shape": list(array.shape), "values": [encode(value) for value in values]}


def _decode_array(content: Any) -> np.ndarray:
    dtype, shape = str(content["dtype"]), content["shape"]
    values = [decode(value) for value in _check_list(content["values"])]
    allowed_types: tuple[type, ...] = (str,)
    if (width := _text_width(dtype)) is not None:
        if max(map(len, values), default=0) > width or width * max(1, len(values)) > _MAX_CHARACTERS:
            raise ValueError(f"a text array of {width} characters cannot hold its {len(values)} values.")
    elif dtype != "O":
        if dtype not in _ARRAY_TYPES:
            raise ValueError(f"an array has dtype {dtype!r}; expected 'O', 'U' and a length, or one of {_ARRAY_TYPES}.")
        allowed_types = {"b": (bool,), "f": (float,)}.get(np.dtype(dtype).kind, (int,))
    if any(type(value) not in allowed_types for value in values):
        raise ValueError(f"an array of dtype {dtype!r} has values of another type.")
    return np.array(values, dtype=dtype).reshape(_check_shape(shape))


def _check_shape(values: Iterable[Any]) -> tuple[int, ...]:
    shape = tuple(values)
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"an array has the shape {str(shape)[:80]}; expected integers from 0.")
    return shape


def _decode_slice(content: Any) -> slice:
    if len(content) != 3 or any(type(bound) not in (int, type(None)) for bound in content):
        raise ValueError("a slice has a start, a stop and a step.")
    return slice(*content)


def _decode_dict(content: Any) -> dict[Any, Any]:
    pairs = [(key, value) for key, value in _check_list(content)]
    # Allow no tuples: an attacker can choose tuples with equal hashes, which makes building a dict take quadratic time.
    if any(not isinstance(key, _KEY_TYPES) for key, _ in pairs):
        raise ValueError("a dict has a key that is neither text nor a number.")
    decoded = dict(pairs)
    if len(decoded) != len(content):
        raise ValueError("a dict has a key twice.")
    return decoded


def _check_list(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise ValueError("the content of a tuple, a dict or an array is not a list.")
    return content


_ARRAY_TYPES = [
    "bool",
    *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
]
_KEY_TYPES = (type(None), bool, int, float, str, np.generic)
_SPECIAL_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_OPTIMIZERS = {
    name: value
    for name, value in vars(torch.optim).items()
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
}
_DECODERS: dict[str, TagDecoder] = {
    "float": _SPECIAL_FLOATS.__getitem__,
    "tuple": lambda content: tuple(_check_list(content)),
    "slice": _decode_slice,
    "dict": _decode_dict,
    "device": torch.device,
    "torch.optim": _OPTIMIZERS.__getitem__,
    "array": _decode_array,
}
