"""State of training objects as tensors and plain containers, the only types that a checkpoint holds."""

from __future__ import annotations

import copy
import io
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

_CONTAINERS: dict[str, Any] = {
    container.__name__: container for container in (Counter, OrderedDict, deque, dict, frozenset, list, set, tuple)
}


class Stateful:
    """Object whose state consists of the attributes that `state_attributes` names.

    Attributes that are not set yet are left out. `state_dict` may return objects that have a
    `state_dict` themselves; `load_state_dict` is called once these are restored.
    """

    state_attributes: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {name: getattr(self, name) for name in self.state_attributes if hasattr(self, name)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        vars(self).update(state)


class StateEncoder:
    """Encoder of objects as tensors and plain containers.

    Tensors that share memory still do after they are read. A tensor of the network is replaced by its
    name, wherever it is referenced.

    Parameters
    ----------
    module : nn.Module
        The network.
    with_optimizers : bool, default=True
        Whether to include the state of optimizers inside other objects.
    copies : bool, default=False
        Whether to copy tensors, so that later training does not change what is encoded.

    Attributes
    ----------
    in_place : set of str
        Paths of the objects that cannot be created from a file, only restored in place.
    """

    def __init__(self, module: nn.Module, with_optimizers: bool = True, copies: bool = False) -> None:
        tensors = named_tensors(module)
        self.names = {id(tensor): name for name, tensor in tensors.items()}
        self.addresses = {_storage_address(tensor) for tensor in tensors.values()} - {0}
        self.with_optimizers, self.copies = with_optimizers, copies
        self._copied: dict[int, Any] = {}  # keeps copies together that share memory
        self.in_place: set[str] = set()

    def encode_each(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the encoded parts by name."""
        return {name: self.encode(part, name) for name, part in parts.items()}

    def encode(self, value: Any, path: str) -> Any:
        """Return a plain value, a tensor, or a pair of kind and content; error messages name `path`."""
        value_type = type(value)
        if value is None or value_type in (bool, int, float, str):
            return value
        if id(value) in self.names:
            return "tensor of the network", self.names[id(value)]
        if isinstance(value, torch.Tensor) and (value.is_leaf or not value.requires_grad):
            if _storage_address(value) in self.addresses:
                raise TypeError(
                    f"checkpoint: {path} shares memory with the network. Keep the parameter itself, or a clone of it."
                )
            # A trainable tensor may be referenced by an optimizer, so it must stay the same object.
            tensor = self._tensor(value.detach())
            return self.register_in_place("parameter", path, tensor) if value.requires_grad else tensor
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            buffer = io.BytesIO()
            np.save(buffer, value, allow_pickle=False)
            return "array" if isinstance(value, np.ndarray) else "numpy scalar", buffer.getvalue()
        if _CONTAINERS.get(value_type.__name__) is value_type:
            return value_type.__name__, self._encode_items(value, path)
        if isinstance(value, torch.Generator):
            return self.register_in_place("torch generator", path, value.get_state())
        if isinstance(value, np.random.Generator):
            return self.register_in_place("numpy generator", path, self.encode(value.bit_generator.state, path))
        if isinstance(value, nn.Module):
            state = value.state_dict()
            buffers = {name: self._tensor(buffer) for name, buffer in value.named_buffers() if name not in state}
            return self.register_in_place("module", path, (self._encode_state(value, state), buffers))
        if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            return self.register_in_place("state", path, self._encode_state(value, value.state_dict()))
        raise TypeError(
            f"checkpoint: {path} is of type {value_type.__name__}, which cannot be stored. The state of a method must "
            "consist of numbers, strings, arrays, tensors, random generators, containers of these, or objects with "
            "state_dict and load_state_dict."
        )

    def register_in_place(self, kind: str, path: str, content: Any) -> tuple[str, Any]:
        """Record that the object at `path` is restored in place, and return the pair that encodes it."""
        self.in_place.add(path)
        return kind, content

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        return copy.deepcopy(tensor, self._copied) if self.copies else tensor

    def _encode_items(self, container: Any, path: str) -> list[Any]:
        if isinstance(container, dict):
            return [(self.encode(key, path), self.encode(item, f"{path}[{key!r}]")) for key, item in container.items()]
        return [self.encode(item, f"{path}[{i}]") for i, item in enumerate(container)]

    def _encode_state(self, owner: Any, state: Mapping[str, Any]) -> dict[str, Any]:
        encoded = {}
        for name, value in state.items():
            if isinstance(owner, nn.Module) and isinstance(value, torch.Tensor):
                # The module may be the network itself, whose tensors must not be replaced by names.
                encoded[name] = self._tensor(value)
            elif self.with_optimizers or not isinstance(value, torch.optim.Optimizer):
                encoded[name] = self.encode(value, f"{type(owner).__name__}.{name}")
        return encoded


def decode(encoded: Any, current: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return the value that was encoded.

    Parameters
    ----------
    encoded : object
        Result of `StateEncoder.encode`.
    current : object
        Current value at the same path. It is restored in place if it cannot be created anew.
    tensors : dict of str to Tensor
        Parameters and buffers of the network.

    Returns
    -------
    object
        The value.
    """
    if not isinstance(encoded, tuple):
        return encoded
    kind, content = encoded
    if kind == "tensor of the network":
        return tensors[content]
    if kind in ("array", "numpy scalar"):
        array = np.load(io.BytesIO(content), allow_pickle=False)
        return array if kind == "array" else array[()]
    if kind in _CONTAINERS:
        return _decode_items(_CONTAINERS[kind], content, current, tensors)
    if kind == "parameter":
        with torch.no_grad():
            current.copy_(content)
    elif kind == "torch generator":
        current.set_state(content)
    elif kind == "numpy generator":
        current.bit_generator.state = decode(content, None, tensors)
    else:
        state, buffers = content if kind == "module" else (content, {})
        current_state = current.state_dict()
        current.load_state_dict(
            {name: decode(value, current_state.get(name), tensors) for name, value in state.items()}
        )
        for name, buffer in buffers.items():
            _set_buffer(current, name, buffer)
    return current


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers of a module by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _decode_items(container: Any, content: list[Any], current: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if issubclass(container, dict):
        current_items = current if isinstance(current, Mapping) else {}
        pairs = ((decode(key, None, tensors), item) for key, item in content)
        return container({key: decode(item, current_items.get(key), tensors) for key, item in pairs})
    current_list = list(current) if isinstance(current, list | tuple | deque) else []
    current_list += [None] * (len(content) - len(current_list))
    return container(decode(item, other, tensors) for item, other in zip(content, current_list, strict=False))


def _storage_address(tensor: torch.Tensor) -> int:
    """Return the address of the memory that the tensor is a view of, 0 if it has none."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


@torch.no_grad()
def _set_buffer(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Set a non-persistent buffer, in place unless its shape or type changed, because others may reference it."""
    module_name, _, buffer_name = name.rpartition(".")
    owner = module.get_submodule(module_name)
    current = dict(owner.named_buffers(recurse=False)).get(buffer_name)
    if current is not None and current.shape == value.shape and current.dtype == value.dtype:
        current.copy_(value)
    else:
        owner.register_buffer(buffer_name, value, persistent=False)
