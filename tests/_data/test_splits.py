"""Inner split of training and validation rows."""

import numpy as np
import pytest

from mmestim._data.splits import inner_split


def test_inner_split_is_stratified_and_keeps_single_rows_in_training():
    codes = np.repeat([0, 1, 2], [60, 39, 1])
    train, valid = inner_split(np.arange(100), codes, None, 0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(codes[valid], minlength=3), [6, 4, 0])
    assert np.array_equal(np.sort(np.r_[train, valid]), np.arange(100))


def test_inner_split_keeps_groups_whole():
    rng = np.random.default_rng(0)
    codes, groups = rng.integers(0, 3, 200), rng.integers(0, 25, 200)
    train, valid = inner_split(np.arange(200), codes, groups, 0.2, seed=0)
    assert not set(groups[train]) & set(groups[valid])
    assert 20 <= len(valid) <= 60


@pytest.mark.parametrize("fraction, low, high", [(0.2, 20, 60), (0.8, 140, 180)])
def test_grouped_split_approximates_the_fraction(fraction, low, high):
    rng = np.random.default_rng(0)
    _, valid = inner_split(np.arange(200), rng.integers(0, 3, 200), rng.integers(0, 40, 200), fraction, seed=0)
    assert low <= len(valid) <= high


@pytest.mark.parametrize("codes, groups", [([0, 1], None), ([0, 0, 1, 1], [7, 7, 7, 7]), ([0, 0, 1, 1], [1, 1, 2, 2])])
def test_training_rows_validate_if_none_can_be_held_out(codes, groups):
    train, valid = inner_split(np.arange(len(codes)), np.array(codes), groups, 0.1, seed=0)
    np.testing.assert_array_equal(train, valid)
    assert len(train) == len(codes)
