"""The state of a training on disk, so that a fit that was killed goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import time
import warnings
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .._utils.atomic_write import write_whole

# Of the files; another makes other fingerprints.
FORMAT = 2

# Seconds after which a file that was never finished is one that its fit left when it was killed.
_STALE = 3600

# What is left of a training that is done.
_RESULTS = ("module", "objective", "history")

_DIGEST_SIZE = 16

_CONTAINERS: dict[str, Any] = {
    kind.__name__: kind for kind in (Counter, OrderedDict, deque, dict, frozenset, list, set, tuple)
}


def check_checkpoint(checkpoint: Any, random_state: Any) -> None:
    """Raise unless fits can be kept in the folder, which is made if it is missing, and told from others."""
    try:
        folder = Path(checkpoint)
    except TypeError:
        raise TypeError(f"checkpoint={checkpoint!r} must be the path of a folder, or None.") from None
    if checkpoint == "":
        raise ValueError("checkpoint='' names no folder. Use checkpoint='.' for the current one, or None for none.")
    if random_state is None:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} needs a fit that can be repeated, and random_state=None draws another "
            "seed each time. Use an int, such as random_state=0."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} is not a folder that can be written to ({error.strerror}). Name one that "
            "can be, or a new one."
        ) from error


class Checkpoints:
    """The files of one fit: one for each of its trainings, numbered in the order in which these start.

    A fit repeats its steps from the start, so the numbers repeat too. A training that is done gives
    its weights; the one under way goes on after its last whole epoch.

    Parameters
    ----------
    folder : path-like
        Where they are.
    fingerprint : str
        What no other fit has.
    device : torch.device
        Where it trains.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str, device: torch.device) -> None:
        self.folder, self.fingerprint, self.device = Path(folder), fingerprint, device
        self.n_started = 0
        for path in self.folder.glob(f".{fingerprint}-*.tmp"):
            with contextlib.suppress(OSError):  # Of the same fit in another process, which tidies too.
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()

    def start(self) -> Checkpoint:
        """The file of the next training, which may start another within itself."""
        self.n_started += 1
        return Checkpoint(self, self.n_started - 1)

    def path(self, number: int) -> Path:
        """Where the file of a training is."""
        return self.folder / f"{self.fingerprint}-{number}.ckpt"


class Checkpoint:
    """The file of one training: read at its start, restored once it has begun, and written after each epoch.

    `parts` are by name the objects that the next epoch depends on; "module" is the network.
    """

    def __init__(self, fit: Checkpoints, number: int) -> None:
        self.fit, self.path = fit, fit.path(number)
        self._saved = self._read()
        self.is_finished = self._saved is not None and self._saved["finished"]

    def restore(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Bring the parts to the state in the file; without one to what they are, which shows what can be kept."""
        packer = _Packer(parts["module"])
        packer.pack_each(parts)
        self._fillable, self._n_tidied = packer.fillable, self.fit.n_started
        saved, self._saved = self._saved, None
        if saved is None:
            return dict(parts)
        try:
            self.fit.n_started = saved["n_started"]
            tensors = _tensors(parts["module"])
            restored = {name: _unpack(tree, parts[name], tensors) for name, tree in saved["parts"].items()}
        except Exception as error:
            raise ValueError(
                f"checkpoint {str(self.path)!r} does not fit this training, whose code may have changed: "
                f"{_in_a_line(error)}. Delete it."
            ) from error
        return dict(parts) | restored

    def write(self, parts: Mapping[str, Any], finished: bool = False) -> None:
        """Keep the parts; of a training that is `finished` its results alone, without optimizers."""
        packer = _Packer(parts["module"], with_optimizers=not finished)
        packed = packer.pack_each({name: parts[name] for name in _RESULTS} if finished else parts)
        if late := packer.fillable - self._fillable:
            raise TypeError(
                f"checkpoint: {min(late)} was made after the first epoch began, when a fit that goes on could not make "
                "it again. Make it in `begin`."
            )
        buffer = io.BytesIO()
        torch.save({"finished": finished, "n_started": self.fit.n_started, "parts": packed}, buffer)
        try:
            self.fit.folder.mkdir(parents=True, exist_ok=True)  # It may have been deleted meanwhile.
            write_whole(self.path, [_digest(buffer.getbuffer()), buffer.getbuffer()])
        except OSError as error:
            error.add_note(f"The state of training could not be written to checkpoint={str(self.fit.folder)!r}.")
            raise
        for number in range(self._n_tidied, self.fit.n_started):  # Trainings within the epochs that are over.
            self.fit.path(number).unlink(missing_ok=True)
        self._n_tidied = self.fit.n_started

    def _read(self) -> dict[str, Any] | None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, body = content[:_DIGEST_SIZE], memoryview(content)[_DIGEST_SIZE:]
        reason = "its checksum is wrong"
        if digest == _digest(body):
            try:
                return torch.load(io.BytesIO(body), map_location=self._place, weights_only=True)
            except Exception as error:  # The unpickler raises whatever it is led to.
                reason = _in_a_line(error)
        warnings.warn(
            f"checkpoint {str(self.path)!r} cannot be read ({reason}): the training that it was of starts anew, and "
            "will overwrite it.",
            stacklevel=2,
        )
        return None

    def _place(self, storage: Any, location: str) -> Any:
        """A storage on the device of this fit, or on the CPU if it was there."""
        device = location if location == "cpu" else str(self.fit.device)
        return torch.serialization.default_restore_location(storage, device)


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


def _digest(content: Any) -> bytes:
    """Checksum against damage; it guards against no one who can compute it, which `weights_only` does."""
    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
