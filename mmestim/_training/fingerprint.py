"""A name for a fit: the same for the same parameters and data, another for any others."""

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

# What these do goes by their version; other code is looked at.
_LIBRARIES = {"mmestim": "mmestim", "numpy": "numpy", "skorch": "skorch", "sklearn": "scikit-learn", "torch": "torch"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))

# Parameters that change nothing about the weights.
_NO_MATTER = {"checkpoint", "device", "max_memory", "random_state", "verbose"}


def fingerprint(estimator: Any, rows: Rows, groups: Any, seed: int, device: torch.device) -> str:
    """Digest of all that the weights depend on but the number of threads.

    Parameters
    ----------
    estimator : estimator
        Its class, parameters and `classes_` count.
    rows : Rows
        Every row of the data, loaded.
    groups : array-like or None
        As given to `fit`.
    seed : int
        Drawn from `random_state`, in place of it.
    device : torch.device
        Its type counts.

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
    digest.add({name: value for name, value in parameters if name not in _NO_MATTER})
    digest.add([seed, device.type, estimator.classes_, None if groups is None else np.asarray(groups)])
    digest.add([rows.y, rows.weight])
    for name, shape in rows.blocks.shapes.items():
        digest.add([name, shape])
        for part in rows.blocks.chunks(name):  # Read anew, so that it does not matter which blocks are held.
            digest.add(list(rows.blocks.read(name, part)))
    return digest.hexdigest()


class Fingerprint:
    """Digest of values of any kind, one after the other.

    Arrays, tensors and containers count by content; estimators and callbacks by class and parameters;
    functions and classes by name, code, and what it names of their modules, other modules left out;
    other objects by what pickle would take, or where it cannot, by class and attributes.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._open: set[int] = set()  # Objects on the way down to here, so that a circle ends.
        self._code: dict[int, Any] = {}  # Functions and classes that were looked at.

    def hexdigest(self) -> str:
        """The digest so far."""
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        """Take in one more value."""
        if isinstance(value, np.generic):
            value = value.item()
        self._put(_name(type(value)))
        if isinstance(value, _PLAIN):
            self._put(repr(value))
        elif id(value) in self._open:
            self._put("again")
        else:
            self._open.add(id(value))
            self._take_apart(value)
            self._open.remove(id(value))

    def _put(self, content: Any) -> None:
        """Text or bytes, with their length, so that no two sequences of them look alike."""
        content = content.encode() if isinstance(content, str) else content
        self._hash.update(len(content).to_bytes(8, "little"))
        self._hash.update(content)

    def _each(self, values: Iterable[Any]) -> None:
        values = list(values)
        self._put(str(len(values)))
        for value in values:
            self.add(value)

    def _take_apart(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self._put("lazy" if is_lazy(value) else f"{value.dtype} {tuple(value.shape)} {value.requires_grad}")
            if not is_lazy(value):
                self._put(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        elif isinstance(value, np.ndarray):
            self._put(f"{value.dtype.str} {value.shape}")
            if value.dtype.hasobject:
                self._each(value.ravel().tolist())
            else:
                self._put(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        elif isinstance(value, Mapping):
            self._each(part for pair in value.items() for part in pair)
        elif isinstance(value, list | tuple):
            self._each(value)
        elif isinstance(value, set | frozenset):
            self._each(sorted(_digest(item) for item in value))
        elif isinstance(value, ModuleType):
            self._put(value.__name__)
        elif isinstance(value, CodeType):
            self._put(value.co_code)
            self._each([value.co_names, value.co_varnames, value.co_consts])
        elif isinstance(value, type | FunctionType):
            self._put(_name(value))
            if not _is_library(value) and id(value) not in self._code:
                self._code[id(value)] = value
                self._each(_class_parts(value) if isinstance(value, type) else _function_parts(value))
        elif hasattr(value, "get_params"):
            self.add(type(value))
            self.add(_settings(value))
        elif isinstance(value, functools._lru_cache_wrapper):
            self.add(value.__wrapped__)
        else:
            self._each(_pickled(value))


def _digest(value: Any) -> str:
    digest = Fingerprint()
    digest.add(value)
    return digest.hexdigest()


def _name(code: type | FunctionType) -> str:
    return f"{code.__module__}.{code.__qualname__}"


def _is_library(code: type | FunctionType) -> bool:
    package = str(code.__module__).partition(".")[0]
    return package in _LIBRARIES or package in sys.stdlib_module_names


def _class_parts(cls: type) -> Iterator[Any]:
    """Bases, methods and attributes of a class."""
    yield cls.__bases__
    for name, value in vars(cls).items():
        value = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if isinstance(value, FunctionType) or not name.startswith("__"):
            yield [name, value]


def _function_parts(function: FunctionType) -> Iterator[Any]:
    """What a call of the function depends on, as far as it can be seen without one."""
    yield [function.__code__, function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # Nothing in it yet.
            yield None
    for name in sorted(_global_names(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        if hasattr(value, "get_params") and not isinstance(value, type):
            yield [name, type(value), vars(value)]  # It is used as it is, fitted perhaps.
        elif not isinstance(value, ModuleType):
            yield [name, value]


def _global_names(code: CodeType) -> set[str]:
    nested = (_global_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*nested)


def _settings(value: Any) -> dict[str, Any]:
    """Parameters of an object in scikit-learn's style; those that came as ``**kwargs`` are attributes alone."""
    accepted = inspect.signature(type(value)).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    return {k: v for k, v in vars(value).items() if k in accepted or (takes_all and not k.endswith("_"))}


def _pickled(value: Any) -> list[Any]:
    try:
        reduced = value.__reduce_ex__(2)
    except Exception:  # Whatever a class may raise that is not made for it.
        return [type(value), getattr(value, "__dict__", None)]
    if isinstance(reduced, str):
        return [reduced]
    return [*reduced[:3], *(list(items or ()) for items in reduced[3:5])]
