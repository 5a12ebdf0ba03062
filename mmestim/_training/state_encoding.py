"""Objects whose state a checkpoint holds, and their state as tensors and plain containers."""

from __future__ import annotations

import io
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

_CONTAINERS: dict[str, Any] = {
    kind.__name__: kind for kind in (Counter, OrderedDict, deque, dict, frozenset, list, set, tuple)
}


class Stateful:
    """Objects whose state are the attributes that `state_attributes` names, as far as they are there.

    `state_dict` may hold objects that have one themselves; `load_state_dict` is called once these are restored.
    """

    state_attributes: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """What changes in training."""
        return {name: getattr(self, name) for name in self.state_attributes if hasattr(self, name)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        vars(self).update(state)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _memory(tensor: torch.Tensor) -> int:
    """Address of what the tensor is a view of, 0 where there is nothing."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


class _Packer:
    """What turns objects into tensors and plain containers, which is all that a file may hold.

    A tensor stays as it is, so that those that share memory still do once read; one of the network's,
    in whatever list, becomes its name. What can be filled again but not made is noted in `fillable`.
    """

    def __init__(self, module: nn.Module, with_optimizers: bool = True) -> None:
        tensors = _tensors(module)
        self.names = {id(tensor): name for name, tensor in tensors.items()}
        self.memory = {_memory(tensor) for tensor in tensors.values()} - {0}
        self.with_optimizers = with_optimizers
        self.fillable: set[str] = set()

    def pack_each(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """The parts, packed, by name."""
        return {name: self.pack(part, name) for name, part in parts.items()}

    def pack(self, value: Any, place: str) -> Any:
        """A value, which `place` names in errors: plain, a tensor, or a pair of what it is and how it is."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if id(value) in self.names:
            return "of the network", self.names[id(value)]
        if isinstance(value, torch.Tensor) and (value.is_leaf or not value.requires_grad):
            if _memory(value) in self.memory:
                raise TypeError(
                    f"checkpoint: {place} shares memory with the network. Keep the parameter itself, or a clone of it."
                )
            # An optimizer may hold one that trains.
            return self._fill("parameter", place, value.detach()) if value.requires_grad else value
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            buffer = io.BytesIO()
            np.save(buffer, value, allow_pickle=False)
            return "array" if isinstance(value, np.ndarray) else "number", buffer.getvalue()
        if _CONTAINERS.get(kind.__name__) is kind:
            if isinstance(value, dict):
                pairs = [(self.pack(key, place), self.pack(item, f"{place}[{key!r}]")) for key, item in value.items()]
                return kind.__name__, pairs
            return kind.__name__, [self.pack(item, f"{place}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, torch.Generator):
            return self._fill("torch generator", place, value.get_state())
        if isinstance(value, np.random.Generator):
            return self._fill("numpy generator", place, self.pack(value.bit_generator.state, place))
        if isinstance(value, nn.Module):
            state = value.state_dict()
            buffers = {name: buffer for name, buffer in value.named_buffers() if name not in state}
            # Tensors as they are, those of the network too, whose own state this may be.
            return self._fill("module", place, (self._state(value, state), buffers))
        if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            return self._fill("state", place, self._state(value, value.state_dict()))
        raise TypeError(
            f"checkpoint: {place} is a {kind.__name__}, which cannot be kept. What a method remembers must be numbers, "
            "strings, arrays, tensors, random generators, containers of these, or have state_dict and load_state_dict."
        )

    def _state(self, value: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
        state = {}
        for name, part in parts.items():
            if isinstance(value, nn.Module) and isinstance(part, torch.Tensor):
                state[name] = part
            elif self.with_optimizers or not isinstance(part, torch.optim.Optimizer):
                state[name] = self.pack(part, f"{type(value).__name__}.{name}")
        return state

    def _fill(self, kind: str, place: str, content: Any) -> tuple[str, Any]:
        self.fillable.add(place)
        return kind, content


def _unpack(tree: Any, live: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What was packed; `live` is what stands in its place, to be filled if it cannot be made anew."""
    if not isinstance(tree, tuple):
        return tree
    kind, content = tree
    if kind == "of the network":
        return tensors[content]
    if kind in ("array", "number"):
        array = np.load(io.BytesIO(content), allow_pickle=False)
        return array if kind == "array" else array[()]
    if kind in _CONTAINERS and issubclass(_CONTAINERS[kind], dict):
        at = live if isinstance(live, Mapping) else {}
        pairs = ((_unpack(key, None, tensors), item) for key, item in content)
        return _CONTAINERS[kind]({key: _unpack(item, at.get(key), tensors) for key, item in pairs})
    if kind in _CONTAINERS:
        beside = list(live) if isinstance(live, list | tuple | deque) else []
        beside += [None] * (len(content) - len(beside))
        return _CONTAINERS[kind](_unpack(item, other, tensors) for item, other in zip(content, beside, strict=False))
    if kind == "parameter":
        with torch.no_grad():
            live.copy_(content)
    elif kind == "torch generator":
        live.set_state(content)
    elif kind == "numpy generator":
        live.bit_generator.state = _unpack(content, None, tensors)
    else:
        state, buffers = content if kind == "module" else (content, {})
        at = live.state_dict()
        live.load_state_dict({name: _unpack(item, at.get(name), tensors) for name, item in state.items()})
        for name, buffer in buffers.items():
            _set_buffer(live, name, buffer)
    return live


@torch.no_grad()
def _set_buffer(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Give a buffer that is not persistent its value: in place, as others may hold it, unless it has grown."""
    owner, _, own_name = name.rpartition(".")
    holder = module.get_submodule(owner)
    live = dict(holder.named_buffers(recurse=False)).get(own_name)
    if live is not None and live.shape == value.shape and live.dtype == value.dtype:
        live.copy_(value)
    else:
        holder.register_buffer(own_name, value, persistent=False)
