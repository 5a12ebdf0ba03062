"""Construction of data sets in the form of scikit-learn's Bunch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import Bunch


def make_bunch(blocks: Mapping[str, np.ndarray], target: np.ndarray, return_X_y: bool, **extra: Any) -> Any:
    """Return blocks of modalities side by side, as a Bunch or as ``(data, target)``."""
    flat = {name: block.reshape(len(block), -1).astype(np.float32) for name, block in blocks.items()}
    X, y = np.hstack(list(flat.values())), target.astype(np.int64)
    if return_X_y:
        return X, y
    modalities = column_slices({name: block.shape[1] for name, block in flat.items()})
    shapes = {name: block.shape[1:] for name, block in blocks.items() if block.ndim > 2}
    return Bunch(data=X, target=y, modalities=modalities, shapes=shapes, target_names=np.arange(10), **extra)


def column_slices(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each modality when blocks of these sizes are placed side by side."""
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}
