"""Blocks of the modalities, read lazily where they can be."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

Shape = tuple[int, ...]
# Rows of X or of one block, and which columns of them if not all.
Source = tuple[np.ndarray, np.ndarray | None]

# Values read at a time when a whole block is scanned: 16 MiB of float32.
_CHUNK = 2**22


class Blocks:
    """The rows of X as float32, one block per modality, read when asked for or held as tensors."""

    def __init__(self, sources: Mapping[str, Source], shapes: Mapping[str, Shape]) -> None:
        self._sources = dict(sources)
        self.shapes = dict(shapes)
        self._tensors: dict[str, torch.Tensor] = {}
        self._present: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(next(iter(self._sources.values()))[0])

    def load(self, max_memory: float, device: torch.device) -> Blocks:
        """Check every row, and hold as tensors on `device` the blocks that fit `max_memory` MiB, small ones first."""
        budget = max_memory * 2**20
        for name in sorted(self.shapes, key=self._n_bytes):
            fits = self._n_bytes(name) <= budget and not _is_memory_map(self._sources[name][0])
            if fits:
                budget -= self._n_bytes(name)
                self._tensors[name] = torch.empty((len(self), *self.shapes[name]), device=device)
            self._present[name] = np.empty(len(self), dtype=bool)
            for rows in self.chunks(name):
                block, self._present[name][rows] = self.read(name, rows)
                if fits:
                    self._tensors[name][rows] = torch.from_numpy(block)
        self._check_something_present(self._present, 0)
        return self

    def present(self, name: str) -> np.ndarray:
        """Boolean mask of the rows that have modality `name`, once `load` has seen them."""
        return self._present[name]

    def is_in_memory(self, name: str) -> bool:
        """Whether modality `name` is a tensor on the device, rather than read batch by batch."""
        return name in self._tensors

    def take(self, name: str, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Rows that have modality `name`, once `load` has checked them, as one tensor on `device`."""
        if self.is_in_memory(name):
            tensor = self._tensors[name]
            return tensor.index_select(0, rows.to(tensor.device, non_blocking=True))
        return torch.from_numpy(self._float32(name, rows.numpy())).to(device)

    def chunks(self, name: str) -> Iterator[slice]:
        """Consecutive slices of rows of bounded size, for one pass over modality `name`."""
        step = max(1, _CHUNK // math.prod(self.shapes[name]))
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def stream(self, batch_size: int) -> Iterator[tuple[int, dict[str, torch.Tensor], dict[str, np.ndarray]]]:
        """Rows in order, checked as they are read: number of rows, blocks of those present, presence."""
        for start in range(0, len(self), batch_size):
            rows = slice(start, min(start + batch_size, len(self)))
            x, presence = {}, {}
            for name in self.shapes:
                block, present = self.read(name, rows)
                presence[name] = present
                x[name] = torch.from_numpy(block if present.all() else block[present])
            self._check_something_present(presence, start)
            yield rows.stop - start, x, presence

    def read(self, name: str, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A checked copy of some rows of one modality, absent ones as zeros, and which are present."""
        block = self._float32(name, rows)
        flat = block.reshape(len(block), -1)
        present = np.ones(len(block), dtype=bool)
        finite = np.isfinite(flat)
        if not finite.all():
            suspect = np.flatnonzero(~finite.all(axis=1))
            absent = np.isnan(flat[suspect]).all(axis=1)
            if not absent.all():
                bad = suspect[np.argmin(absent)]
                n_missing = np.isnan(flat[bad]).sum()
                what = (
                    f"NaN in {n_missing} of {flat.shape[1]} values"
                    if n_missing
                    else "infinity or values beyond float32"
                )
                raise ValueError(
                    f"Input X contains {what}: modality {name!r} in row {np.arange(len(self))[rows][bad]}. Impute or "
                    "clip such values; where the modality is absent, set its whole block of the row to NaN."
                )
            present[suspect] = False
            flat[suspect] = 0
        return block, present

    def _float32(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        """A writable copy of some rows, whose columns, if listed, are read without their neighbours."""
        array, columns = self._sources[name]
        if columns is None:
            part = array[rows]
        elif isinstance(rows, np.ndarray):
            part = array[rows[:, None], columns]
        else:  # On C order `take` is four times as fast; on others it would copy the neighbours too.
            part = array[rows].take(columns, axis=1) if array.flags.c_contiguous else array[rows, columns]
        with np.errstate(over="ignore", invalid="ignore"):  # Values too large become infinite, which read refuses.
            # A slice of rows may be a view of the caller's data; an index array has made a copy already.
            block = part.astype(np.float32, order="C", copy=isinstance(rows, slice))
        return block.reshape(len(block), *self.shapes[name])

    def _check_something_present(self, presence: Mapping[str, np.ndarray], offset: int) -> None:
        present = np.logical_or.reduce(list(presence.values()))
        if not present.all():
            raise ValueError(
                f"Input X contains NaN: row {offset + np.argmin(present)} has nothing but NaN in every modality "
                f"({', '.join(self.shapes)}). At least one modality must be present: drop the row, or impute it."
            )

    def _n_bytes(self, name: str) -> int:
        return 4 * len(self) * math.prod(self.shapes[name])


def select_columns(array: np.ndarray, columns: np.ndarray) -> Source:
    """A view of the columns where a slice can give one, else the array and the list of them."""
    step = int(columns[1] - columns[0]) if len(columns) > 1 else 1
    if step > 0 and (np.diff(columns) == step).all():
        return array[:, columns[0] : columns[-1] + 1 : step], None
    return array, columns


def _is_memory_map(array: Any) -> bool:
    # scikit-learn's validation strips the memmap class but keeps the chain of bases.
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)
