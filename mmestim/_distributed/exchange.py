"""Shares of a batch, and what the processes of a fit exchange.

Every process calls the same fit with the same data. Encoders read the process's share of a batch; features are
gathered, so that heads, losses and scores have the whole batch on every process. Gradients are averaged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from .processes import n_processes, rank

T = TypeVar("T")

# Smaller tensors travel in one message, because each message has a latency.
_LARGE = 2**20


class Share(NamedTuple):
    """Rows from `start` to before `stop` of a batch of `total` rows, which this process reads.

    The process with the smallest share reads `fewest` rows.
    """

    start: int
    stop: int
    total: int
    fewest: int

    def of(self, values: Any) -> Any:
        """Return the share of values that have one entry per row."""
        return values[self.start : self.stop]

    def first(self, n_rows: int) -> Share:
        """Return the share of the first `n_rows` rows."""
        n_last = -(-self.total // n_processes())  # The rows that fall away are those of the last process.
        fewest = min(self.fewest, n_last - (self.total - n_rows))
        return Share(min(self.start, n_rows), min(self.stop, n_rows), n_rows, fewest)


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
    number, size = rank(), n_processes()
    last_start = n_rows * (size - 1) // size
    if size == 1 or (n_rows if n_sure is None else n_sure) - last_start < 2 or n_rows < 2 * size:
        return None
    return Share(n_rows * number // size, n_rows * (number + 1) // size, n_rows, n_rows // size)


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
