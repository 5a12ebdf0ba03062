"""Network of a fitted classifier with the preparation of its rows, as one graph of tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import nn

from .._data.batches import Batch
from ..encoders.trial import is_held
from .multimodal_networks import Branch, MultimodalModule


class PortableNetwork(nn.Module):
    """Network from blocks, as a user has them, to the probabilities that `predict_proba` returns.

    Offsets are subtracted, the channels of images are moved, and a block of NaN marks an absent modality. Encoders
    read all rows, with zeros in place of absent modalities, so that no shape depends on values. Rows for which
    `predict_proba` raises an error get probabilities of NaN.

    Parameters
    ----------
    network : MultimodalModule
        Trained network, in eval mode.
    shapes : dict of str to tuple of int
        Shape of one sample of each modality, with channels first, in the order of the inputs.
    channels_last : collection of str
        Modalities whose blocks have the channels in the last axis.
    offsets : dict of str to ndarray
        Values that are subtracted in float64, of the shape of one sample, for the modalities that have any.

    Attributes
    ----------
    names : list of str
        The modalities, in the order of the inputs.
    """

    def __init__(
        self,
        network: MultimodalModule,
        shapes: Mapping[str, tuple[int, ...]],
        channels_last: Collection[str],
        offsets: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__()
        self.network, self.names = network, list(shapes)
        self._shapes, self._channels_last = dict(shapes), set(channels_last)
        for number, name in enumerate(self.names):
            offset = torch.from_numpy(offsets[name]) if name in offsets else None
            self.register_buffer(f"offset_{number}", offset)

    def example(self, n_rows: int) -> tuple[torch.Tensor, ...]:
        """Return blocks of zeros: float64 for modalities with an offset, and float32 for others."""
        blocks = []
        for number, name in enumerate(self.names):
            shape = self._shapes[name]
            if name in self._channels_last:
                shape = (*shape[1:], shape[0])
            dtype = torch.float32 if getattr(self, f"offset_{number}") is None else torch.float64
            blocks.append(torch.zeros(n_rows, *shape, dtype=dtype, device="cpu"))
        return tuple(blocks)

    def forward(self, *blocks: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of rows.

        Parameters
        ----------
        *blocks : Tensor of shape (n_samples, *sample_shape)
            Block of each modality.

        Returns
        -------
        Tensor of shape (n_samples, n_classes)
            Probabilities, NaN in rows without any modality or with other values that are not valid.
        """
        x, present, is_valid = {}, {}, []
        for number, (name, block) in enumerate(zip(self.names, blocks, strict=True)):
            prepared = self._prepare(number, name, block)
            x[name], present[name], is_absent = _split_absent(prepared, self.network.branch(name))
            is_valid.append(present[name] | is_absent)
        batch = Batch(x, present, blocks[0].shape[0])
        logits = self.network.fuse(self.network.encode(batch), batch)
        is_row_valid = torch.stack(is_valid).all(0) & torch.stack(list(present.values())).any(0)
        return torch.softmax(logits, dim=1).masked_fill(~is_row_valid.unsqueeze(1), torch.nan)

    def _prepare(self, number: int, name: str, block: torch.Tensor) -> torch.Tensor:
        """Return a block as float32, with channels first and without its offset."""
        if name in self._channels_last:
            block = block.movedim(-1, 1)
        offset = getattr(self, f"offset_{number}")
        return block.float() if offset is None else (block - offset).float()


def _split_absent(x: torch.Tensor, branch: Branch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a block with zeros in rows that the encoder cannot read, and masks of its other and its absent rows."""
    flat = x.flatten(1)
    is_readable = (flat.isfinite() & is_held(flat, branch.input_dtype, branch.input_range)).all(1)
    filled = x.masked_fill(~is_readable.view(-1, *[1] * (x.ndim - 1)), 0)
    return filled, is_readable, flat.isnan().all(1)
