"""Batches of folds: every row once, equal numbers of steps, and means without padding."""

import numpy as np
import pytest
import torch

from mmestim._data.batches import Rows
from mmestim._data.blocks import Blocks
from mmestim._data.folds import PADDING, FoldRows, InterleavedFolds, fold_mean, only_fold
from mmestim._data.sources import ArrayRows

N_ROWS = 40


@pytest.fixture
def all_rows():
    """All rows of one modality, whose columns and targets are the number of the row."""
    values = np.arange(N_ROWS, dtype=np.float32)
    blocks = Blocks({"x": ArrayRows(np.stack([values, values], axis=1))}, {"x": (2,)})
    blocks.load(1, torch.device("cpu"))
    return Rows(blocks, torch.arange(N_ROWS), None, torch.arange(N_ROWS), ["x"])


def folds_of(all_rows, sizes, weight=None):
    order = np.random.default_rng(0).permutation(N_ROWS)
    rows = Rows(all_rows.blocks, all_rows.y, weight, all_rows.rows, ["x"])
    ends = np.cumsum(sizes)
    return FoldRows([rows.subset(np.sort(order[end - size : end])) for size, end in zip(sizes, ends, strict=True)])


@pytest.mark.parametrize("sizes", [(10, 10, 10), (11, 10, 9), (3, 17, 20), (1, 20), (40,), (5, 0, 5)])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("shuffled", [True, False])
def test_an_epoch_has_every_row_of_each_fold_once(sizes, batch_size, shuffled, all_rows):
    if shuffled and 0 in sizes:
        pytest.skip("folds without rows are evaluated only")
    folds = folds_of(all_rows, sizes)
    epoch = folds.epoch(batch_size, torch.Generator().manual_seed(0) if shuffled else None)
    for number, rows in enumerate(folds.folds):
        seen = [row for part in epoch for row in part[number].tolist() if row != PADDING]
        assert sorted(seen) == rows.rows.tolist()


@pytest.mark.parametrize("sizes", [(11, 10, 9), (3, 17, 20)])
def test_no_fold_has_a_batch_of_one_row(sizes, all_rows):
    for part in folds_of(all_rows, sizes).epoch(1, torch.Generator()):
        assert (part != PADDING).sum(1).min() >= 2


@pytest.mark.parametrize("weighted", [True, False])
def test_means_and_parts_leave_padding_out(weighted, all_rows):
    weight = torch.arange(1.0, N_ROWS + 1) if weighted else None
    folds = folds_of(all_rows, (3, 17, 20), weight)
    for rows in folds.epoch(6, torch.Generator().manual_seed(0)):
        batch = folds.batch(rows)
        mean = fold_mean(batch.x["x"][..., 0], batch)
        for fold in range(3):
            part = only_fold(batch, fold)
            numbers = rows[fold][rows[fold] != PADDING]
            assert part.rows[0].tolist() == part.y[0].tolist() == numbers.tolist()
            assert part.x["x"][0, :, 1].tolist() == numbers.tolist()
            factor = weight[numbers] if weighted else torch.ones(len(numbers))
            torch.testing.assert_close(mean[fold], (numbers * factor).mean())
            torch.testing.assert_close(fold_mean(part.x["x"][..., 0], part), mean[fold : fold + 1])


def test_masked_means_count_the_masked_rows_of_each_fold(all_rows):
    folds = folds_of(all_rows, (3, 17, 20))
    batch = folds.batch(folds.epoch(64)[0])
    mask = batch.y % 2 == 0
    mean = fold_mean(batch.x["x"][..., 0], batch, mask)
    for fold, rows in enumerate(folds.folds):
        even = rows.rows[rows.rows % 2 == 0].float()
        torch.testing.assert_close(mean[fold], even.mean() if len(even) else torch.tensor(0.0))


def test_a_sample_has_random_rows_of_each_fold(all_rows):
    folds = folds_of(all_rows, (3, 17, 20))
    sample = folds.sample(8, torch.Generator().manual_seed(0))
    assert (sample != PADDING).sum(1).tolist() == [3, 8, 8]
    for drawn, rows in zip(sample, folds.folds, strict=True):
        assert set(drawn.tolist()) - {PADDING} <= set(rows.rows.tolist())


@pytest.mark.parametrize("sizes", [(10, 10, 10), (11, 3, 20), (40,), (5, 0, 5)])
@pytest.mark.parametrize("batch_size", [2, 4, 64])
def test_interleaved_batches_have_every_row_of_each_fold_once(sizes, batch_size, all_rows):
    folds = InterleavedFolds(folds_of(all_rows, sizes).folds)
    batches = [folds.batch(rows) for rows in folds.epoch(batch_size, torch.Generator().manual_seed(0))]
    assert sum(batch.size for batch in batches) == len(folds) == sum(sizes)
    for number, rows in enumerate(folds.folds):
        own = [batch for batch in batches if batch.fold == number]
        assert sorted(row for batch in own for row in batch.rows.tolist()) == rows.rows.tolist()
        assert all(batch.y.tolist() == batch.rows.tolist() == batch.x["x"][:, 0].tolist() for batch in own)
    # The folds take turns as long as they have batches.
    firsts = [batch.fold for batch in batches][: sum(size > 0 for size in sizes)]
    assert firsts == [number for number, size in enumerate(sizes) if size]


def test_interleaved_batches_leave_out_absent_modalities():
    values = np.arange(N_ROWS, dtype=np.float32)[:, None]
    is_present = np.arange(N_ROWS) % 2 == 0
    halved = np.where(is_present[:, None], values, np.nan)
    blocks = Blocks({"a": ArrayRows(values), "b": ArrayRows(halved)}, {"a": (1,), "b": (1,)})
    blocks.load(1, torch.device("cpu"))
    every_row = Rows(blocks, torch.arange(N_ROWS), None, torch.arange(N_ROWS), ["a", "b"])
    folds = InterleavedFolds([every_row.subset(np.arange(10)), every_row.subset(np.arange(10, 40, 2))])
    for numbers in folds.epoch(4):
        batch = folds.batch(numbers)
        assert batch.x["b"].flatten().tolist() == [row for row in batch.rows.tolist() if row % 2 == 0]
        assert ("b" in batch.present) == (batch.fold == 0)
