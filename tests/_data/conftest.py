"""Reading of X as training and predictions read it."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from mmestim._data.modalities import check_X

CPU = torch.device("cpu")


class Plain(ClassifierMixin, BaseEstimator):
    """Estimator that stores only the attributes set by check_X and the offsets."""


@pytest.fixture
def fit():
    """Function that returns an estimator fitted to the container X of some rows, by default six."""

    def fit(X, modalities=None, shapes=None, n_rows=6):
        estimator = Plain()
        blocks, _ = check_X(estimator, X, np.arange(n_rows) % 2, modalities=modalities, shapes=shapes, reset=True)
        estimator.offsets_ = blocks.fit_offsets(np.arange(n_rows))
        blocks.load(1, CPU)
        return estimator

    return fit


@pytest.fixture
def read():
    """Function that returns the blocks of X as a fitted estimator reads them, with NaN for absent modalities."""

    def read(estimator, X):
        streamed = {}
        blocks, _ = check_X(estimator, X, reset=False)
        for size, x, presence in blocks.stream(4):
            for name, mask in presence.items():
                part = np.full((size, *blocks.shapes[name]), np.nan, dtype=np.float32)
                part[mask] = x[name].numpy()
                streamed.setdefault(name, []).append(part)
        arrays = {name: np.concatenate(parts) for name, parts in streamed.items()}
        for max_memory in (0, 1):
            blocks, _ = check_X(estimator, X, reset=False)
            blocks.load(max_memory, CPU)
            for name, array in arrays.items():
                rows = np.flatnonzero(blocks.present(name))[::-1].copy()
                np.testing.assert_array_equal(blocks.take(name, torch.from_numpy(rows), CPU).numpy(), array[rows])
        return arrays

    return read
