"""Rows of the data with their targets, in whole batches."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch

from .._distributed.exchange import Share, gather, share_of
from .blocks import Blocks


class Batch(NamedTuple):
    """Rows of the data on the device.

    Attributes
    ----------
    x : dict of str to Tensor of shape (n_present, *sample_shape)
        Block of each modality, with the rows that have it.
    present : dict of str to Tensor of shape (n_present,)
        Positions in the batch of the rows in `x`, for modalities that some row lacks. In a graph for export, whose
        shapes must not depend on values, the mask of shape (size,) of the rows that have it, and `x` has all rows.
    size : int
        Number of rows.
    y : Tensor of shape (size,)
        Class numbers, or other targets.
    weight : Tensor of shape (size,) or None
        Weight of each row's loss.
    rows : Tensor of shape (size,)
        Row numbers in the data.
    counts : tuple of int
        Number of rows of each fold, in a batch whose tensors have an axis of folds in front (`FoldRows`).
    fold : int
        Fold whose network reads the batch (`InterleavedFolds`).
    shares : dict of str to Share or None
        Share of the rows in `x`, for modalities of which this process does not read all rows.
    """

    x: dict[str, torch.Tensor]
    present: dict[str, torch.Tensor]
    size: int
    y: torch.Tensor = torch.empty(0)
    weight: torch.Tensor | None = None
    rows: torch.Tensor = torch.empty(0)
    counts: tuple[int, ...] = ()
    fold: int = 0
    shares: dict[str, Share] | None = None

    @property
    def row_axis(self) -> int:
        """Axis of the rows in `x`, behind that of the folds if there is one."""
        return 1 if self.counts else 0

    def n_present(self, name: str) -> int:
        """Return the number of rows that have modality `name`."""
        return len(self.present[name]) if name in self.present else self.size

    def n_read(self, name: str) -> int:
        """Return the number of rows in `x` of modality `name`, on the process that has the fewest."""
        share = None if self.shares is None else self.shares.get(name)
        return self.x[name].shape[self.row_axis] if share is None else share.fewest

    def gather(self, values: torch.Tensor, name: str, dim: int = 0) -> torch.Tensor:
        """Return values for all rows of modality `name`, along `dim`, from those for the rows in `x`."""
        share = None if self.shares is None else self.shares.get(name)
        return values if share is None else gather(values, share, dim)

    def with_modality(self, name: str) -> Batch:
        """Return the batch with targets, weights and numbers only of the rows that have modality `name`."""
        if name not in self.present:
            return self
        positions = self.present[name]
        weight = None if self.weight is None else self.weight[positions]
        return self._replace(size=len(positions), y=self.y[positions], weight=weight, rows=self.rows[positions])

    def reweighted(self, factor: torch.Tensor) -> Batch:
        """Return the batch with each row's weight multiplied by `factor`."""
        return self._replace(weight=factor if self.weight is None else self.weight * factor)


class RowSource(Protocol):
    """Rows and targets that training reads batch by batch.

    Attributes
    ----------
    reads_on_demand : bool
        Whether a batch is read from where the data lie, rather than from memory on the device.
    """

    @property
    def reads_on_demand(self) -> bool:
        """Return whether a batch is read from where the data lie."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        """Return the row numbers of every batch of an epoch, shuffled if a generator is given."""
        ...

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return the batch with these row numbers, on the device."""
        ...

    def eval_batch_size(self, batch_size: int) -> int:
        """Return the number of rows to evaluate at once, given the batch size of training."""
        ...


class Rows:
    """Subset of the rows of X with their targets, in whole batches.

    Parameters
    ----------
    blocks : Blocks
        Loaded data.
    y : Tensor of shape (n_rows_of_X,)
        Class numbers, on the device.
    weight : Tensor of shape (n_rows_of_X,) or None
        Weight of each row's loss, on the device.
    rows : Tensor of shape (n_rows,)
        Numbers of the rows that belong to the subset, on the CPU.
    names : sequence of str
        Modalities to include in the batches.
    """

    def __init__(
        self, blocks: Blocks, y: torch.Tensor, weight: torch.Tensor | None, rows: torch.Tensor, names: Sequence[str]
    ) -> None:
        self.blocks, self.y, self.weight, self.rows, self.names = blocks, y, weight, rows, list(names)
        masks = {name: torch.from_numpy(blocks.present(name)) for name in names}
        self._partial = {name: mask for name, mask in masks.items() if not mask[rows].all()}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def reads_on_demand(self) -> bool:
        """Return whether a batch is read from where the data lie."""
        return not all(map(self.blocks.is_in_memory, self.names))

    def with_modality(self, name: str) -> Rows:
        """Return the rows that have modality `name`, with this modality alone."""
        present = torch.from_numpy(self.blocks.present(name))[self.rows]
        return Rows(self.blocks, self.y, self.weight, self.rows[present], [name])

    def subset(self, rows: np.ndarray) -> Rows:
        """Return the same data with other rows of X."""
        return Rows(self.blocks, self.y, self.weight, torch.from_numpy(rows), self.names)

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        """Return the row numbers of every batch of an epoch, shuffled if a generator is given."""
        order = self.rows if generator is None else self.rows[torch.randperm(len(self), generator=generator)]
        batches = list(order.split(int(batch_size)))
        if len(batches) > 1 and len(batches[-1]) == 1:
            # BatchNorm cannot train on one row.
            last = batches.pop()
            batches[-1] = torch.cat([batches[-1], last])
        return batches

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return the batch with these row numbers.

        In training a modality that only one of several rows has is left out, because BatchNorm cannot
        train on one row. In a fit on several processes, blocks hold the share of this process.
        """
        device = self.y.device
        on_device = rows.to(device, non_blocking=True)
        x, present, shares = {}, {}, {}
        for name in self.names:
            selected = on_device if device.type == "cpu" or self.blocks.is_in_memory(name) else rows
            if name in self._partial:
                positions = self._partial[name][rows].nonzero().squeeze(1)
                if training and len(positions) == 1 < len(rows):
                    positions = positions[:0]
                if len(positions) < len(rows):
                    selected = rows[positions]
                    present[name] = positions.to(device, non_blocking=True)
            if share := share_of(len(selected)):
                shares[name], selected = share, share.of(selected)
            x[name] = self.blocks.take(name, selected, device)
        weight = None if self.weight is None else self.weight.index_select(0, on_device)
        y = self.y.index_select(0, on_device)
        return Batch(x, present, len(rows), y, weight, on_device, shares=shares)

    def read(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Return the block of modality `name`, which all of the rows have, on the device."""
        return self.blocks.take(name, rows, self.y.device)

    def eval_batch_size(self, batch_size: int) -> int:
        """Return the number of rows to evaluate at once: more than in training if they are small."""
        return eval_batch_size({name: self.blocks.shapes[name] for name in self.names}, batch_size)


def read_ahead(source: RowSource, epoch: Sequence[torch.Tensor], training: bool = False) -> Iterator[Batch]:
    """Yield the batches of an epoch, each of which is read while the caller works on the one before.

    Parameters
    ----------
    source : RowSource
        Rows to read.
    epoch : sequence of int Tensor
        Row numbers of each batch.
    training : bool, default=False
        Whether the batches are for training.

    Yields
    ------
    Batch
        The batches in their order.
    """
    if not source.reads_on_demand:
        yield from (source.batch(rows, training) for rows in epoch)
        return
    with ThreadPoolExecutor(1) as reader:
        following = None
        for rows in epoch:
            read = contextvars.copy_context().run  # in the fit of this thread
            current, following = following, reader.submit(read, source.batch, rows, training)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()


def eval_batch_size(shapes: dict[str, tuple[int, ...]], batch_size: int) -> int:
    """Return the number of rows to evaluate at once.

    Their input fills about 1 MiB, which fits in the cache of a CPU. The number is never below `batch_size`.
    """
    return max(int(batch_size), min(8192, 2**18 // sum(int(np.prod(shape)) for shape in shapes.values())))
