"""PMR: loss against the formulas of the paper and the released code, prototypes against class means."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mmestim import JointClassifier
from mmestim.balancers.pmr import PMR

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 3,
    "batch_size": 16,
    "embedding_dim": 6,
    "lr": 0.05,
    "random_state": 0,
    "device": "cpu",
}


def published(t, rule):
    """Return the weights of losses and entropies of two modalities: the paper's, or the released code's 0 and 1."""
    rho = t[0] / t[1]
    if rule == "hard":
        beta, gamma = float(rho < 1), float(rho > 1)
    else:
        beta = 0.0 if rho > 1 else np.clip(1 / rho - 1, 0, 1)
        gamma = 0.0 if rho < 1 else np.clip(rho - 1, 0, 1)
    return np.array([beta, gamma]), np.array([gamma, beta])


def extended(t, rule):
    slow = (t < t.max()).astype(float) if rule == "hard" else np.clip(t.max() / t - 1, 0, 1)
    return slow, np.where(t == t.max(), slow.max(), 0)


class Checked(PMR):
    """PMR that compares every loss with the formula, computed row by row."""

    def begin(self, training):
        super().begin(training)
        self.n_without_prototype_ = 0  # rows whose class has no prototype in a modality that they have

    def loss(self, training, outputs):
        loss = super().loss(training, outputs)
        y, present = outputs.batch.y.numpy(), outputs.present.numpy()
        weight = np.ones(len(y)) if outputs.batch.weight is None else outputs.batch.weight.numpy()
        t, cost, entropy = (np.zeros(len(present)) for _ in range(3))
        for m, name in enumerate(training.names):
            z, has_prototype = outputs.features[name].detach().numpy(), self.known_[m].numpy()
            prototypes = self.prototypes_[name].numpy()[has_prototype]
            log_p = np.full((len(y), len(has_prototype)), -np.inf)
            if has_prototype.any():
                distances = [[np.sqrt(((row - c) ** 2).sum()) for c in prototypes] for row in z]
                log_p[:, has_prototype] = log_softmax(-np.array(distances), axis=1)
            present_rows = np.flatnonzero(present[m])
            rows = present_rows[has_prototype[y[present_rows]]]
            self.n_without_prototype_ += len(present_rows) - len(rows)
            cost[m] = np.mean(-weight[rows] * log_p[rows, y[rows]]) if len(rows) else 0
            log_q = log_p[np.ix_(present_rows, np.flatnonzero(has_prototype))]
            row_entropies = -(np.exp(log_q) * log_q).sum(1)
            entropy[m] = np.mean(weight[present_rows] * row_entropies) if len(present_rows) else 0
            shared_rows = rows[present[:, rows].sum(0) > 1]
            t[m] = np.average(np.exp(log_p[shared_rows, y[shared_rows]]), weights=weight[shared_rows])
        slow, fast = (published if len(t) == 2 else extended)(t, self.rule)
        expected = training.joint_loss(outputs).item() + self.alpha * slow @ cost
        if training.epoch < self.entropy_epochs:
            expected -= self.mu * fast @ entropy
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        return loss


@pytest.mark.parametrize("rule", ["soft", "hard"])
@pytest.mark.parametrize("names", [["image", "text"], ["audio", "image", "text"]])
@pytest.mark.parametrize("kind", ["data", "with_absent"])
def test_loss_matches_the_formula(request, kind, names, rule):
    X, y = request.getfixturevalue(kind)
    groups = {name: slice(4 * m, 4 * m + 4) for m, name in enumerate(names)}
    balancer = Checked(alpha=1.5, mu=0.3, entropy_epochs=2, rule=rule)
    clf = JointClassifier(groups, balancer=balancer, **FAST)
    clf.fit(X[:, -4 * len(names) :], y, sample_weight=np.random.default_rng(1).uniform(0.5, 2, len(y)))
    history = clf.balance_history_[0]
    assert (history["weight"] > 0).any()
    # The entropy term is used in the first two epochs only.
    assert (history["entropy_weight"].max(axis=1) > 0).tolist() == [True, True, False]


def test_gradient_of_the_entropy_term_reaches_only_the_fastest_modality(data):
    X, y = data[0][:, :8], data[1]

    class Spy(PMR):
        def loss(self, training, outputs):
            features = list(outputs.features.values())
            gradients = []
            for mu in (0.0, 1.0):
                loss = PMR.loss(self.set_params(mu=mu), training, outputs)
                gradients.append(torch.autograd.grad(loss, features, retain_graph=True))
            of_term = [b - a for a, b in zip(*gradients, strict=True)]
            fast = int(torch.stack([g.abs().max() for g in of_term]).argmax())
            assert torch.allclose(of_term[1 - fast], torch.zeros(1), atol=1e-7)

            prototypes = self.prototypes_[training.names[fast]]
            z = features[fast].detach().requires_grad_()
            log_p = -(z[:, None] - prototypes).norm(dim=2)
            log_p = log_p - log_p.logsumexp(1, keepdim=True)
            (expected,) = torch.autograd.grad((log_p.exp() * log_p).sum(1).mean(), z)  # minus the mean entropy
            torch.testing.assert_close(of_term[fast], expected, rtol=1e-3, atol=1e-7)
            return loss

    groups = {name: GROUPS[name] for name in ("audio", "image")}
    JointClassifier(groups, balancer=Spy(alpha=0, rule="hard"), **(FAST | {"max_epochs": 1})).fit(X, y)


def test_weights_match_hand_computed_values():
    every = torch.tensor([True, True, True])
    slow, fast = PMR()._weights(torch.tensor([0.6, 0.4, 0.2]), every)
    np.testing.assert_allclose(slow.numpy(), [0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(fast.numpy(), [1, 0, 0])
    slow, fast = PMR(rule="hard")._weights(torch.tensor([0.6, 0.5, 0.6]), every)
    np.testing.assert_allclose(slow.numpy(), [0, 1, 0])
    np.testing.assert_allclose(fast.numpy(), [1, 0, 1])
    # A modality that shares no row of the batch with another is neither slow nor fast.
    slow, fast = PMR()._weights(torch.tensor([0.6, 0.0, 0.5]), torch.tensor([True, False, True]))
    np.testing.assert_allclose(slow.numpy(), [0, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(fast.numpy(), [0.2, 0, 0], atol=1e-6)
    for rule in ("soft", "hard"):
        assert not torch.stack(PMR(rule=rule)._weights(torch.zeros(3), every)).any()


def test_prototypes_are_running_class_means(with_absent):
    X, y = with_absent
    weights = np.random.default_rng(1).uniform(0.5, 2, len(y)).astype(np.float32)

    class Checked(PMR):
        def begin_epoch(self, training):
            before = {name: p.numpy().copy() for name, p in self.prototypes_.items()}
            super().begin_epoch(training)
            with torch.no_grad():
                outputs = training.forward(training.rows.batch(training.rows.rows))
            y, weight = outputs.batch.y.numpy(), outputs.batch.weight.numpy()
            for m, name in enumerate(training.names):
                for c in range(3):
                    is_class = outputs.present[m].numpy() & (y == c)
                    mean = np.average(outputs.features[name][is_class].numpy(), axis=0, weights=weight[is_class])
                    if training.epoch:
                        mean = 0.4 * before[name][c] + 0.6 * mean
                    np.testing.assert_allclose(self.prototypes_[name][c].numpy(), mean, rtol=1e-4, atol=1e-5)

    clf = JointClassifier(GROUPS, balancer=Checked(momentum=0.4, fraction=1.0), **FAST)
    clf.fit(X, y, sample_weight=weights)
    assert clf.balancers_[0].known_.all()


def test_drawn_rows_contain_every_class_and_change_with_the_epoch(data):
    drawn = []

    class Spy(PMR):
        def _draw(self, rows):
            drawn.append(super()._draw(rows))
            return drawn[-1]

    y = np.where(np.arange(96) < 2, 7, data[1])
    JointClassifier(GROUPS, balancer=Spy(fraction=0.25), **(FAST | {"early_stopping": False})).fit(data[0], y)
    for rows in drawn:
        counts = np.ceil(0.25 * np.unique(y, return_counts=True)[1])
        assert np.unique(y[rows], return_counts=True)[1].tolist() == counts.tolist()
        assert len(set(rows)) == len(rows)
    assert set(drawn[0]) != set(drawn[1])


def test_a_class_missing_from_one_modality_has_prototypes_in_the_others(data):
    X, y = data[0].copy(), data[1]
    X[y == 2, :4] = np.nan
    clf = JointClassifier(GROUPS, balancer=Checked(alpha=1.5, mu=0.3), **FAST).fit(X, y)
    np.testing.assert_array_equal(clf.balancers_[0].known_, [[True, True, False], [True] * 3, [True] * 3])
    assert not clf.balancers_[0].prototypes_["audio"][2].any()
    assert all(np.isfinite(values).all() for values in clf.balance_history_[0].values())
    assert np.isfinite(clf.predict_proba(X)).all()


def test_rows_of_classes_without_prototype_are_left_out(data):
    X, y = data[0].copy(), data[1]
    X[np.flatnonzero(y == 2)[6:], :4] = np.nan
    balancer = Checked(alpha=1.5, mu=0.3, fraction=0.01)  # one row of each class
    clf = JointClassifier(GROUPS, balancer=balancer, **(FAST | {"batch_size": 40, "random_state": 2})).fit(X, y)
    assert clf.balancers_[0].n_without_prototype_ > 0


def test_a_class_without_weight_has_no_prototype(data):
    X, y = data
    clf = JointClassifier(GROUPS, balancer=PMR(), **FAST).fit(X, y, sample_weight=(y < 2).astype(float))
    assert clf.balancers_[0].known_.tolist() == [[True, True, False]] * 3
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_zero_alpha_and_mu_is_plain_training(data, fusion):
    X, y = data[0][:, :8], data[1]
    groups = {name: GROUPS[name] for name in ("audio", "image")}
    plain = JointClassifier(groups, fusion=fusion, **FAST).fit(X, y)
    off = JointClassifier(groups, fusion=fusion, balancer=PMR(alpha=0, mu=0), **FAST).fit(X, y)
    np.testing.assert_array_equal(off.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize(
    "bad", [{"alpha": -1}, {"mu": -0.1}, {"entropy_epochs": 1.5}, {"rule": "firm"}, {"momentum": 2}, {"fraction": 0}]
)
def test_invalid_parameters_are_named_in_the_error(data, bad):
    with pytest.raises((ValueError, TypeError), match=f"{next(iter(bad))}="):
        JointClassifier(GROUPS, balancer=PMR(**bad), **FAST).fit(*data)
