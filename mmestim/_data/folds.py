"""Rows of several folds, which networks of one shape train on in step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import torch
from torch.nn.utils.rnn import pad_sequence

from .._distributed.exchange import share_of
from .batches import Batch, Rows

# Number that stands in a batch for a row that a smaller fold lacks.
PADDING = -1


class FoldRows:
    """Rows of several folds in batches, which hold a part of every fold.

    Tensors of a batch have one more axis in front, over the folds. Every fold has the same number of
    batches, so that the networks take the same number of steps. Folds differ in size, so that parts
    are padded to the largest one by rows of weight 0 and number `PADDING`.

    Parameters
    ----------
    folds : sequence of Rows
        Rows of each fold, of one modality that all of them have.
    """

    def __init__(self, folds: Sequence[Rows]) -> None:
        self.folds = list(folds)

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.folds)

    @property
    def reads_on_demand(self) -> bool:
        """Return whether a batch is read from where the data lie."""
        return self.folds[0].reads_on_demand

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        """Return the row numbers of every batch of an epoch, one line per fold, shuffled if a generator is given."""
        if len(self.folds) == 1:
            return [rows.unsqueeze(0) for rows in self.folds[0].epoch(batch_size, generator)]
        sizes = [len(rows) for rows in self.folds]
        n_batches = -(-max(sizes) // int(batch_size))
        if generator is not None:  # BatchNorm cannot train on one row.
            n_batches = max(1, min(n_batches, min(sizes) // 2))
        orders = [
            rows.rows if generator is None else rows.rows[torch.randperm(len(rows), generator=generator)]
            for rows in self.folds
        ]
        parts = zip(*(order.tensor_split(n_batches) for order in orders), strict=True)
        return [pad_sequence(list(part), batch_first=True, padding_value=PADDING) for part in parts]

    def sample(self, n_rows: int, generator: torch.Generator) -> torch.Tensor:
        """Return the numbers of at most `n_rows` random rows of each fold, padded like a batch."""
        chosen = [rows.rows[torch.randperm(len(rows), generator=generator)[:n_rows]] for rows in self.folds]
        return pad_sequence(chosen, batch_first=True, padding_value=PADDING)

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return the batch with these row numbers of shape (n_folds, n_rows)."""
        is_row = rows != PADDING
        # Row 0 may lack the modality; then its block is NaN, also after a multiplication by the weight 0.
        any_row = next(int(fold.rows[0]) for fold in self.folds if len(fold))
        (name,), source = self.folds[0].names, self.folds[0]
        counts = tuple(is_row.sum(1).tolist())
        filled = rows.masked_fill(~is_row, any_row)
        share = share_of(rows.shape[1], min(counts))
        read = filled if share is None else share.of(filled.T).T
        block = source.read(name, read.flatten())
        x = {name: block.reshape(*read.shape, *block.shape[1:])}
        numbers = filled.to(source.y.device, non_blocking=True)
        y = source.y[numbers]
        weight = None if source.weight is None else source.weight[numbers]
        if not is_row.all():
            on_device = is_row.to(numbers.device)
            weight = on_device.float() if weight is None else weight * on_device
            numbers = numbers.masked_fill(~on_device, PADDING)
        shares = None if share is None else {name: share}
        return Batch(x, {}, rows.numel(), y, weight, numbers, counts, shares=shares)

    def eval_batch_size(self, batch_size: int) -> int:
        """Return the number of rows of each fold to evaluate at once."""
        return max(int(batch_size), self.folds[0].eval_batch_size(batch_size) // len(self.folds))


class InterleavedFolds:
    """Rows of several folds in batches of one fold each, in turn.

    Unlike with `FoldRows`, rows can lack a modality. The numbers of the rows of a batch are counted on
    from fold to fold: row i of fold k is row number i + k * n_rows_of_X.

    Parameters
    ----------
    folds : sequence of Rows
        Rows of each fold.
    """

    def __init__(self, folds: Sequence[Rows]) -> None:
        self.folds, self._n_rows = list(folds), len(folds[0].y)

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.folds)

    @property
    def reads_on_demand(self) -> bool:
        """Return whether a batch is read from where the data lie."""
        return self.folds[0].reads_on_demand

    def epoch(self, batch_size: int, generator: torch.Generator | None = None) -> list[torch.Tensor]:
        """Return the row numbers of every batch of an epoch, shuffled within each fold if a generator is given."""
        batches = [
            [numbers + fold * self._n_rows for numbers in rows.epoch(batch_size, generator)] if len(rows) else []
            for fold, rows in enumerate(self.folds)
        ]
        return [numbers for numbers in chain.from_iterable(zip_longest(*batches)) if numbers is not None]

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return the batch with these row numbers, all of one fold."""
        fold = int(rows[0]) // self._n_rows
        return self.folds[fold].batch(rows - fold * self._n_rows, training)._replace(fold=fold)

    def eval_batch_size(self, batch_size: int) -> int:
        """Return the number of rows to evaluate at once."""
        return self.folds[0].eval_batch_size(batch_size)


def only_fold(batch: Batch, fold: int) -> Batch:
    """Return the part of a batch that belongs to one fold, without padding; the axis of the folds has size 1."""
    n_rows = batch.counts[fold]
    part = slice(fold, fold + 1)
    shares = {name: share.first(n_rows) for name, share in (batch.shares or {}).items()}
    lengths = {name: share.stop - share.start for name, share in shares.items()}
    x = {name: block[part, : lengths.get(name, n_rows)] for name, block in batch.x.items()}
    weight = None if batch.weight is None else batch.weight[part, :n_rows]
    y, numbers = batch.y[part, :n_rows], batch.rows[part, :n_rows]
    return Batch(x, {}, n_rows, y, weight, numbers, (n_rows,), shares=shares)


def samples(batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the blocks and targets of a batch, with the rows of its folds one after the other."""
    if not batch.counts:
        return batch.x, batch.y
    is_row = batch.rows != PADDING
    is_read = {name: share.of(is_row.T).T for name, share in (batch.shares or {}).items()}
    return {name: block[is_read.get(name, is_row)] for name, block in batch.x.items()}, batch.y[is_row]


def fold_mean(values: torch.Tensor, batch: Batch, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the weighted mean of the values of each fold, over its rows or those where `mask` is True.

    Parameters
    ----------
    values : Tensor of shape (n_folds, n_rows)
        One value per row.
    batch : Batch
        Batch of all folds.
    mask : bool Tensor of shape (n_folds, n_rows), default=None
        Rows to include.

    Returns
    -------
    Tensor of shape (n_folds,)
        Means; 0 for a fold without rows.
    """
    if batch.weight is None and mask is None:
        return values.mean(1)
    counted = batch.rows != PADDING if mask is None else mask & (batch.rows != PADDING)
    weighted = values if batch.weight is None else values * batch.weight
    return torch.where(counted, weighted, 0.0).sum(1) / counted.sum(1).clamp(min=1)
