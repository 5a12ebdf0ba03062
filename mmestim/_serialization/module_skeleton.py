"""A saved network built again: part by part, each held against the file before the next one takes memory."""

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

Made = TypeVar("Made")


def build_on_meta(
    make: Callable[[], Made], check: Callable[[Made], None], *, is_user_defined: bool, is_small_enough: bool
) -> Made:
    """What `make` makes, checked: ours without memory; a user's with it, for it may have buffers that no file holds.

    A user's is sketched first as well. It may need numbers to be made, and then is, if it `is_small_enough`.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            if is_user_defined:  # Weights that it brings do not reach a sketch, as torch would say.
                warnings.simplefilter("ignore")
            made = make()
    except Exception:
        if not is_user_defined or not is_small_enough:
            raise
    else:
        check(made)
        if not is_user_defined:
            return made
    with CPU:
        made = make()
    check(made)
    return made


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """Torch's default type as in a fit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def load_weights(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors into the parts that have memory, and hand them over to those that have none."""
    sketched = {tensor.is_meta for tensor in module.state_dict().values()}
    if len(sketched) < 2:
        module.load_state_dict(state, assign=True in sketched)
        return
    parts: defaultdict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        child, _, rest = name.partition(".")
        parts[child][rest] = tensor
    for child, part in module.named_children():
        load_weights(part, parts[child])


def specs_of(module: nn.Module, prefix: str) -> dict[str, TensorSpec]:
    """What a file has of a network or a part, whose names there begin with `prefix`."""
    return {f"{prefix}{name}": TensorSpec.from_tensor(tensor) for name, tensor in module.state_dict().items()}


def count_values(specs: Mapping[str, TensorSpec]) -> int:
    """Number of values of all tensors."""
    return sum(spec.n_values for spec in specs.values())


def check_specs(wanted: Mapping[str, TensorSpec], specs: Mapping[str, TensorSpec]) -> None:
    """Compare every tensor of a network, or of a part, with those in the file."""
    for name in [*wanted, *specs]:
        if wanted.get(name) != specs.get(name):
            raise ValueError(
                f"its tensors are not those of its parameters: {name!r} is {specs.get(name, 'not there')}, expected "
                f"{wanted.get(name, 'none of this name')}."
            )
