"""Ratios of the modalities' scores against hand-computed values."""

from types import SimpleNamespace

import numpy as np
import torch

from mmestim._data.batches import Batch
from mmestim.balancers import Outputs
from mmestim.balancers._scores import score_ratios


def stub_outputs(logits, y, absent=(), weight=None):
    """Return outputs with given unimodal logits; `absent` holds pairs of a modality and a row that lacks it."""
    size = len(y)
    present_rows = {name: [row for row in range(size) if (name, row) not in absent] for name in logits}
    x = {name: torch.zeros(len(rows), 1) for name, rows in present_rows.items()}
    present = {name: torch.tensor(rows, dtype=torch.long) for name, rows in present_rows.items() if len(rows) < size}
    batch = Batch(x, present, size, torch.tensor(y), None if weight is None else torch.tensor(weight))
    training = SimpleNamespace(unimodal_logits=lambda features: features)
    return Outputs(training, batch, (None, {name: torch.tensor(z) for name, z in logits.items()}))


def log_proba(*rows):
    return np.log(np.array(rows, dtype=np.float32))


def test_ratios_of_two_modalities_match_hand_computed_values():
    # The scores of the true class are 0.6 + 0.8 = 1.4 against 0.2 + 0.5 = 0.7.
    outputs = stub_outputs({"a": log_proba([0.6, 0.4], [0.2, 0.8]), "v": log_proba([0.2, 0.8], [0.5, 0.5])}, [0, 1])
    torch.testing.assert_close(score_ratios(outputs), torch.tensor([2.0, 0.5]))


def test_ratios_of_three_modalities_use_the_mean_of_the_others():
    proba = {"a": [[0.6, 0.4]], "t": [[0.3, 0.7]], "v": [[0.1, 0.9]]}
    outputs = stub_outputs({name: log_proba(*rows) for name, rows in proba.items()}, [0])
    torch.testing.assert_close(score_ratios(outputs), torch.tensor([0.6 / 0.2, 0.3 / 0.35, 0.1 / 0.45]))


def test_ratios_use_rows_with_two_modalities_by_their_weights():
    logits = {
        "a": log_proba([0.6, 0.4], [0.8, 0.2], [0.9, 0.1]),
        "t": log_proba([0.3, 0.7], [0.4, 0.6], [0.2, 0.8]),
        "v": log_proba([0.1, 0.9], [0.7, 0.3], [0.5, 0.5]),
    }
    absent = {("v", 1), ("a", 2), ("t", 2)}
    outputs = stub_outputs(logits, [0, 0, 0], absent, weight=[1.0, 2.0, 1.0])
    expected = [(0.6 + 2 * 0.8) / (0.2 + 2 * 0.4), (0.3 + 2 * 0.4) / (0.35 + 2 * 0.8), 0.1 / 0.45]
    torch.testing.assert_close(score_ratios(outputs), torch.tensor(expected))
    alone = stub_outputs({name: z[2:] for name, z in logits.items()}, [0], {("a", 0), ("t", 0)})
    assert score_ratios(alone).tolist() == [1, 1, 1]
