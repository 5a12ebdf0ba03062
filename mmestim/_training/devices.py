"""Where networks run, in which precision, and on whose random numbers."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch

# Torch's generators are global: fits in several threads take turns, so that none draws another's numbers.
_SEEDING = threading.RLock()


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device that `device` names, checked to be on this machine."""
    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if device == "auto":
        return torch.device("cuda:0" if "cuda:0" in here else here[-1])
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is not a device. Use 'auto' or one of {here}.") from error
    if asked.type == "cuda" and asked.index is None:
        asked = torch.device("cuda:0")
    if str(asked) not in here:
        raise ValueError(f"device={str(device)!r} was requested, but this machine has {here}. Use device='auto'.")
    return asked


def available_device(device: str, whose: str) -> torch.device:
    """The device that something was on when it was stored, or the CPU, with a warning, where there is no such."""
    try:
        return resolve_device(device)
    except ValueError:
        warnings.warn(
            f"{whose} was fitted on {device}, which this machine has not: it predicts on the CPU.", stacklevel=3
        )
        return torch.device("cpu")


def seed_for(seed: int, *purpose: str) -> int:
    """A seed of its own for each purpose (a modality's branch, a helper network), all from one."""
    digest = hashlib.blake2b("\0".join([str(seed), *purpose]).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "little")


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators set to `seed` inside the context and put back after it."""
    with _SEEDING, torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        # Not torch.manual_seed, which would also seed the devices that are not put back.
        for generator in default_generators(device):
            generator.manual_seed(seed)
        yield


def default_generators(device: torch.device) -> list[torch.Generator]:
    """Torch's own generators that training on a device draws from."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    return generators


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context in which encoders and heads run in `precision`."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
