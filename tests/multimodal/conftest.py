"""Synthetic data sets that the tests of classifiers share."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def draw_modalities():
    """Function that draws rows of three classes, with four columns for each given strength of a modality."""

    def draw(n_rows, strengths):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, n_rows)
        means = np.repeat(np.eye(3)[y], [2, 1, 1], axis=1)
        X = np.hstack([strength * means + rng.normal(size=(n_rows, 4)) for strength in strengths])
        return X.astype(np.float32), y

    return draw


@pytest.fixture(scope="session")
def data(draw_modalities):
    """Three modalities of increasing strength."""
    return draw_modalities(240, (0.7, 1.2, 3.0))
