"""The fields of a model's header, and errors that name the file."""

from __future__ import annotations

import contextlib
import os
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from .._serialization.json_values import NotPlain, check_size, encode
from .registry import ESTIMATORS, LAZY_ESTIMATORS

_PARTS = {"class", "parameters", "left_out", "facts", "versions"}
_LONGEST = 800


def check_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields, which have the parts and the types that `save` gives them, and a class that is known."""
    if set(fields) != _PARTS or any(not isinstance(fields[part], dict) for part in _PARTS - {"class"}):
        raise ValueError(f"its header does not have the parts {sorted(_PARTS)}.")
    if not isinstance(fields["class"], str) or fields["class"] not in {*ESTIMATORS, *LAZY_ESTIMATORS}:
        raise ValueError(
            f"it is a {reprlib.repr(fields['class'])}, which is none of {[*ESTIMATORS, *LAZY_ESTIMATORS]}. A later "
            "version of mmestim may know it."
        )
    check_size(fields)
    return fields


def encode_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    encoded = {}
    for name, value in facts.items():
        try:
            encoded[name] = encode(value)
        except NotPlain as error:
            raise ValueError(f"{name} is {error}: a file holds numbers, booleans and text.") from error
    return encoded


@contextlib.contextmanager
def naming_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever a file can make go wrong as one ValueError that names it."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # A traceback would show the first error too, with commands to the terminal that the file may hold.
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {_printable(str(error))}") from None


def _printable(text: str) -> str:
    """The text in one line of at most a few hundred characters, none of them a command to a terminal."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
