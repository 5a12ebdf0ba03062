"""Shape of one sample."""

from __future__ import annotations

import torch

Shape = tuple[int, ...]


def n_values(shape: Shape) -> int:
    """Return the number of values of one sample."""
    return torch.Size(shape).numel()
