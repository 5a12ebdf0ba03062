"""Data that the tests of balancing methods share."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def make_data():
    """Return a function that samples three classes in three modalities, one column block each."""

    def make(n_rows=96, scales=(0.7, 1.2, 3.0), n_columns=4):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, n_rows)
        means = np.repeat(np.eye(3)[y], [n_columns - 2, 1, 1], axis=1)
        X = np.hstack([scale * means + rng.normal(size=(n_rows, n_columns)) for scale in scales])
        return X.astype(np.float32), y

    return make


@pytest.fixture(scope="module")
def data(make_data):
    """Return X and y with three modalities, each more informative than the one before."""
    return make_data()


@pytest.fixture(scope="module")
def with_absent(data):
    """Return `data` with absent modalities: some rows lack the first, some the second, a few have only the third."""
    X, y = data[0].copy(), data[1]
    width = X.shape[1] // 3
    X[::3, :width] = np.nan
    X[1::3, width : 2 * width] = np.nan
    X[:12, : 2 * width] = np.nan
    return X, y
