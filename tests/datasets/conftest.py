"""Fixtures of the tests of data sets."""

import numpy as np
import pytest


@pytest.fixture
def assert_is_container():
    """Return a function that checks the columns and shapes of the modalities of a Bunch."""

    def check(bunch, names):
        assert list(bunch.modalities) == names
        ends = [0]
        for columns in bunch.modalities.values():
            assert columns.start == ends[-1]
            ends.append(columns.stop)
        assert bunch.data.shape == (len(bunch.target), ends[-1])
        assert bunch.data.dtype == np.float32
        assert np.isfinite(bunch.data).all()
        for name, shape in bunch.shapes.items():
            assert len(shape) > 1
            assert np.prod(shape) == len(range(*bunch.modalities[name].indices(ends[-1])))
        assert bunch.DESCR

    return check
