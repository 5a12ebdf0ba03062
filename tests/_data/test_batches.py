"""Batches of an epoch."""

import numpy as np
import pytest
import torch

from mmestim._data.batches import Rows


@pytest.mark.parametrize("n_rows, batch_size, sizes", [(9, 4, [4, 5]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 2])])
def test_last_batch_of_one_row_joins_the_previous_one(n_rows, batch_size, sizes):
    class AllPresent:
        shapes = {"x": (2,)}  # noqa: RUF012

        def present(self, name):
            return np.ones(n_rows, dtype=bool)

    rows = Rows(AllPresent(), torch.zeros(n_rows), None, torch.arange(n_rows), ["x"])
    epoch = rows.epoch(batch_size, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in epoch] == sizes
    assert sorted(torch.cat(epoch).tolist()) == list(range(n_rows))
