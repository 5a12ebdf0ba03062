"""Processes of `torch.distributed` that take part in a fit."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import functools
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from joblib.parallel import get_active_backend

P = ParamSpec("P")
T = TypeVar("T")

# Environment of a process that torchrun, or a similar launcher, has started.
_LAUNCHED = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


class _Processes(NamedTuple):
    """Number of this process, and number of processes of the fit."""

    rank: int
    size: int


_ALONE = _Processes(0, 1)
# Threads that joblib starts within a fit do not inherit it, so they train alone.
_processes = contextvars.ContextVar("_processes", default=_ALONE)
if hasattr(os, "register_at_fork"):  # A forked process would send messages through the connections of its parent.
    os.register_at_fork(after_in_child=lambda: _processes.set(_ALONE))


def rank() -> int:
    """Return the number of this process in the fit under way, 0 outside of one."""
    return _processes.get().rank


def n_processes() -> int:
    """Return the number of processes of the fit under way, 1 outside of one."""
    return _processes.get().size


def data_parallel(fit: Callable[P, T]) -> Callable[P, T]:
    """Let a method `fit` run on all processes of `torch.distributed`, if there are several."""

    @functools.wraps(fit)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with _together():
            return fit(*args, **kwargs)

    return run


@contextlib.contextmanager
def _together() -> Iterator[None]:
    outer = _processes.set(_available_processes())
    try:
        yield
    finally:
        _processes.reset(outer)


def _available_processes() -> _Processes:
    # A task of joblib and another thread train alone, because other processes may run them in another order.
    is_task = get_active_backend()[0].nesting_level > 0 or multiprocessing.current_process().daemon
    if is_task or not dist.is_available():
        return _ALONE
    if threading.current_thread() is not threading.main_thread():
        if dist.is_initialized() and dist.get_world_size() > 1:
            warnings.warn(
                f"fit trains on this process alone, although the group of torch.distributed has "
                f"{dist.get_world_size()}, because it runs in a thread. Call it in the main thread to train on all.",
                stacklevel=5,
            )
        return _ALONE
    if not dist.is_initialized() and _is_launched():
        _initialize()
    return _Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else _ALONE


def _is_launched() -> bool:
    """Return whether a launcher such as torchrun has started this process as one of several."""
    # Processes that a launched process starts, such as joblib's workers, inherit the environment.
    is_child = multiprocessing.current_process().name != "MainProcess"
    return not is_child and os.environ.keys() >= _LAUNCHED and int(os.environ["WORLD_SIZE"]) > 1


def _initialize() -> None:
    """Join the group of the launcher, with NCCL for tensors on GPUs and gloo for others."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_gpu())
    dist.init_process_group()
    atexit.register(_destroy)


def _destroy() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def local_gpu() -> int:
    """Return the number of the GPU of this process."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count()  # A launcher may show each its own GPU only.
    return torch.cuda.current_device() if dist.is_available() and dist.is_initialized() else 0


def leave() -> None:
    """Continue the fit under way alone, because the other processes may have stopped."""
    _processes.set(_ALONE)
