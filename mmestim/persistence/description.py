"""Description of a saved estimator, read from the header of its file."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping
from itertools import compress, islice
from operator import not_
from typing import Any

import numpy as np

from .._serialization.json_values import decode
from .._serialization.model_file import ModelFile
from .header import check_fields, file_errors


def describe(path: str | os.PathLike[str]) -> str:
    """Describe the contents of a file without reading its tensors.

    Parameters
    ----------
    path : str or path-like
        Path of the file.

    Returns
    -------
    str
        Sections with one line for each parameter, fitted attribute and tensor, the values of which are aligned. The
        entries of a dict have lines of their own. Texts are escaped as Python literals, so that they cannot contain
        terminal escapes.

    Raises
    ------
    ValueError
        If the file does not have the header of a saved estimator.
    OSError
        If the file does not exist or cannot be read.
    """
    with file_errors(path), ModelFile(path) as file:
        fields = check_fields(file.fields)
        sections = {
            title: {name: decode(value, _PLACEHOLDERS) for name, value in fields[field].items()}
            for title, field in (("fitted attributes", "facts"), ("parameters", "parameters"))
        }
        sections["versions it was written with"] = {"mmestim": file.written_by, **fields["versions"]}
        sections["parameters saved as their defaults, by type"] = fields["left_out"]
        sections["tensors (not read)"] = file.specs
        lines = [f"{fields['class']} in {os.fspath(path)!r}, {file.n_bytes} bytes, format {file.format}"]
        for title, entries in sections.items():
            if entries:
                lines += ["", f"{title}:", *_entry_lines(entries, 1)]
        return "\n".join(lines)


def _entry_lines(entries: Mapping[Any, Any], depth: int) -> Iterator[str]:
    """Yield a line for each entry, indented by its depth; dicts have lines for their own entries."""
    shown = list(islice(entries.items(), _MAX_ENTRIES))
    names = [_format(_Unquoted(name) if isinstance(name, str) else name) for name, _ in shown]
    is_dict = [isinstance(value, dict) and len(value) > 0 and depth < _MAX_DEPTH for _, value in shown]
    indent, width = "  " * depth, max(map(len, compress(names, map(not_, is_dict))), default=0)
    for name, (_, value), has_lines in zip(names, shown, is_dict, strict=True):
        if has_lines:
            yield indent + name
            yield from _entry_lines(value, depth + 1)
        else:
            yield f"{indent}{name:<{width}}  {_format(value)}"
    if len(entries) > len(shown):
        yield f"{indent}and {len(entries) - len(shown)} more"


class _Unquoted(str):
    """Text whose repr is escaped but has no quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(str(self))[1:-1]


def _format(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{_REPR.repr(value.tolist())}, {value.dtype}"
    return _REPR.repr(value)


def _with_parameters(content: Mapping[str, Any]) -> _Unquoted:
    return _Unquoted(f"{content['class']}({_REPR.repr(content['parameters'])})")


def _augmented(content: Mapping[str, Any]) -> _Unquoted:
    augmentations = [_with_parameters(part) for part in content["augmentations"]]
    encoder = decode(content["encoder"], {"encoder": _with_parameters})
    return _Unquoted(f"Augmented({', '.join(map(repr, [encoder, *augmentations]))})")


class _ShortRepr(reprlib.Repr):
    """Limited repr, in which floats have six significant digits."""

    def repr_float(self, number: float, level: int) -> str:
        text = repr(number)
        return text if len(text) <= 8 else f"{number:.6g}"


# Dicts within more dicts than these are shown on one line.
_MAX_DEPTH = 4
_MAX_ENTRIES = 1000
_REPR = _ShortRepr()
_REPR.maxlist = _REPR.maxdict = _REPR.maxtuple = 20
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 100
# Decoders of values that can be described but not built without the user's classes.
_PLACEHOLDERS = {
    "module": lambda name: _Unquoted(f"modules[{name!r}]"),
    "balancer": _with_parameters,
    "encoder": _with_parameters,
    "augmented": _augmented,
}
