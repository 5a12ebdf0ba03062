"""Fields of the header of a saved estimator, and errors that name the file."""

from __future__ import annotations

import contextlib
import os
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from .._serialization.json_values import UnsupportedValueError, check_text_size, encode
from .registry import ESTIMATORS, LAZY_ESTIMATORS

_FIELDS = {"class", "parameters", "left_out", "facts", "versions"}
_MAX_ERROR_CHARACTERS = 800


def check_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields unchanged, after checking their names and types, and that the class is registered."""
    if set(fields) != _FIELDS or any(not isinstance(fields[name], dict) for name in _FIELDS - {"class"}):
        raise ValueError(f"its header does not have the fields {sorted(_FIELDS)}.")
    if not isinstance(fields["class"], str) or fields["class"] not in {*ESTIMATORS, *LAZY_ESTIMATORS}:
        raise ValueError(
            f"its class {reprlib.repr(fields['class'])} is none of {[*ESTIMATORS, *LAZY_ESTIMATORS]}. A later "
            "version of mmestim may support it."
        )
    check_text_size(fields)
    return fields


def encode_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Encode fitted attributes as JSON, or raise a ValueError that names an unsupported one."""
    encoded = {}
    for name, value in facts.items():
        try:
            encoded[name] = encode(value)
        except UnsupportedValueError as error:
            raise ValueError(f"{name} is {error}; a file can hold numbers, booleans and text.") from error
    return encoded


@contextlib.contextmanager
def file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert every error but OSError to a ValueError that names the file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # Suppress the original error: a traceback would print terminal escapes that the file may contain.
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {_printable(str(error))}") from None


def _printable(text: str) -> str:
    """Shorten a text and escape its unprintable characters."""
    half = _MAX_ERROR_CHARACTERS // 2
    if len(text) > _MAX_ERROR_CHARACTERS:
        text = f"{text[:half]} ... {text[-half:]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
