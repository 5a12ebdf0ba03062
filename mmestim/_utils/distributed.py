"""One fit on several processes of `torch.distributed`: their shares of a batch, and what they exchange.

Every process calls the same fit with the same data. Encoders read the process's share of a batch; features are
gathered, so that heads, losses and scores have the whole batch on every process. Gradients are averaged.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from joblib.parallel import get_active_backend
from torch import nn

P = ParamSpec("P")
T = TypeVar("T")

# Environment of a process that torchrun, or a similar launcher, has started.
_LAUNCHED = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}

# Smaller tensors travel in one message, because each message has a latency.
_LARGE = 2**20


class _Processes(NamedTuple):
    """Number of this process, and number of processes of the fit."""

    rank: int
    size: int


_ALONE = _Processes(0, 1)
# Threads that joblib starts within a fit do not inherit it, so they train alone.
_processes = contextvars.ContextVar("_processes", default=_ALONE)


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
    if is_task or threading.current_thread() is not threading.main_thread() or not dist.is_available():
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


class Share(NamedTuple):
    """Rows from `start` to before `stop` of a batch of `total` rows, which this process reads."""

    start: int
    stop: int
    total: int

    def of(self, values: Any) -> Any:
        """Return the share of values that have one entry per row."""
        return values[self.start : self.stop]

    def first(self, n_rows: int) -> Share:
        """Return the share of the first `n_rows` rows."""
        return Share(min(self.start, n_rows), min(self.stop, n_rows), n_rows)


def share_of(n_rows: int, n_sure: int | None = None) -> Share | None:
    """Return the share of this process of a batch, or None if every process reads all rows.

    Parameters
    ----------
    n_rows : int
        Number of rows of the batch.
    n_sure : int, default=None
        Number of rows that are no padding, by default all of them.

    Returns
    -------
    Share or None
        The share. There is none of a batch that leaves a process with fewer than two rows, on which BatchNorm
        cannot train.
    """
    number, size = _processes.get()
    last_start = n_rows * (size - 1) // size
    if size == 1 or (n_rows if n_sure is None else n_sure) - last_start < 2 or n_rows < 2 * size:
        return None
    return Share(n_rows * number // size, n_rows * (number + 1) // size, n_rows)


def gather(values: torch.Tensor, share: Share, dim: int = 0) -> torch.Tensor:
    """Return the values of all rows of a batch from those of each process's share.

    The gradient is that of a loss which every process computes from all rows, times the number of processes, so that
    `average` gives the gradient of the batch.

    Parameters
    ----------
    values : Tensor
        Values of the share of this process.
    share : Share
        The share.
    dim : int, default=0
        Axis of the rows.

    Returns
    -------
    Tensor
        Values of all rows.
    """
    return _Gather.apply(values, share, dim % values.ndim)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, share: Share, dim: int) -> torch.Tensor:
        ctx.share, ctx.dim, ctx.size = share, dim, n_processes()
        shape = [share.total if axis == dim else length for axis, length in enumerate(values.shape)]
        # A sum with zeros gathers shares of different sizes, on every backend.
        gathered = values.new_zeros(shape)
        gathered.narrow(dim, share.start, share.stop - share.start).copy_(values)
        dist.all_reduce(gathered)
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        part = gradients[0].narrow(ctx.dim, ctx.share.start, ctx.share.stop - ctx.share.start)
        return ctx.size * part, None, None


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over the processes, with a gradient through all of them."""
    return _Sum.apply(values)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def average(
    gradients: Sequence[torch.Tensor | None], parameters: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor | None]:
    """Return the means of gradients over the processes.

    Parameters
    ----------
    gradients : sequence of Tensor or None
        Gradient of each parameter; None counts as zero if another process has one.
    parameters : sequence of Tensor
        The parameters.

    Returns
    -------
    sequence of Tensor or None
        Means; None where no process has a gradient.
    """
    if n_processes() == 1 or not parameters:
        return gradients
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    one = torch.ones((), device=filled[0].device)
    exists = torch.stack([one if g is not None else 0 * one for g in gradients])
    with torch.no_grad():
        *means, exists = _exchange(dist.all_reduce, [*filled, exists])
        torch._foreach_div_(means, n_processes())
    if all(g is not None for g in gradients):
        return means  # Without copying to the CPU.
    return [mean if n_existing else None for mean, n_existing in zip(means, exists.tolist(), strict=True)]


@torch.no_grad()
def synchronize(module: nn.Module) -> None:
    """Set the parameters and buffers of a module to those of the first process."""
    if n_processes() > 1:
        tensors = [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]
        for tensor, value in zip(tensors, _exchange(functools.partial(dist.broadcast, src=0), tensors), strict=True):
            tensor.copy_(value)


def _exchange(collective: Callable[[torch.Tensor], Any], tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the results of a collective operation on tensors, of which the small ones of a type travel together."""
    results = list(tensors)
    for kind in dict.fromkeys((tensor.dtype, tensor.device) for tensor in tensors):
        alike = [number for number, tensor in enumerate(tensors) if (tensor.dtype, tensor.device) == kind]
        groups = [[number for number in alike if tensors[number].numel() < _LARGE]]
        groups += [[number] for number in alike if tensors[number].numel() >= _LARGE]
        for group in filter(None, groups):
            flat = torch.cat([tensors[number].reshape(-1) for number in group])
            collective(flat)
            parts = flat.split([tensors[number].numel() for number in group])
            for number, part in zip(group, parts, strict=True):
                results[number] = part.view_as(tensors[number])
    return results


def from_first(value: T) -> T:
    """Return the value of the first process."""
    if n_processes() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def any_process(is_true: bool) -> bool:
    """Return whether a condition is true on any process."""
    return any(_from_all(is_true)) if n_processes() > 1 else is_true


def check_same(digest: Callable[[], Any], owner: str) -> None:
    """Raise ValueError on every process if the arguments of a fit differ between the processes.

    Parameters
    ----------
    digest : callable
        Function without arguments that returns a digest of them, called if there are several processes.
    owner : str
        Name of the estimator.
    """
    if n_processes() > 1 and len(set(_from_all(digest()))) > 1:
        raise ValueError(
            f"{owner}.fit received different data or parameters in the {n_processes()} processes of "
            "torch.distributed. Pass all rows in the same order in each of them; fit divides the batches itself."
        )


def _from_all(value: T) -> list[T]:
    values: list[Any] = [None] * n_processes()
    dist.all_gather_object(values, value)
    return values
