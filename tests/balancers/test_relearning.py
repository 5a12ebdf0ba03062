"""Re-learning: purity, moves of the encoders against the formula, and early stopping."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier
from mmestim._training.evaluation import evaluate
from mmestim.balancers import Relearning, relearning
from mmestim.balancers.relearning import purity

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"cv": None, "optimizer": "sgd", "encoder": "mlp", "max_epochs": 4, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data(make_data):
    """Return three modalities, the second of which is noise."""
    return make_data(120, scales=(1.0, 0.0, 3.0))


class Spy(Relearning):
    """Re-learning that records the network before and after `begin_epoch`, and the training."""

    def begin_epoch(self, training):
        if training.epoch == 0:
            self.epoch_starts = []
        before = copy.deepcopy(training.module)
        super().begin_epoch(training)
        self.epoch_starts.append((before, copy.deepcopy(training.module)))
        self.training = training


def test_purity_matches_hand_computed_values():
    # Three tight clusters of four, three and two rows; one row of the first belongs to another class.
    points = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 900.0]], [4, 3, 2], axis=0) + np.tile([0, 0.1, 0.2], 3)[:, None]
    assert purity(points, np.array([0, 0, 0, 2, 1, 1, 1, 2, 2]), 3) == pytest.approx(8 / 9)
    # Columns are scaled to the same range: only the first one separates these classes.
    column = np.array([0.0, 0.01, 1.0, 0.99])
    assert purity(np.c_[column, [500.0, 500.0, 500.0, 501.0]], np.array([0, 0, 1, 1]), 2) == 1.0


def test_purity_of_constant_features_and_of_a_single_row():
    assert purity(np.zeros((5, 2)), np.array([0, 1, 1, 0, 1]), 3) == pytest.approx(3 / 5)
    assert purity(np.ones((1, 2)), np.array([2]), 3) == 1.0


def test_purity_of_many_rows_uses_mini_batches(monkeypatch):
    monkeypatch.setattr(relearning, "_MIN_MINI_BATCH_ROWS", 100)
    classes = np.repeat([0, 1], 100)
    features = 10 * classes[:, None] + np.random.default_rng(0).normal(size=(200, 2))
    assert purity(features, classes, 2) == 1.0


@pytest.mark.parametrize("absent", [False, True])
def test_encoders_return_by_the_formula(absent, data, with_absent):
    clf = JointClassifier(GROUPS, balancer=Spy(interval=2, strength=2.5), **FAST).fit(
        *(with_absent if absent else data)
    )
    spy, names = clf.balancers_[0], sorted(GROUPS)
    before, after = spy.epoch_starts[2]
    for k, name in enumerate(names):
        purities = []
        for rows in (spy.training.rows.with_modality(name), spy.training.valid.with_modality(name)):
            batch = rows.batch(rows.rows)
            with torch.no_grad():
                features = before.branch(name).encode(batch).numpy()
            purities.append(purity(features, batch.y.numpy(), 3))
        gap = abs(purities[0] - purities[1])
        w = np.tanh(2.5 * gap)
        np.testing.assert_allclose(clf.balance_history_[0]["gap"][2, k], gap, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(clf.balance_history_[0]["weight"][2, k], w, rtol=1e-6, atol=1e-7)
        trios = zip(
            [p.detach().numpy() for p in spy.epoch_starts[0][0].branch(name).encoder.parameters()],
            before.branch(name).encoder.parameters(),
            after.branch(name).encoder.parameters(),
            strict=True,
        )
        for initial, old, new in trios:
            expected = w * initial + (1 - w) * old.detach().numpy()
            np.testing.assert_allclose(new.detach().numpy(), expected, rtol=1e-5, atol=1e-7)
    assert (clf.balance_history_[0]["weight"][2] > 0).any()
    assert (clf.balance_history_[0]["weight"][[0, 1, 3]] == 0).all()
    assert torch.equal(before.fusion_head.linear.weight, after.fusion_head.linear.weight)
    for epoch in (0, 1, 3):
        before, after = spy.epoch_starts[epoch]
        assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_encoders_return_at_most_max_times(data):
    clf = JointClassifier(GROUPS, balancer=Relearning(interval=1, max_times=2), **FAST | {"max_epochs": 6}).fit(*data)
    assert (clf.balance_history_[0]["weight"] > 0).any(axis=1).tolist() == [False, True, True, False, False, False]
    assert clf.balancers_[0].n_times_ == 2


@pytest.mark.parametrize("off", [{"strength": 0}, {"max_times": 0}])
def test_switched_off_it_is_plain_training(off, data):
    settings = FAST | {"max_epochs": 40, "lr": 0.2, "n_iter_no_change": 2, "lr_schedule": None}
    clf = JointClassifier(GROUPS, balancer=Relearning(interval=1, **off), **settings).fit(*data)
    plain = JointClassifier(GROUPS, **settings).fit(*data)
    assert clf.n_iter_ == plain.n_iter_ < 40
    np.testing.assert_array_equal(clf.predict_proba(data[0]), plain.predict_proba(data[0]))


def test_early_stopping_retains_weights_that_it_evaluated(data):
    settings = FAST | {"max_epochs": 8, "lr": 0.05, "monitor": "valid_accuracy"}
    clf = JointClassifier(GROUPS, balancer=Spy(interval=1, max_times=9, strength=50.0), **settings).fit(*data)
    best = max(clf.history_, key=lambda row: (row["valid_accuracy"], -row["valid_loss"]))
    loss, accuracy, _ = evaluate(
        clf.module_, clf.balancers_[0].training.valid, clf.balancers_[0].training.context.options
    )
    assert (accuracy, loss) == pytest.approx((best["valid_accuracy"], best["valid_loss"]))


def test_early_stopping_waits_after_a_return(data):
    settings = FAST | {"max_epochs": 60, "lr": 0.2, "n_iter_no_change": 2, "lr_schedule": None}
    plain = JointClassifier(GROUPS, **settings).fit(*data)
    last = plain.n_iter_ - 1
    clf = JointClassifier(GROUPS, balancer=Relearning(interval=last, max_times=1), **settings).fit(*data)
    assert clf.balance_history_[0]["weight"][last].any()
    assert clf.n_iter_ >= 2 * last + 2


def test_encoders_may_have_no_parameters(data):
    encoder = {"image": nn.Identity()}
    clf = JointClassifier(GROUPS, balancer=Relearning(interval=1), **FAST | {"encoder": encoder}).fit(*data)
    assert np.isfinite(clf.predict_proba(data[0])).all()


def test_missing_held_out_rows_raise_an_error(data):
    clf = JointClassifier(GROUPS, balancer=Relearning(), early_stopping=False, **FAST)
    with pytest.raises(ValueError, match=r"Relearning.*early_stopping=True"):
        clf.fit(*data)


@pytest.mark.parametrize("parameters", [{"interval": 0}, {"max_times": -1}, {"strength": -0.1}])
def test_invalid_parameters_are_named_in_the_error(parameters, data):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        JointClassifier(GROUPS, balancer=Relearning(**parameters), **FAST).fit(*data)
