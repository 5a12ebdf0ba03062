"""LFM: contrast against loops over rows and pairs, schedule, and features of different lengths."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from torch import nn

from mmestim import JointClassifier
from mmestim._data.batches import Batch
from mmestim._training.losses import weighted_cross_entropy
from mmestim.balancers import LFM
from mmestim.balancers.lfm import info_nce

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"cv": None, "optimizer": "sgd", "max_epochs": 3, "batch_size": 40, "random_state": 0, "device": "cpu"}


def stub_outputs(present, weight=None):
    n_rows = present.shape[1]
    return SimpleNamespace(batch=Batch({}, {}, n_rows, torch.zeros(n_rows), weight), present=present)


def contrast(features, present, temperature, weight):
    """Return the contrastive loss by loops over pairs, directions and rows."""
    pairs = []
    for a, b in itertools.combinations(range(len(features)), 2):
        rows = [i for i in range(features.shape[1]) if present[a, i] and present[b, i]]
        total = 0.0
        for one, other in ((a, b), (b, a)):
            for i in rows:
                cosines = [1 - cosine(features[one, i], features[other, j]) for j in rows]
                shares = np.exp(np.array(cosines) / temperature)
                total -= weight[i] * np.log(shares[rows.index(i)] / shares.sum()) / 2
        pairs.append(total / max(len(rows), 1))
    return np.mean(pairs)


@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize("absent", [False, True])
def test_contrast_matches_the_formula(n_modalities, absent):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(n_modalities, 6, 5))
    present = np.ones((n_modalities, 6), dtype=bool)
    if absent:
        present[0, [0, 3]] = present[1, [3, 4]] = False
    features[~present] = 0
    weight = rng.uniform(0.5, 2, 6)
    given = torch.tensor(features, requires_grad=True)
    loss = info_nce(given, stub_outputs(torch.tensor(present), torch.tensor(weight)), 0.3)
    assert loss.item() == pytest.approx(contrast(features, present, 0.3, weight), rel=1e-6)
    loss.backward()
    assert torch.isfinite(given.grad).all()
    assert (given.grad.numpy()[~present] == 0).all()


def test_contrast_of_two_rows_matches_hand_computed_values():
    # The first rows are parallel and the second ones orthogonal; lengths have no effect.
    features = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [5.0, 0.0]]])
    loss = info_nce(features, stub_outputs(torch.ones(2, 2, dtype=torch.bool)), 0.5)
    e = np.exp(2)
    rows = [np.log(2), np.log(2)]  # cosines 1 and 1, 0 and 0
    columns = [-np.log(e / (e + 1)), -np.log(1 / (e + 1))]
    assert loss.item() == pytest.approx(np.mean(rows + columns))


def test_rows_without_a_pair_add_no_loss():
    features = torch.ones(2, 3, 4, requires_grad=True)
    present = torch.tensor([[True, True, False], [False, False, True]])
    loss = info_nce(features, stub_outputs(present), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert (features.grad == 0).all()


class Spy(LFM):
    """LFM that records losses, their parts and the maps of the features."""

    def begin(self, training):
        super().begin(training)
        self.maps, self.steps = dict(self._maps), []

    def loss(self, training, outputs):
        loss = super().loss(training, outputs)
        features = [f @ self.maps[name] if name in self.maps else f for name, f in outputs.features.items()]
        contrast = info_nce(torch.stack(features), outputs, self.temperature)
        plain = weighted_cross_entropy(outputs.logits, outputs.batch)
        self.steps.append((training.epoch, loss.item(), plain.item(), contrast.item()))
        return loss


def test_loss_follows_the_schedule(data):
    clf = JointClassifier(GROUPS, balancer=Spy(temperature=0.2, strength=0.8), **FAST).fit(*data)
    weights = 0.8 * (1 - np.exp(-1 / np.array([1, 2, 3])))
    np.testing.assert_allclose(clf.balance_history_[0]["weight"], weights, rtol=1e-6)
    for epoch, loss, plain, contrast in clf.balancers_[0].steps:
        assert loss == pytest.approx((1 - weights[epoch]) * plain + weights[epoch] * contrast, rel=1e-5)
    assert len(clf.balancers_[0].steps) == 9


def test_longer_features_are_mapped_by_orthonormal_columns(data):
    encoder = {"audio": nn.Linear(4, 3), "image": nn.Linear(4, 200), "text": nn.Linear(4, 200)}
    clf = JointClassifier(GROUPS, encoder=encoder, balancer=Spy(), **FAST).fit(*data)
    maps = clf.balancers_[0].maps
    assert sorted(maps) == ["image", "text"]
    for columns in maps.values():
        np.testing.assert_allclose((columns.T @ columns).numpy(), np.eye(3), atol=1e-6)
    assert not torch.equal(maps["image"], maps["text"])


def test_zero_strength_is_plain_training(data):
    clf = JointClassifier(GROUPS, balancer=LFM(strength=0), **FAST).fit(*data)
    plain = JointClassifier(GROUPS, **FAST).fit(*data)
    np.testing.assert_array_equal(clf.predict_proba(data[0]), plain.predict_proba(data[0]))


@pytest.mark.parametrize("parameters", [{"temperature": 0}, {"strength": 1.5}])
def test_invalid_parameters_are_named_in_the_error(parameters, data):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        JointClassifier(GROUPS, balancer=LFM(**parameters), **FAST).fit(*data)
