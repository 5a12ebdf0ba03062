"""QMF: fused logits and loss against numpy, and the direction of the ranking."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from mmestim import JointClassifier
from mmestim.balancers import QMF

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "embedding_dim": 5,
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 3,
    "batch_size": 32,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}


def cross_entropy(z, y):
    return -np.log(softmax(z)[y])


class Compared(QMF):
    """QMF that compares the loss of every batch with the formula, row by row."""

    def begin(self, training):
        super().begin(training)
        rows = {name: training.rows.with_modality(name).rows.tolist() for name in training.names}
        self.hardness = {name: dict.fromkeys(rows[name], 0.0) for name in training.names}
        self.checked = 0

    def loss(self, training, outputs):
        loss = super().loss(training, outputs)
        batch, head = outputs.batch, training.module.fusion_head
        y, rows = batch.y.tolist(), batch.rows.tolist()
        w = np.ones(batch.size) if batch.weight is None else batch.weight.numpy()
        fused, expected = np.zeros((batch.size, training.n_classes)), 0.0
        for number, name in enumerate(training.names):
            z = head.linears[number](outputs.features[name]).detach().numpy().astype(float)
            positions = batch.present.get(name, torch.arange(batch.size)).tolist()
            for i in positions:
                fused[i] += logsumexp(z[i]) / self.temperature * z[i]
                expected += w[i] * cross_entropy(z[i], y[i]) / len(positions)
                self.hardness[name][rows[i]] += cross_entropy(z[i], y[i])
            sums = self.hardness[name]
            low, high = min(sums.values()), max(sums.values())
            for i, j in zip(positions, positions[1:] + positions[:1], strict=True):
                ki, kj = ((sums[rows[n]] - low) / (high - low) for n in (i, j))
                ci, cj = (logsumexp(z[n]) / self.temperature for n in (i, j))
                d = -abs(ki - kj) if self.released_margin else abs(ki - kj)
                ranked = max(0.0, (1 if ki > kj else -1) * (ci - cj) + d)
                expected += self.rank_weight * (w[i] + w[j]) / 2 * ranked / len(positions)
        np.testing.assert_allclose(outputs.logits.detach(), fused, atol=1e-5)
        expected += np.mean([w[i] * cross_entropy(fused[i], y[i]) for i in range(batch.size)])
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        self.checked += 1
        return loss


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("case", ["pair", "three", "absent"])
def test_loss_matches_the_formula(data, with_absent, case, released):
    X, y = with_absent if case == "absent" else data
    groups = {"b": slice(4, 12), "a": slice(0, 4)} if case == "pair" else GROUPS
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if case == "absent" else None
    balancer = Compared(0.7, temperature=5.0, released_margin=released)
    clf = JointClassifier(groups, balancer=balancer, **FAST).fit(X, y, sample_weight=weight)
    assert clf.balancers_[0].checked == 9


def test_predictions_weight_present_modalities_by_energy(with_absent):
    X, y = with_absent
    clf = JointClassifier(GROUPS, balancer=QMF(), **FAST).fit(X, y)
    fused, unimodal = np.zeros((len(y), 3)), clf.predict_proba_per_modality(X)
    for number, (name, z) in enumerate(zip(GROUPS, np.split(clf.transform(X), 3, axis=1), strict=True)):
        logits = clf.module_.fusion_head.linears[number](torch.from_numpy(z)).detach().numpy()
        has = ~np.isnan(X[:, GROUPS[name]]).any(axis=1)
        np.testing.assert_allclose(unimodal[name][has], softmax(logits, axis=1)[has], atol=1e-6)
        fused += has[:, None] * logits * logsumexp(logits, axis=1, keepdims=True) / 10
    np.testing.assert_allclose(clf.predict_proba(X), softmax(fused, axis=1), atol=1e-5)


def test_fused_loss_has_no_gradient_through_the_energies(data):
    class Fused(QMF):
        def loss(self, training, outputs):
            head, batch = training.module.fusion_head, outputs.batch
            (real,) = torch.autograd.grad(
                torch.nn.functional.cross_entropy(outputs.logits, batch.y), head.linears[0].bias, retain_graph=True
            )
            z = head.linears[0](outputs.features["audio"]).detach().numpy()
            error = softmax(outputs.logits.detach().numpy(), axis=1) - np.eye(3)[batch.y]
            np.testing.assert_allclose(real, (error * logsumexp(z, axis=1)[:, None] / 10).mean(axis=0), atol=1e-6)
            return super().loss(training, outputs)

    JointClassifier(GROUPS, balancer=Fused(), **FAST).fit(*data)


def test_confidences_learn_to_rank_rows_by_hardness(data):
    # The first modality is noise in half of the rows.
    X, y = data[0].copy(), data[1]
    X[:48, :4] = 6 * np.eye(3, 4)[y[:48]]
    X[48:, :4] = np.random.default_rng(1).normal(size=(48, 4))

    def lead(rank_weight):
        clf = JointClassifier(GROUPS, balancer=QMF(rank_weight), **FAST | {"max_epochs": 60, "lr": 0.03}).fit(X, y)
        z = clf.transform(X)[:, :5]
        logits = clf.module_.fusion_head.linears[0](torch.from_numpy(z)).detach().numpy()
        confidence = logsumexp(logits, axis=1) / 10
        return confidence[:48].mean() - confidence[48:].mean()

    assert lead(5.0) > lead(0.0) + 0.2


def test_batches_may_lack_a_modality(data):
    X, y = data[0].copy(), data[1]
    X[4:, :4] = np.nan  # most batches have no row with it
    clf = JointClassifier(GROUPS, balancer=QMF(), **FAST | {"optimizer": "adamw", "batch_size": 10}).fit(X, y)
    assert all(torch.isfinite(p).all() for p in clf.module_.parameters())


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"rank_weight": -1}, ValueError, "rank_weight=-1 must be at least 0"),
        ({"temperature": 0}, ValueError, "temperature=0 must be above 0"),
        ({"released_margin": 0}, TypeError, "released_margin=0 must be True or False"),
    ],
)
def test_invalid_parameters_are_named_in_the_error(data, changes, error, message):
    with pytest.raises(error, match=message):
        JointClassifier(GROUPS, balancer=QMF(**changes), **FAST).fit(*data)
