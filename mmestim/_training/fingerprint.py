"""Digest that identifies a fit: equal for equal parameters and data, different for any others."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from .._data.batches import Rows
from .checkpoints import FORMAT

# The code of these packages is represented by their version; all other code is hashed.
_LIBRARIES = {"mmestim": "mmestim", "numpy": "numpy", "skorch": "skorch", "sklearn": "scikit-learn", "torch": "torch"}
_PLAIN_TYPES = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))

# Rows whose blocks are part of a brief fingerprint.
_N_BRIEF_ROWS = 64

# Parameters that do not influence the weights.
_IRRELEVANT_PARAMETERS = {"checkpoint", "device", "max_memory", "random_state", "verbose"}
# Parameters that may differ between the processes of a fit. Folds and initial weights are those of the first process.
_PARAMETERS_OF_A_PROCESS = {*_IRRELEVANT_PARAMETERS, "callbacks", "cv", "encoder", "hop", "n_jobs", "temp_folder"}


def fingerprint(estimator: Any, rows: Rows, groups: Any, seed: int, device: torch.device) -> str:
    """Return a digest of everything that determines the weights, except the number of threads.

    Parameters
    ----------
    estimator : estimator
        Estimator whose class, parameters and `classes_` are hashed.
    rows : Rows
        Every row of the data, loaded.
    groups : array-like or None
        Groups that were passed to `fit`.
    seed : int
        Number drawn from `random_state`, hashed in place of it.
    device : torch.device
        Device of the training; only its type is hashed.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    digest = Fingerprint()
    parameters = estimator.get_params(deep=False).items()
    digest.add(FORMAT)
    digest.add([version(name) for name in _LIBRARIES.values()])
    digest.add(type(estimator))
    digest.add({name: value for name, value in parameters if name not in _IRRELEVANT_PARAMETERS})
    digest.add([seed, device.type, estimator.classes_, None if groups is None else np.asarray(groups)])
    digest.add([rows.y, rows.weight])
    for name, shape in rows.blocks.shapes.items():
        digest.add([name, shape])
        for chunk in rows.blocks.chunks(name):  # Read anew, so that the digest does not depend on max_memory.
            digest.add(list(rows.blocks.read(name, chunk)))
    return digest.hexdigest()


def parameter_fingerprint(estimator: Any, *values: Any) -> str:
    """Return a digest of parameters that all processes of a fit must have, and of further values."""
    digest = Fingerprint()
    parameters = estimator.get_params(deep=False).items()
    digest.add({name: value for name, value in parameters if name not in _PARAMETERS_OF_A_PROCESS})
    digest.add(values)
    return digest.hexdigest()


def brief_fingerprint(estimator: Any, rows: Rows, groups: Any) -> str:
    """Return a digest of the parameters, the targets and some of the rows."""
    digest = Fingerprint()
    digest.add(parameter_fingerprint(estimator))
    digest.add([estimator.classes_, rows.y, rows.weight, None if groups is None else np.asarray(groups)])
    some = np.unique(np.linspace(0, len(rows) - 1, _N_BRIEF_ROWS).astype(int))
    for name, shape in rows.blocks.shapes.items():
        digest.add([name, shape, *rows.blocks.read(name, some)])
    return digest.hexdigest()


class Fingerprint:
    """Digest of a sequence of values of any type.

    Arrays, tensors and containers are hashed by content; estimators and callbacks by class and
    parameters; functions and classes by name, code and the global values that the code names, without
    modules; other objects by their pickled parts or, if they cannot be pickled, by class and attributes.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._visiting: set[int] = set()  # Objects that contain the current one, so that cycles end.
        self._hashed_code: dict[int, Any] = {}  # Functions and classes, each hashed once.

    def hexdigest(self) -> str:
        """Return the digest of the values so far."""
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        """Add a value to the digest."""
        if isinstance(value, np.generic):
            value = value.item()
        self._write(_qualified_name(type(value)))
        if isinstance(value, _PLAIN_TYPES):
            self._write(repr(value))
        elif id(value) in self._visiting:
            self._write("again")
        else:
            self._visiting.add(id(value))
            self._hash_value(value)
            self._visiting.remove(id(value))

    def _write(self, content: Any) -> None:
        """Hash text or bytes, preceded by their length so that no two sequences give the same bytes."""
        content = content.encode() if isinstance(content, str) else content
        self._hash.update(len(content).to_bytes(8, "little"))
        self._hash.update(content)

    def _add_each(self, values: Iterable[Any]) -> None:
        values = list(values)
        self._write(str(len(values)))
        for value in values:
            self.add(value)

    def _hash_value(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self._write("lazy" if is_lazy(value) else f"{value.dtype} {tuple(value.shape)} {value.requires_grad}")
            if not is_lazy(value):
                self._write(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        elif isinstance(value, np.ndarray):
            self._write(f"{value.dtype.str} {value.shape}")
            if value.dtype.hasobject:
                self._add_each(value.ravel().tolist())
            else:
                self._write(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        elif isinstance(value, Mapping):
            self._add_each(part for pair in value.items() for part in pair)
        elif isinstance(value, list | tuple):
            self._add_each(value)
        elif isinstance(value, set | frozenset):
            self._add_each(sorted(_digest(item) for item in value))
        elif isinstance(value, ModuleType):
            self._write(value.__name__)
        elif isinstance(value, CodeType):
            self._write(value.co_code)
            self._add_each([value.co_names, value.co_varnames, value.co_consts])
        elif isinstance(value, type | FunctionType):
            self._write(_qualified_name(value))
            if not _is_library(value) and id(value) not in self._hashed_code:
                self._hashed_code[id(value)] = value
                self._add_each(_class_parts(value) if isinstance(value, type) else _function_parts(value))
        elif hasattr(value, "get_params"):
            self.add(type(value))
            self.add(_parameters(value))
        elif isinstance(value, functools._lru_cache_wrapper):
            self.add(value.__wrapped__)
        else:
            self._add_each(_pickled_parts(value))


def _digest(value: Any) -> str:
    digest = Fingerprint()
    digest.add(value)
    return digest.hexdigest()


def _qualified_name(code: type | FunctionType) -> str:
    return f"{code.__module__}.{code.__qualname__}"


def _is_library(code: type | FunctionType) -> bool:
    package = str(code.__module__).partition(".")[0]
    return package in _LIBRARIES or package in sys.stdlib_module_names


def _class_parts(cls: type) -> Iterator[Any]:
    """Yield bases, methods and attributes of a class."""
    yield cls.__bases__
    for name, value in sorted(vars(cls).items()):  # A class that was sent to a process has them in another order.
        value = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if isinstance(value, FunctionType) or not name.startswith("__"):
            yield [name, value]


def _function_parts(function: FunctionType) -> Iterator[Any]:
    """Yield everything that a call of the function depends on, as far as can be seen without a call."""
    yield [function.__code__, function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # The cell is still empty.
            yield None
    for name in sorted(_global_names(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        if hasattr(value, "get_params") and not isinstance(value, type):
            yield [name, type(value), vars(value)]  # With its attributes, as it may be fitted.
        elif not isinstance(value, ModuleType):
            yield [name, value]


def _global_names(code: CodeType) -> set[str]:
    nested = (_global_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*nested)


def _parameters(value: Any) -> dict[str, Any]:
    """Return the parameters of an object in scikit-learn's style.

    Parameters passed as ``**kwargs`` are found among the attributes.
    """
    accepted = inspect.signature(type(value)).parameters
    accepts_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    return {k: v for k, v in vars(value).items() if k in accepted or (accepts_any and not k.endswith("_"))}


def _pickled_parts(value: Any) -> list[Any]:
    try:
        reduced = value.__reduce_ex__(2)
    except Exception:  # A class may raise any type here.
        return [type(value), getattr(value, "__dict__", None)]
    if isinstance(reduced, str):
        return [reduced]
    return [*reduced[:3], *(list(items or ()) for items in reduced[3:5])]
