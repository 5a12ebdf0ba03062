"""Valuation: contributions, copies and loss against loops over subsets, rows and copies."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmestim import JointClassifier
from mmestim.balancers import Valuation
from mmestim.balancers.valuation import copy_probabilities, shapley_factors

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"image": slice(0, 4), "text": slice(4, 8)}
FAST = {"cv": None, "optimizer": "sgd", "max_epochs": 4, "batch_size": 40, "random_state": 0, "device": "cpu"}


class Spy(Valuation):
    """Valuation that records network, contributions and copies of each epoch, and the loss of each step."""

    def begin(self, training):
        super().begin(training)
        self.epochs, self.steps, self.training = [], [], training

    def begin_epoch(self, training):
        super().begin_epoch(training)
        self.epochs.append((copy.deepcopy(training.module), self.contributions_.numpy().copy(), self.copies_.clone()))

    def loss(self, training, outputs):
        loss = super().loss(training, outputs)
        module = copy.deepcopy(training.module)
        self.steps.append((training.epoch, module, outputs.batch, outputs.present.clone(), loss.item()))
        return loss


def shapley(module, features, y, has):
    """Return the contributions to one row, over all orders of its modalities."""
    names = list(features)

    def worth(members):
        masked = {name: f if name in members else torch.zeros_like(f) for name, f in features.items()}
        right = module.fusion_head.fuse(masked).argmax().item() == y
        return sum(has[name] for name in members) if members and right else 0

    totals = dict.fromkeys(names, 0.0)
    for order in itertools.permutations(names):
        for k, name in enumerate(order):
            totals[name] += worth(order[: k + 1]) - worth(order[:k])
    return [totals[name] / math.factorial(len(names)) for name in names]


def copies_of(value):
    """Return the number of copies by the published thresholds."""
    if value < -0.1:
        return 3
    if value < 0.4:
        return 2
    return 1 if value < 1 else 0


@pytest.mark.parametrize("groups, absent", [(PAIR, False), (GROUPS, True)])
def test_contributions_and_copies_match_all_orders(groups, absent, data, with_absent):
    X, y = with_absent if absent else data
    clf = JointClassifier(groups, balancer=Spy(warmup=2), **FAST).fit(X[:, -4 * len(groups) :], y)
    rows = clf.balancers_[0].training.rows
    batch = rows.batch(rows.rows)
    trained = set(rows.rows.tolist())
    for epoch, (module, contributions, copies) in enumerate(clf.balancers_[0].epochs):
        if epoch < 2:
            assert not copies.any()
            assert np.isnan(contributions).all()
            continue
        module.eval()
        with torch.no_grad():
            _, features = module(batch)
        has = {name: np.ones(len(rows), bool) for name in features}
        for name, at in batch.present.items():
            has[name][:] = False
            has[name][at] = True
        for i, row in enumerate(rows.rows.tolist()):
            row_presence = {name: mask[i] for name, mask in has.items()}
            values = shapley(module, {name: f[i : i + 1] for name, f in features.items()}, y[row], row_presence)
            for k, (value, is_present) in enumerate(zip(values, row_presence.values(), strict=True)):
                is_valued = is_present and sum(row_presence.values()) > 1
                np.testing.assert_allclose(contributions[k, row], value if is_valued else np.nan, atol=1e-6)
                assert copies[k, row] == (copies_of(round(value, 6)) if is_valued else 0)
        held_out = [i for i in range(len(y)) if i not in trained]
        assert np.isnan(contributions[:, held_out]).all()
        assert not copies[:, held_out].any()
        expected = copies.sum(1).numpy() / len(rows)
        np.testing.assert_allclose(clf.balance_history_[0]["copies"][epoch], expected, rtol=1e-6)
        np.testing.assert_allclose(
            clf.balance_history_[0]["contribution"][epoch], np.nanmean(contributions, axis=1), rtol=1e-5, atol=1e-6
        )
    assert clf.balance_history_[0]["copies"][2:].all()


def test_two_modalities_give_the_published_values():
    # Predictions with one modality, the other or both may be right: phi_1 = (v_1 + v_12 - v_2) / 2.
    for v1, v2, v12 in itertools.product([0, 1], [0, 1], [0, 2]):
        values = shapley_factors(2) @ torch.tensor([0.0, v1, v2, v12]) / 2
        np.testing.assert_array_equal(values, [(v1 + v12 - v2) / 2, (v2 + v12 - v1) / 2])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("groups, fusion", [(PAIR, "gated"), (GROUPS, "concat")])
def test_loss_is_the_mean_over_rows_and_copies(groups, fusion, weighted, with_absent):
    X, y = with_absent[0][12:, -4 * len(groups) :], with_absent[1][12:]
    weight = 1 + y if weighted else None
    clf = JointClassifier(groups, fusion=fusion, balancer=Spy(warmup=1), **FAST).fit(X, y, sample_weight=weight)
    for epoch, module, batch, _, loss in clf.balancers_[0].steps:
        copies = clf.balancers_[0].epochs[epoch][2][:, batch.rows]
        with torch.no_grad():
            logits, features = module(batch)
        weights = torch.ones(batch.size) if batch.weight is None else batch.weight
        terms = [w * F.cross_entropy(z, c) for z, c, w in zip(logits, batch.y, weights, strict=True)]
        for k, name in enumerate(features):
            for i in range(batch.size):
                only = {n: f[i : i + 1] * (n == name) for n, f in features.items()}
                copied = weights[i] * F.cross_entropy(module.fusion_head.fuse(only)[0], batch.y[i])
                terms += [copied] * int(copies[k, i])
        assert loss == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_additional_unimodal_heads_are_trained_in_the_warmup(data):
    clf = JointClassifier(GROUPS, unimodal_weight=2.0, balancer=Spy(warmup=9), **FAST).fit(*data)
    plain = JointClassifier(GROUPS, unimodal_weight=2.0, **FAST).fit(*data)
    np.testing.assert_array_equal(clf.predict_proba(data[0]), plain.predict_proba(data[0]))


def test_modality_level_copies_rows_for_weaker_modalities(with_absent):
    settings = FAST | {"max_epochs": 6, "lr": 0.05}
    clf = JointClassifier(GROUPS, balancer=Spy("modality", warmup=3, fraction=1.0), **settings).fit(*with_absent)
    for _, contributions, copies in clf.balancers_[0].epochs[3:]:
        means = np.nanmean(contributions, axis=1)
        for k, mean in enumerate(means):
            p = np.clip(2 / 3 * (np.delete(means, k).mean() - mean), 0, 1)
            eligible = ~np.isnan(contributions[k])
            drawn = copies[k].numpy()
            assert set(drawn) <= {0, 1}
            assert not drawn[~eligible].any()
            spread = np.sqrt(p * (1 - p) * eligible.sum())
            assert abs(drawn.sum() - p * eligible.sum()) <= 4 * spread
    assert clf.balance_history_[0]["copies"][3:, 0].all()  # audio is the weakest


def test_copy_probabilities_match_hand_computed_values():
    np.testing.assert_allclose(copy_probabilities(torch.tensor([0.4, 1.0]), 0.5), [0.5 * 2 / 3 * 0.6, 0], rtol=1e-6)
    three = copy_probabilities(torch.tensor([0.0, torch.nan, 1.5]), 2.0)
    np.testing.assert_allclose(three, [1, 0, 0])
    np.testing.assert_array_equal(copy_probabilities(torch.tensor([torch.nan, 0.3]), 1.0), [0, 0])


def test_modality_level_with_zero_alpha_is_plain_training(with_absent):
    clf = JointClassifier(GROUPS, balancer=Valuation("modality", warmup=0, alpha=0), **FAST).fit(*with_absent)
    plain = JointClassifier(GROUPS, **FAST).fit(*with_absent)
    np.testing.assert_array_equal(clf.predict_proba(with_absent[0]), plain.predict_proba(with_absent[0]))


@pytest.mark.parametrize("parameters", [{"level": "row"}, {"warmup": -1}, {"alpha": -1}, {"fraction": 0}])
def test_invalid_parameters_are_named_in_the_error(parameters, data):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        JointClassifier(GROUPS, balancer=Valuation(**parameters), **FAST).fit(*data)
