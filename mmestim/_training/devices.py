"""Device, precision and random generators of the networks."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from .._distributed.processes import local_gpu

# Torch's generators are global, so fits in several threads take turns; otherwise they would share one sequence.
_SEEDING = threading.RLock()


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device that `device` names, or raise if this machine has none of that name."""
    available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if device == "auto":
        return torch.device(f"cuda:{local_gpu()}" if "cuda:0" in available else available[-1])
    try:
        requested = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is not a device. Use 'auto' or one of {available}.") from error
    if requested.type == "cuda" and requested.index is None:
        requested = torch.device(f"cuda:{local_gpu()}" if "cuda:0" in available else "cuda:0")
    if str(requested) not in available:
        raise ValueError(f"device={str(device)!r} was requested, but this machine has {available}. Use device='auto'.")
    return requested


def available_device(device: str, owner: str) -> torch.device:
    """Return the device that a stored object was on or, with a warning, the CPU if this machine has no such device."""
    try:
        return resolve_device(device)
    except ValueError:
        warnings.warn(
            f"{owner} was fitted on {device}, which this machine does not have: it predicts on the CPU.", stacklevel=3
        )
        return torch.device("cpu")


def seed_for(seed: int, *purpose: str) -> int:
    """Return a seed for one purpose, such as the branch of a modality, derived from a common seed."""
    digest = hashlib.blake2b("\0".join([str(seed), *purpose]).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "little")


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Set torch's generators to `seed` inside the context, and restore them after it."""
    with _SEEDING, torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        # torch.manual_seed would also seed devices that are not restored.
        for generator in default_generators(device):
            generator.manual_seed(seed)
        yield


def default_generators(device: torch.device) -> list[torch.Generator]:
    """Return torch's global generators that training on a device draws from."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    return generators


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which encoders and heads run in `precision`."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
