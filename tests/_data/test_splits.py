"""Groups of rows, and the inner split of training and validation rows."""

import numpy as np
import pandas as pd
import pytest
import torch

from mmestim import JointClassifier, LateFusionClassifier, diagnose, gap_scores
from mmestim._data.splits import check_groups, inner_split


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


NUMBERS = np.arange(12) // 2
DATES = pd.Timestamp("2026-01-01") + pd.to_timedelta(NUMBERS, unit="D")


@pytest.mark.parametrize(
    "groups",
    [
        NUMBERS,
        NUMBERS.tolist(),
        NUMBERS / 2,
        NUMBERS.astype(str),
        [f"speaker {n}" for n in NUMBERS],
        pd.Series(NUMBERS, dtype="Int64"),
        pd.Series(NUMBERS.astype(str), dtype="category"),
        pd.Series(NUMBERS.astype(str), dtype="string"),
        pd.Series(DATES),
        np.ma.array(NUMBERS),
        torch.tensor(NUMBERS),
    ],
    ids=lambda groups: f"{type(groups).__name__} {getattr(groups, 'dtype', '')}",
)
def test_labels_of_groups_may_have_any_type(groups):
    labels = check_groups(groups, 12)
    np.testing.assert_array_equal(np.unique(labels, return_inverse=True)[1], NUMBERS)


@pytest.mark.parametrize(
    "missing",
    [
        [None] * 12,
        [None, *NUMBERS[1:].tolist()],
        [None, *NUMBERS[1:].astype(str)],
        np.where(np.arange(12) == 0, np.nan, NUMBERS),
        pd.Series(NUMBERS, dtype="Int64").where(NUMBERS > 0),
        pd.Series(NUMBERS.astype(str), dtype="category").where(NUMBERS > 0),
        pd.Series(NUMBERS.astype(str), dtype="string").where(NUMBERS > 0),
        pd.Series(NUMBERS.astype(str), dtype=object).where(NUMBERS > 0, pd.NA),
        pd.Series(DATES).where(NUMBERS > 0),
        pd.Series(DATES).where(NUMBERS > 0).to_numpy(),
        np.ma.masked_equal(NUMBERS, 0),
    ],
    ids=lambda groups: f"{type(groups).__name__} {getattr(groups, 'dtype', '')}",
)
def test_missing_groups_are_refused(missing):
    with pytest.raises(ValueError, match=r"groups has no label .* in \d+ of 12 rows, the first is row 0"):
        check_groups(missing, 12)


@pytest.mark.parametrize(
    "groups, message",
    [
        (NUMBERS[:10], r"10 labels, but X has 12 rows"),
        ([], r"0 labels, but X has 12 rows"),
        (np.c_[NUMBERS, NUMBERS], r"ndarray and shape \(12, 2\), expected shape \(12,\).*combine several"),
        (NUMBERS[:, None], r"shape \(12, 1\).*one column"),
        (pd.DataFrame({"speaker": NUMBERS}), r"DataFrame and shape \(12, 1\)"),
        ([(n, "a") for n in NUMBERS], r"list and shape \(12, 2\)"),
        ([[1], [2, 3]], "not an array of one label per row"),
        ("speaker", r"str and shape \(\)"),
        (3, r"int and shape \(\)"),
        ({"speaker": NUMBERS}, r"dict and shape \(\)"),
        ((n for n in NUMBERS), r"generator and shape \(\)"),
        (pd.Series([1, "a"] * 6), "several types: int, str"),
    ],
)
def test_groups_that_are_not_one_label_per_row_are_refused(groups, message):
    with pytest.raises(ValueError, match=f"groups.*{message}"):
        check_groups(groups, 12)


@pytest.mark.parametrize(
    "call",
    [
        lambda X, y, groups: LateFusionClassifier(early_stopping=False, max_epochs=1).fit(X, y, groups=groups),
        lambda X, y, groups: gap_scores(LateFusionClassifier(), X, y, cv=2, groups=groups),
        lambda X, y, groups: diagnose(JointClassifier(), X, y, cv=2, groups=groups),
    ],
    ids=["fit", "gap_scores", "diagnose"],
)
def test_groups_are_checked_wherever_they_are_given(call):
    with pytest.raises(ValueError, match="groups has no label"):
        call(np.eye(12), NUMBERS % 2, [None] * 12)
