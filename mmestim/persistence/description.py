"""The header of a model's file as text."""

from __future__ import annotations

import os
import reprlib
from typing import Any

import numpy as np

from .._serialization.json_values import decode
from .._serialization.model_file import ModelFile
from .header import check_fields, naming_file


def describe(path: str | os.PathLike[str]) -> str:
    """What is in a file, as text, from its header alone.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    str
        One line for each thing it holds; texts as Python writes them, so that none can be a command to a terminal.

    Raises
    ------
    ValueError
        If the header is not that of a model.
    OSError
        If there is no such file, or it cannot be read.
    """
    with naming_file(path), ModelFile(path) as file:
        fields = check_fields(file.fields)
        parts = {part: {k: decode(v, _SHOWN) for k, v in fields[part].items()} for part in ("facts", "parameters")}
        lines = [f"{fields['class']} in {os.fspath(path)!r}, {file.n_bytes} bytes, format {file.format}"]
        parts["versions it was written with"] = {"mmestim": file.written_by, **fields["versions"]}
        parts["parameters saved as their defaults, by type"] = fields["left_out"]
        parts["tensors (not read)"] = file.specs
        for title, entries in parts.items():
            lines += [
                "",
                f"{title}:",
                *(f"  {_shown(_Shown(name))} = {_shown(value)}" for name, value in entries.items()),
            ]
        return "\n".join(lines)


class _Shown(str):
    """Text that stands for itself, once it is safe to print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(str(self))[1:-1]


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{_REPR.repr(value.tolist())}, {value.dtype}"
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxlist = _REPR.maxdict = _REPR.maxtuple = 20
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 100
_SHOWN = {
    "module": lambda name: _Shown(f"modules[{name!r}]"),
    "balancer": lambda content: _Shown(f"{content['class']}({_REPR.repr(content['parameters'])})"),
}
