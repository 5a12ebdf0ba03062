"""Description of a saved estimator, read from the header of its file."""

from __future__ import annotations

import os
import reprlib
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
        One line for each parameter, fitted attribute and tensor. Texts are escaped as Python literals, so that they
        cannot contain terminal escapes.

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
            field: {name: decode(value, _PLACEHOLDERS) for name, value in fields[field].items()}
            for field in ("facts", "parameters")
        }
        sections["versions it was written with"] = {"mmestim": file.written_by, **fields["versions"]}
        sections["parameters saved as their defaults, by type"] = fields["left_out"]
        sections["tensors (not read)"] = file.specs
        lines = [f"{fields['class']} in {os.fspath(path)!r}, {file.n_bytes} bytes, format {file.format}"]
        for title, entries in sections.items():
            lines += ["", f"{title}:"]
            lines += [f"  {_format(_Unquoted(name))} = {_format(value)}" for name, value in entries.items()]
        return "\n".join(lines)


class _Unquoted(str):
    """Text whose repr is escaped but has no quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(str(self))[1:-1]


def _format(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{_REPR.repr(value.tolist())}, {value.dtype}"
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxlist = _REPR.maxdict = _REPR.maxtuple = 20
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 100
# Decoders of values that can be described but not built without the user's classes.
_PLACEHOLDERS = {
    "module": lambda name: _Unquoted(f"modules[{name!r}]"),
    "balancer": lambda content: _Unquoted(f"{content['class']}({_REPR.repr(content['parameters'])})"),
}
