"""AMCo: dominant modalities, hidden classes, and the loss against its formula."""

import math
import pickle

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from mmestim import JointClassifier
from mmestim.balancers.amco import AMCo, _leads

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 4,
    "batch_size": 16,
    "embedding_dim": 6,
    "lr": 0.05,
    "random_state": 0,
    "device": "cpu",
}
N_CLASSES = 5


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, 96)
    means = rng.normal(size=(3, N_CLASSES, 4))
    X = np.hstack([scale * means[m][y] + rng.normal(size=(96, 4)) for m, scale in enumerate((3.0, 1.0, 0.3))])
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def with_absent(data):
    X, y = data[0].copy(), data[1]
    X[::5, :4] = np.nan
    X[1::5, 4:8] = np.nan
    X[2::10, 4:] = np.nan
    return X, y


def cross_entropy(logits, y, weight):
    return np.mean(weight * -log_softmax(logits, axis=1)[np.arange(len(y)), y])


class Checked(AMCo):
    """AMCo that compares every loss with the formula, with masks from the same generators."""

    def begin(self, training):
        super().begin(training)
        self.sets_, self.amounts_ = [], []

    def begin_epoch(self, training):
        super().begin_epoch(training)
        self.batch_ = 0

    def loss(self, training, outputs):
        drawn = {name: g.clone_state() for name, g in self._generators.items()}
        loss = super().loss(training, outputs)
        y, present, head = outputs.batch.y.numpy(), outputs.present.numpy(), training.module.fusion_head
        weight = np.ones(len(y)) if outputs.batch.weight is None else outputs.batch.weight.numpy()
        features = {name: f.detach() for name, f in outputs.features.items()}
        o = np.stack([z.detach().numpy() for z in head.heads(features).values()]).astype(float)

        # Masses by one softmax over all logits of a row.
        leads = np.zeros(len(o))
        for m in range(len(o)):
            rows = np.flatnonzero(present[m] & (present.sum(0) > 1))
            masses = []
            for i in rows:
                modalities = np.flatnonzero(present[:, i])
                mass = softmax(o[modalities, i].ravel()).reshape(len(modalities), -1).sum(1)[list(modalities).index(m)]
                masses.append((len(modalities) * mass - 1) / (len(modalities) - 1))
            leads[m] = np.average(masses, weights=weight[rows]) if masses else 0
        dominant = leads > 2 * self.sigma - 1

        time = self.batch_ * training.epoch / 10
        n_hidden = int(math.sin(math.pi / 2 * min(self.eps, time) / self.eps) * N_CLASSES)
        self.batch_ += 1
        masked = o.copy()
        for m, name in enumerate(training.names):
            classes = (torch.rand(N_CLASSES, generator=drawn[name]).argsort() < n_hidden).numpy() if n_hidden else []
            if dominant[m] and n_hidden:
                non_dominant = [j for j in range(len(o)) if not dominant[j]]
                rows = np.flatnonzero(present[non_dominant].any(0))
                masked[m][np.ix_(rows, np.flatnonzero(classes))] = 0
                self.sets_.append(tuple(np.flatnonzero(classes)))
        self.amounts_.append((training.epoch, n_hidden))
        mix = head.mix.weight.detach().numpy(), head.mix.bias.detach().numpy()
        expected = cross_entropy(masked.sum(0) @ mix[0].T + mix[1], y, weight)
        for m in range(len(o)):
            if present[m].any():
                expected += cross_entropy(o[m, present[m]], y[present[m]], weight[present[m]])
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        return loss


@pytest.mark.parametrize("names", [["audio", "image"], ["audio", "image", "text"]])
@pytest.mark.parametrize("kind", ["data", "with_absent"])
def test_loss_matches_the_formula(request, kind, names):
    X, y = request.getfixturevalue(kind)
    clf = JointClassifier({name: GROUPS[name] for name in names}, balancer=Checked(eps=1.5), **FAST)
    X = X[:, : 4 * len(names)]
    clf.fit(X, y, sample_weight=np.random.default_rng(1).uniform(0.5, 2, len(y)))
    sets, amounts = clf.balancers_[0].sets_, clf.balancers_[0].amounts_
    # No class is hidden in the first epoch or at the start of a later one; the number then grows with every batch.
    assert not any(n for epoch, n in amounts if epoch == 0)
    for epoch in (1, 2, 3):
        grown = [n for e, n in amounts if e == epoch]
        assert grown[0] == 0 < grown[-1]
        assert grown == sorted(grown)
    assert {len(s) for s in sets} > {1, 2}
    assert len(set(sets)) > 3
    history = clf.balance_history_[0]
    assert history["masked"].shape == (4,)
    assert history["masked"][0] == 0 < history["masked"][3]
    assert (history["dominant"] > 0).any()


def test_leads_match_hand_computed_values():
    # Masses are 3/4 and 1/4 for two modalities, 3/5, 1/5 and 1/5 for three; a row with one modality does not count.
    logits = torch.log(torch.tensor([[[2.0, 1.0]], [[0.5, 0.5]]]))
    np.testing.assert_allclose(_leads(logits, torch.ones(2, 1, dtype=bool), None).numpy(), [0.5, -0.5], atol=1e-6)
    logits = torch.log(torch.tensor([[[2.0, 1.0]] * 3, [[0.5, 0.5]] * 3, [[0.3, 0.7]] * 3]))
    present = torch.tensor([[True, True, False], [True, False, False], [True, False, False]])
    np.testing.assert_allclose(_leads(logits, present, None).numpy(), [0.4, -0.2, -0.2], atol=1e-6)
    assert not _leads(logits, torch.zeros(3, 3, dtype=bool), None).any()


def test_no_modality_is_dominant_with_sigma_1(data):
    fit = {eps: JointClassifier(GROUPS, balancer=AMCo(1.0, eps), **FAST).fit(*data) for eps in (0.1, 1e9)}
    assert not fit[0.1].balance_history_[0]["dominant"].any()
    assert fit[0.1].balance_history_[0]["masked"].max() > 0.5
    # No class is hidden: in one fit no modality is dominant, in the other the mask time stays near zero.
    np.testing.assert_allclose(*(clf.predict_proba(data[0]) for clf in fit.values()), atol=1e-6)


def test_predictions_use_all_logits(with_absent):
    X, y = with_absent
    clf = JointClassifier(GROUPS, balancer=AMCo(), **FAST).fit(X, y)
    head, z = clf.module_.fusion_head, np.split(clf.transform(X), 3, axis=1)
    weights = [[p.detach().numpy() for p in layer.parameters()] for layer in (*head.linears, head.mix)]
    o = [f @ w.T + b for f, (w, b) in zip(z, weights[:3], strict=True)]
    np.testing.assert_allclose(
        clf.predict_proba(X), softmax(sum(o) @ weights[3][0].T + weights[3][1], axis=1), atol=1e-5
    )
    unimodal = clf.predict_proba_per_modality(X)
    for m, name in enumerate(GROUPS):
        present = ~np.isnan(X[:, 4 * m])
        np.testing.assert_allclose(unimodal[name][present], softmax(o[m], axis=1)[present], atol=1e-5)


def test_additional_unimodal_heads_are_trained(data):
    clf = JointClassifier(GROUPS, unimodal_weight=1.0, balancer=AMCo(), **(FAST | {"max_epochs": 15})).fit(*data)
    assert (clf.predict_proba_per_modality(data[0])["audio"].argmax(1) == data[1]).mean() > 0.6


def test_results_are_reproducible_and_survive_pickling(data):
    first, second = (JointClassifier(GROUPS, balancer=AMCo(), **FAST).fit(*data) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(data[0]), second.predict_proba(data[0]))
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(again.predict_proba(data[0]), first.predict_proba(data[0]))


@pytest.mark.parametrize("bad", [{"sigma": 0.4}, {"sigma": 1.1}, {"eps": 0}, {"eps": "1"}])
def test_invalid_parameters_are_named_in_the_error(data, bad):
    with pytest.raises((ValueError, TypeError), match=f"{next(iter(bad))}="):
        JointClassifier(GROUPS, balancer=AMCo(**bad), **FAST).fit(*data)
