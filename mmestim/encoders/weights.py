"""Weights from a file: state dicts of PyTorch and safetensors, in the wrappings that training scripts leave."""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

# Keys of training scripts under which the state dict of the network stands beside other state.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# Names that DataParallel and larger networks prepend.
_PREFIXES = ("module.", "model.", "backbone.")
_MAX_NAMES = 5


def read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read a state dict from a file, without running code in it.

    Parameters
    ----------
    path : str or path-like
        File of safetensors, by its suffix ``.safetensors``, or else of `torch.save`.

    Returns
    -------
    dict of str to Tensor
        Tensors on the CPU by name. A dict in ``state_dict``, ``model_state_dict`` or ``model`` is unwrapped, and the
        prefixes ``module.``, ``model.`` and ``backbone.`` are removed.

    Raises
    ------
    TypeError
        If `path` is no path.
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file holds no state dict.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"weights={path!r} must be the path of a file with a state dict.")
    shown = f"weights={os.fspath(path)!r}"
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{shown} is no file. Nothing is downloaded: pass the path of a state dict on this machine."
        )
    try:
        with torch.device("cpu"):
            if Path(path).suffix == ".safetensors":
                content: Any = safetensors.torch.load_file(path)
            else:
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(
            f"{shown} cannot be read as a state dict, because it is damaged or holds more than tensors. Save the "
            "weights alone: torch.save(model.state_dict(), path)."
        ) from error
    while isinstance(content, Mapping) and (wrapper := next((key for key in _WRAPPERS if key in content), None)):
        content = content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(value, torch.Tensor) for value in content.values()):
        keys = f" with {_listed([str(key) for key in content])}" if isinstance(content, Mapping) else ""
        raise ValueError(
            f"{shown} holds a {type(content).__name__}{keys}, expected a state dict of names and tensors, alone or "
            f"under one of {list(_WRAPPERS)}."
        )
    return {_without_prefixes(str(name)): value for name, value in content.items()}


def copy_weights(
    module: nn.Module, state: Mapping[str, torch.Tensor], path: str | os.PathLike[str], *, ignored: Collection[str]
) -> None:
    """Copy a state dict into a module, all of whose tensors it must hold.

    Parameters
    ----------
    module : nn.Module
        Module to change in place.
    state : mapping of str to Tensor
        Tensors by name.
    path : str or path-like
        File of the tensors, for error messages.
    ignored : collection of str
        Children of `module` that keep their weights, and layers of other networks that may be in the file.

    Raises
    ------
    ValueError
        If a tensor is missing, unexpected or of another shape.
    """
    expected = {name: tensor for name, tensor in module.state_dict().items() if name.split(".")[0] not in ignored}
    given = {name: tensor for name, tensor in state.items() if name.split(".")[0] not in ignored}
    # BatchNorm reads this count only without momentum, and files from before torch 0.4.1 lack it.
    missing = [name for name in expected if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in expected]
    reshaped = [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    parts = (("lacks", missing), ("has unexpected", unexpected), ("has other shapes:", reshaped))
    if problems := [f"{verb} {_listed(names)}" for verb, names in parts if names]:
        raise ValueError(
            f"weights={os.fspath(path)!r} does not fit {type(module).__name__}: it {' and '.join(problems)}. Pass a "
            "state dict of this network, with the names of torchvision."
        )
    with torch.no_grad():
        for name, tensor in given.items():
            expected[name].copy_(tensor)


def _without_prefixes(name: str) -> str:
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def _listed(names: list[str]) -> str:
    further = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"{', '.join(names[:_MAX_NAMES])}{further}"
