"""Blocks of the modalities, read lazily or held in memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
import torch

from .numeric import column_offsets, sampled_rows
from .sources import ArrayRows, Shape, Source

# Number of values to read at a time when a whole block is scanned: 16 MiB of float32.
_CHUNK_SIZE = 2**22


class Blocks:
    """Rows of X as float32, one block per modality, read on demand or held in memory as tensors.

    Parameters
    ----------
    sources : dict of str to Source
        Rows of each modality.
    shapes : dict of str to tuple of int
        Shape of one sample of each modality.
    channels_last : collection of str, default=()
        Modalities whose rows are images of shape (height, width, channels), of which the channels are moved to the
        front.
    offsets : dict of str to ndarray, default=None
        Values that are subtracted before the conversion to float32, of the shape of a sample.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        shapes: Mapping[str, Shape],
        channels_last: Collection[str] = (),
        offsets: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._sources = dict(sources)
        self.shapes = dict(shapes)
        self._channels_last = channels_last
        self._offsets = dict(offsets or {})
        self._tensors: dict[str, torch.Tensor] = {}
        self._present: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return next(iter(self._sources.values())).shape[0]

    def fit_offsets(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return offsets of the columns whose values float32 cannot tell apart, and subtract them from now on.

        Parameters
        ----------
        rows : int ndarray of shape (n_rows,)
            Training rows, of which a sample is read.

        Returns
        -------
        dict of str to float64 ndarray
            Offsets of the shape of a sample, for the modalities that have any.
        """
        self._offsets = {}
        for name, shape in self.shapes.items():
            offsets = column_offsets(self._sample(name, rows))
            if offsets.any():
                self._offsets[name] = offsets.reshape(shape)
        return dict(self._offsets)

    def load(self, max_memory: float, device: torch.device) -> Blocks:
        """Check every row, and hold blocks in memory.

        Parameters
        ----------
        max_memory : float
            Memory in MiB for blocks, which is given to small blocks first. Memory maps and sparse matrices are never
            held.
        device : torch.device
            Device of the tensors.

        Returns
        -------
        Blocks
            The object itself.

        Raises
        ------
        ValueError
            If a value is infinite, a block has only some NaN, or a row has no modality.
        """
        budget = max_memory * 2**20
        for name in sorted(self.shapes, key=self._n_bytes):
            if self._n_bytes(name) <= budget and not self._sources[name].is_lazy:
                budget -= self._n_bytes(name)
                self._tensors[name] = torch.empty((len(self), *self.shapes[name]), device=device)
            self._present[name] = np.empty(len(self), dtype=bool)
        # All modalities of a row are read together, because they may lie in one page of a file or one sample.
        for rows in self.chunks(*self.shapes):
            for name in self.shapes:
                block, self._present[name][rows] = self.read(name, rows)
                if name in self._tensors:
                    self._tensors[name][rows] = torch.from_numpy(block)
        self._check_any_present(self._present, 0)
        return self

    def replace(
        self,
        name: str,
        n_features: int,
        compute: Callable[[torch.Tensor], None],
        max_memory: float,
        device: torch.device,
    ) -> None:
        """Replace a block by features of its rows. Call `load` first.

        Parameters
        ----------
        name : str
            The modality.
        n_features : int
            Number of features of a row.
        compute : callable
            Function that computes the features from the block, and writes them to a tensor of zeros of shape
            (n_rows, n_features).
        max_memory : float
            Memory in MiB for all blocks. Features that do not fit are mapped from a temporary file.
        device : torch.device
            Device of features that are held in memory.
        """
        self._tensors.pop(name, None)
        shape = (len(self), n_features)
        n_bytes = 4 * math.prod(shape) + sum(map(self._n_bytes, self._tensors))
        if n_bytes <= max_memory * 2**20:
            features = torch.zeros(shape, device=device)
            compute(features)
            self._tensors[name] = features
        else:
            with tempfile.TemporaryFile() as file:  # It is deleted with the last reference to the array.
                stored = np.memmap(file, np.float32, "w+", shape=shape)
            compute(torch.from_numpy(stored))
            self._sources[name] = ArrayRows(stored)
        self.shapes[name] = (n_features,)
        self._offsets.pop(name, None)
        self._channels_last = [other for other in self._channels_last if other != name]

    def present(self, name: str) -> np.ndarray:
        """Return the boolean mask of the rows that have modality `name`. Call `load` first."""
        return self._present[name]

    def is_in_memory(self, name: str) -> bool:
        """Return whether modality `name` is a tensor on the device, rather than read batch by batch."""
        return name in self._tensors

    def take(self, name: str, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return rows that have modality `name` as one tensor on `device`. Call `load` first."""
        if self.is_in_memory(name):
            tensor = self._tensors[name]
            return tensor.index_select(0, rows.to(tensor.device, non_blocking=True))
        return torch.from_numpy(self._float32(name, rows.numpy())).to(device)

    def chunks(self, *names: str) -> Iterator[slice]:
        """Yield consecutive slices of rows of bounded size, for one pass over the modalities."""
        step = max(1, _CHUNK_SIZE // max(math.prod(self.shapes[name]) for name in names))
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def stream(self, batch_size: int) -> Iterator[tuple[int, dict[str, torch.Tensor], dict[str, np.ndarray]]]:
        """Yield the rows in batches, checked as they are read.

        Parameters
        ----------
        batch_size : int
            Number of rows of a batch.

        Yields
        ------
        n_rows : int
            Number of rows.
        x : dict of str to Tensor of shape (n_present, *sample_shape)
            Block of each modality, with the rows that have it.
        presence : dict of str to bool ndarray of shape (n_rows,)
            Mask of the rows that have each modality.
        """
        for start in range(0, len(self), batch_size):
            rows = slice(start, min(start + batch_size, len(self)))
            x, presence = {}, {}
            for name in self.shapes:
                block, present = self.read(name, rows)
                presence[name] = present
                x[name] = torch.from_numpy(block if present.all() else block[present])
            self._check_any_present(presence, start)
            yield rows.stop - start, x, presence

    def read(self, name: str, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a checked copy of rows of one modality.

        Parameters
        ----------
        name : str
            The modality.
        rows : slice or int ndarray
            Rows to read.

        Returns
        -------
        block : ndarray of shape (n_rows, *sample_shape)
            Values as float32, zero in rows that lack the modality.
        present : bool ndarray of shape (n_rows,)
            Mask of the rows that have the modality.

        Raises
        ------
        ValueError
            If a value is infinite, or a row has some NaN but not in the whole block.
        """
        block = self._float32(name, rows)
        flat = block.reshape(len(block), -1)
        present = np.ones(len(block), dtype=bool)
        finite = np.isfinite(flat)
        if not finite.all():
            nonfinite_rows = np.flatnonzero(~finite.all(axis=1))
            is_absent = np.isnan(flat[nonfinite_rows]).all(axis=1)
            if not is_absent.all():
                first_invalid = nonfinite_rows[np.argmin(is_absent)]
                n_missing = np.isnan(flat[first_invalid]).sum()
                problem = (
                    f"NaN in {n_missing} of {flat.shape[1]} values"
                    if n_missing
                    else "infinity or values beyond float32"
                )
                row = np.arange(len(self))[rows][first_invalid]
                raise ValueError(
                    f"Input X contains {problem}: modality {name!r} in row {row}. "
                    "Impute or clip such values. If the modality is absent in this row, set its whole block to NaN."
                )
            present[nonfinite_rows] = False
            flat[nonfinite_rows] = 0
        return block, present

    def _float32(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        """Return a writable copy of rows."""
        part = self._values(name, rows)
        # Values beyond float32 become infinite, which `read` rejects.
        with np.errstate(over="ignore", invalid="ignore"):
            if name in self._offsets:
                part = part - self._offsets[name]
            # A slice of rows may be a view of the caller's data, whereas an index array gives a copy.
            return part.astype(np.float32, order="C", copy=isinstance(rows, slice))

    def _values(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows in the type and precision of the source, in the shape of a sample."""
        part, shape = self._sources[name].read(rows), self.shapes[name]
        if name not in self._channels_last:
            return part.reshape(len(part), *shape)
        return np.moveaxis(part.reshape(len(part), *shape[1:], shape[0]), -1, 1)

    def _sample(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return some of the rows that have the modality, flattened."""
        n_values = math.prod(self.shapes[name])
        sample = _complete_rows(self._values(name, sampled_rows(rows, n_values)))
        if not len(sample):  # The modality is rare: read on until a row has it.
            size = max(1, _CHUNK_SIZE // n_values)
            parts = (self._values(name, rows[start : start + size]) for start in range(0, len(rows), size))
            sample = next((part for part in map(_complete_rows, parts) if len(part)), sample)
        return sample[sampled_rows(np.arange(len(sample)), n_values)]

    def _check_any_present(self, presence: Mapping[str, np.ndarray], offset: int) -> None:
        present = np.logical_or.reduce(list(presence.values()))
        if not present.all():
            raise ValueError(
                f"Input X contains NaN: row {offset + np.argmin(present)} has only NaN in every modality "
                f"({', '.join(self.shapes)}). At least one modality must be present: drop the row, or impute it."
            )

    def _n_bytes(self, name: str) -> int:
        return 4 * len(self) * math.prod(self.shapes[name])


def _complete_rows(part: np.ndarray) -> np.ndarray:
    """Return the rows without NaN and infinity, flattened."""
    flat = part.reshape(len(part), -1)
    return flat[np.isfinite(flat).all(axis=1)]
