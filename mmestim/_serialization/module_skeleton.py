"""Networks rebuilt from a file, each part checked against the file before it takes memory."""

from __future__ import annotations

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import nn

from .model_file import TensorSpec

CPU = torch.device("cpu")

Built = TypeVar("Built")


def build_on_meta(
    make: Callable[[], Built], check: Callable[[Built], None], *, is_user_defined: bool, is_small_enough: bool
) -> Built:
    """Build a module on the meta device and check it; build a user-defined one on the CPU afterwards.

    A user-defined module is built on the CPU because it may have buffers that the file does not hold. Some modules
    cannot be built on the meta device; those are built on the CPU alone, if they are small enough.

    Parameters
    ----------
    make : callable
        Function that builds the module on torch's default device.
    check : callable
        Function that takes the built module and raises ValueError if it does not fit the file.
    is_user_defined : bool
        Whether the module contains code of the user.
    is_small_enough : bool
        Whether a user-defined module may be built on the CPU without being checked on the meta device first.

    Returns
    -------
    module
        The return value of `make`: on the meta device, or on the CPU if it is user-defined.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            if is_user_defined:  # torch warns about weights that cannot be copied to the meta device.
                warnings.simplefilter("ignore")
            module = make()
    except Exception:
        if not is_user_defined or not is_small_enough:
            raise
    else:
        check(module)
        if not is_user_defined:
            return module
    with CPU:
        module = make()
    check(module)
    return module


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """Set torch's default dtype to float32, as in `fit`, for the duration of the context."""
    previous_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(previous_dtype)


def load_weights(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the submodules that have memory, and assign them to those on the meta device."""
    are_on_meta = {tensor.is_meta for tensor in module.state_dict().values()}
    if len(are_on_meta) < 2:
        module.load_state_dict(state, assign=True in are_on_meta)
        return
    states: defaultdict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        child_name, _, name_in_child = name.partition(".")
        states[child_name][name_in_child] = tensor
    for name, buffer in module.named_buffers(recurse=False):
        if name in state:
            module.register_buffer(name, state[name] if buffer.is_meta else buffer.copy_(state[name]))
    for child_name, child in module.named_children():
        load_weights(child, states[child_name])


def specs_of(module: nn.Module, prefix: str) -> dict[str, TensorSpec]:
    """Return the specs of a module's state, by their names in the file, which begin with `prefix`."""
    return {f"{prefix}{name}": TensorSpec.from_tensor(tensor) for name, tensor in module.state_dict().items()}


def count_values(specs: Mapping[str, TensorSpec]) -> int:
    """Return the number of values in all tensors."""
    return sum(spec.n_values for spec in specs.values())


def check_specs(expected: Mapping[str, TensorSpec], specs: Mapping[str, TensorSpec]) -> None:
    """Raise ValueError unless the specs in the file are those of the module."""
    for name in [*expected, *specs]:
        if expected.get(name) != specs.get(name):
            raise ValueError(
                f"its tensors do not match its parameters: {name!r} is {specs.get(name, 'missing')}; expected "
                f"{expected.get(name, 'no such tensor')}."
            )
