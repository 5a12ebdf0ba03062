"""Gradient blending: weights and loss against plain loops, and measurements without side effects."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmestim import JointClassifier
from mmestim.balancers import Balancer, GradientBlending
from mmestim.balancers.gradient_blending import blending_weights

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"image": slice(0, 4), "text": slice(4, 8)}
FULL = {
    "encoder": "linear",
    "embedding_dim": 5,
    "batch_size": 200,
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 3,
    "random_state": 0,
    "device": "cpu",
}


class Spy(GradientBlending):
    """Gradient blending that records the network and the rows at the start of each epoch."""

    def begin_epoch(self, training):
        if training.epoch == 0:
            self.epoch_starts = []
        before = copy.deepcopy(training.module)
        super().begin_epoch(training)
        self.epoch_starts.append((before, training.rows, training.valid))


def losses(module, rows, names):
    """Return the mean losses of the unimodal heads and of the joint head."""
    batch = rows.batch(rows.rows)
    logits, _ = module(batch)
    unimodal_losses = []
    for name in names:
        y = batch.y[batch.present[name]] if name in batch.present else batch.y
        branch = module.branch(name)
        unimodal_losses.append(F.cross_entropy(branch.head(branch.encoder(batch.x[name])), y))
    return [*unimodal_losses, F.cross_entropy(logits, batch.y)]


def measured(module, rows, valid, names, n_epochs, lr):
    """Return gain and overfitting of each branch, from full-batch steps on one branch after another."""
    gains, excesses = [], []
    for k in range(len(names) + 1):
        branch = copy.deepcopy(module)
        optimizer = torch.optim.SGD(branch.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
        track = []
        for _ in range(n_epochs + 1):
            optimizer.zero_grad()
            loss = losses(branch, rows, names)[k]
            track.append((loss.item(), losses(branch, valid, names)[k].item()))
            loss.backward()
            optimizer.step()
        (train_before, valid_before), (train_after, valid_after) = track[0], track[-1]
        gains.append(valid_before - valid_after)
        excesses.append((valid_after - train_after) - (valid_before - train_before))
    return np.array(gains), np.array(excesses)


@pytest.mark.parametrize("groups", [PAIR, GROUPS])
def test_weights_match_a_plain_training_of_each_branch(groups, with_absent):
    X, y = with_absent[0][:, -4 * len(groups) :], with_absent[1]
    clf = JointClassifier(groups, balancer=Spy(n_epochs=4, super_epoch=2, eps=1e-4), **FULL).fit(X, y)
    history = clf.balance_history_[0]
    for epoch, lr in ((0, 0.01), (2, 0.001)):  # learning rates of the schedule
        gains, excesses = measured(*clf.balancers_[0].epoch_starts[epoch], sorted(groups), 4, lr)
        np.testing.assert_allclose(history["generalisation"][epoch], gains, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(history["overfitting"][epoch], excesses, rtol=1e-3, atol=1e-5)
        ratios = np.abs(gains) / (excesses**2 + 1e-4)
        np.testing.assert_allclose(history["weights"][epoch], ratios / ratios.sum(), rtol=0.02)
    for values in history.values():
        np.testing.assert_array_equal(values[1], values[0])
    np.testing.assert_array_equal(clf.balancers_[0].weights_, history["weights"][-1])
    blending = [(row["modality"], row["epoch"]) for row in clf.history_ if row["stage"] == "blending"]
    assert blending == 2 * [(name, epoch) for name in [*sorted(groups), None] for epoch in range(1, 5)]


def test_offline_blending_measures_once(data):
    clf = JointClassifier(GROUPS, balancer=GradientBlending(1), **FULL).fit(*data)
    history = clf.balance_history_[0]
    assert sum(row["stage"] == "blending" for row in clf.history_) == 4
    assert (history["weights"] == history["weights"][0]).all()
    np.testing.assert_allclose(history["weights"].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("unimodal_weight", [0, 3])
def test_loss_is_the_weighted_sum_of_the_branch_losses(unimodal_weight, with_absent):
    clf = JointClassifier(GROUPS, unimodal_weight=unimodal_weight, balancer=Spy(1), **FULL).fit(*with_absent)
    module, rows, _ = clf.balancers_[0].epoch_starts[0]
    expected = sum(
        w * scale * loss.item()
        for w, scale, loss in zip(
            clf.balancers_[0].weights_,
            [unimodal_weight or 1] * 3 + [1],
            losses(module, rows, sorted(GROUPS)),
            strict=True,
        )
    )
    first = next(row for row in clf.history_ if row["stage"] == "joint")
    assert first["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_blending_weights_match_hand_computed_values():
    gains, excesses = np.array([0.3, -0.2, 0.5]), np.array([0.1, 0.0, -0.5])
    expected = np.array([0.3 / 0.02, 0.2 / 0.01, 0.5 / 0.26])
    np.testing.assert_allclose(blending_weights(gains, excesses, 0.01), expected / expected.sum())
    np.testing.assert_array_equal(blending_weights(np.zeros(2), np.zeros(2), 1e-8), [0.5, 0.5])


class Equal(Balancer):
    """Gradient blending with equal weights, with or without measurements."""

    unimodal = "heads"

    def __init__(self, measure=True):
        self.measure = measure

    def begin_epoch(self, training):
        inner = GradientBlending(2, super_epoch=1)
        if self.measure:
            inner.begin_epoch(training)
        inner.weights_ = torch.full((4,), 0.25)
        self.inner = inner

    def loss(self, training, outputs):
        return self.inner.loss(training, outputs)


def test_measurements_do_not_change_the_training(with_absent):
    noisy = {"encoder": lambda input_shape: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))}
    settings = FULL | noisy | {"batch_size": 32}
    one, other = (
        JointClassifier(GROUPS, balancer=Equal(measure), **settings).fit(*with_absent) for measure in (True, False)
    )
    np.testing.assert_array_equal(one.predict_proba(with_absent[0]), other.predict_proba(with_absent[0]))


def test_missing_held_out_rows_raise_an_error(data):
    clf = JointClassifier(GROUPS, balancer=GradientBlending(1), **FULL)
    with pytest.raises(ValueError, match=r"GradientBlending.*no.*early_stopping=True"):
        clf.set_params(early_stopping=False).fit(*data)
    X = data[0].copy()
    X[1:, :4] = np.nan
    with pytest.raises(ValueError, match="none of them has modality 'audio'"):
        clf.set_params(early_stopping=True).fit(X, data[1])


@pytest.mark.parametrize("parameters", [{"n_epochs": 0}, {"super_epoch": 0}, {"eps": 0}])
def test_invalid_parameters_are_named_in_the_error(parameters, data):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        JointClassifier(GROUPS, balancer=GradientBlending(**parameters), **FULL).fit(*data)
