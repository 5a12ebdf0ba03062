"""ReconBoost: turns of the modalities, gradients of a stage, the head, and early stopping."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch import nn

from mmestim import JointClassifier
from mmestim.balancers import ReconBoost

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "encoder": "linear",
    "embedding_dim": 5,
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 7,
    "batch_size": 32,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def with_absent(data):
    """Return `data` with absent modalities, also rows that have only the second one."""
    X = data[0].copy()
    X[::3, :4] = np.nan
    X[1::3, 4:8] = np.nan
    X[2::9, 8:] = X[2::9, :4] = np.nan
    return X, data[1]


class Noisy(nn.Module):
    """Encoder with statistics that change in training, and noise."""

    def __init__(self, input_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x):
        return self.layers(x)


class StateRecorder(Callback):
    """Callback that records the network's state at the start and after each epoch."""

    def on_train_begin(self, net, X=None, y=None):
        self.states = [self.state(net)]

    def on_epoch_end(self, net, **kwargs):
        self.states.append(self.state(net))

    def state(self, net):
        return {key: value.clone() for key, value in net.module_.state_dict().items()}


@pytest.mark.parametrize("rectify", [0, 1])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_the_modality_of_the_stage_changes(with_absent, rectify, optimizer):
    recorder = StateRecorder()
    clf = JointClassifier(
        GROUPS,
        balancer=ReconBoost(1, rectify),
        weight_decay=0.1,
        unimodal_weight=0.5,
        callbacks=[recorder],
        **FAST | {"optimizer": optimizer, "encoder": Noisy},
    ).fit(*with_absent)
    turns = ["audio", "image", "text"]
    expected = [t for turn in turns for t in [turn] + ["all"] * rectify] * 3
    assert all("layers.1.running_mean" in " ".join(state) for state in recorder.states)
    for before, after, turn in zip(recorder.states, recorder.states[1:], expected, strict=False):
        for key in before:
            owner = [n for n in range(3) if f"branches.{n}." in key or f"linears.{n}." in key]
            moves = turn == "all" or (owner and turns[owner[0]] == turn)
            assert torch.equal(before[key], after[key]) != bool(moves), (key, turn)
    active = clf.balance_history_[0]["active"]
    np.testing.assert_array_equal(active, [[turn in ("all", name) for name in turns] for turn in expected[:7]])
    rates = clf.balance_history_[0]["rate"]
    assert (rates == 1.0).all() if rectify == 0 else np.ptp(rates) > 0


class Compared(ReconBoost):
    """ReconBoost that compares the gradient of each stage's layer with loops over the rows."""

    def train_batch(self, training, batch):
        names, length = training.names, self.stage_epochs + self.rectify_epochs
        stage, epoch = divmod(training.epoch, length)
        if epoch >= self.stage_epochs:
            return super().train_batch(training, batch)
        m = stage % len(names)
        previous = (stage - 1) % len(names) if stage else None
        expected, pulled = self.gradient(training, batch, m, previous)
        result = super().train_batch(training, batch)
        real = training.module.fusion_head.linears[m].weight.grad
        np.testing.assert_allclose(real, expected, atol=1e-6)
        self.pulls.append(pulled)
        return result

    def begin(self, training):
        super().begin(training)
        self.pulls = []

    def gradient(self, training, batch, m, previous):
        head, names = training.module.fusion_head, training.names
        features, logits = [], []
        for number, name in enumerate(names):
            positions = batch.present.get(name, torch.arange(batch.size)).tolist()
            with torch.no_grad():
                z = training.module.branch(name).encoder(batch.x[name])
                o = head.linears[number](z)
            features.append(dict(zip(positions, z.numpy(), strict=True)))
            logits.append(dict(zip(positions, o.numpy(), strict=True)))
        rate, n_classes = head.rate.item(), training.n_classes
        both = [i for i in logits[m] if previous is not None and i in logits[previous]]
        expected, pulled = np.zeros((2, n_classes, features[m][next(iter(features[m]))].shape[0]))
        for i, o in logits[m].items():
            y, p = batch.y[i].item(), softmax(o)
            q = softmax(rate * sum((z[i] for j, z in enumerate(logits) if j != m and i in z), np.zeros(n_classes)))
            w = 1.0 if batch.weight is None else batch.weight[i].item()
            error = w * (self.ce_weight - self.residual_weight * q[y]) * (p - np.eye(n_classes)[y]) / n_classes
            expected += np.outer(error, features[m][i]) / len(logits[m])
            if i in both:
                d = 2 * (p - softmax(logits[previous][i])) / n_classes
                pulled += w * np.outer(p * (d - (p * d).sum()), features[m][i]) / len(both)
        if not self.detach_agreement:
            expected = expected + self.agreement * pulled
        return expected, np.abs(pulled).max()


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("case", ["pair", "three", "absent"])
def test_gradient_of_a_stage_matches_the_formula(data, with_absent, case, detach):
    X, y = with_absent if case == "absent" else data
    groups = {"b": slice(4, 12), "a": slice(0, 4)} if case == "pair" else GROUPS
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if case == "absent" else None
    balancer = Compared(1, 1, ce_weight=4.0, residual_weight=2.0, agreement=30.0, detach_agreement=detach, rate=1.5)
    pulls = JointClassifier(groups, balancer=balancer, **FAST).fit(X, y, sample_weight=weight).balancers_[0].pulls
    # The three batches of the first stage have no agreement term, all others have one with a gradient.
    assert pulls[:3] == [0, 0, 0]
    assert min(pulls[3:]) > 1e-4


def test_detached_agreement_changes_only_the_reported_loss(data):
    def fit(**agreement):
        return JointClassifier(GROUPS, balancer=ReconBoost(1, 1, **agreement), **FAST).fit(*data)

    without, released, real = fit(agreement=0), fit(detach_agreement=True), fit()
    np.testing.assert_array_equal(released.predict_proba(data[0]), without.predict_proba(data[0]))
    assert np.abs(real.predict_proba(data[0]) - without.predict_proba(data[0])).max() > 1e-4
    assert released.history_[2]["train_loss"] > without.history_[2]["train_loss"]


def test_prediction_is_the_rate_times_the_sum_over_present_modalities(with_absent):
    X, y = with_absent
    clf = JointClassifier(GROUPS, balancer=ReconBoost(1, 1), **FAST).fit(X, y)
    head, unimodal = clf.module_.fusion_head, clf.predict_proba_per_modality(X)
    fused = np.zeros((len(y), 3))
    for number, (name, z) in enumerate(zip(GROUPS, np.split(clf.transform(X), 3, axis=1), strict=True)):
        logits = head.linears[number](torch.from_numpy(z)).detach().numpy()
        has = ~np.isnan(X[:, GROUPS[name]]).any(axis=1)
        np.testing.assert_allclose(unimodal[name][has], softmax(logits, axis=1)[has], atol=1e-6)
        fused += has[:, None] * logits
    assert head.rate.item() != 1
    np.testing.assert_allclose(clf.predict_proba(X), softmax(head.rate.item() * fused, axis=1), atol=1e-6)


def test_each_phase_begins_without_momentum(data):
    class Checked(ReconBoost):
        def begin_epoch(self, training):
            super().begin_epoch(training)
            state = training.net.optimizer_.state
            assert state
            buffers = [values["momentum_buffer"].abs().max() > 0 for values in state.values()]
            # A stage has two epochs; momentum continues within it.
            assert any(buffers) == (training.epoch % 3 == 1)

    JointClassifier(GROUPS, balancer=Checked(2, 1), **FAST | {"max_epochs": 8}).fit(*data)


def test_early_stopping_waits_for_every_modality(data):
    options = FAST | {"early_stopping": True, "n_iter_no_change": 1, "max_epochs": 30, "lr": 1e-12}
    clf = JointClassifier(GROUPS, balancer=ReconBoost(2, 1), **options).fit(*data)
    assert len(clf.history_) == 3 * 3 + 1


def test_batches_may_lack_a_modality(data):
    X, y = data[0].copy(), data[1]
    X[4:, :4] = np.nan
    clf = JointClassifier(GROUPS, balancer=ReconBoost(1, 1), **FAST | {"batch_size": 10}).fit(X, y)
    assert all(torch.isfinite(p).all() for p in clf.module_.parameters())


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"stage_epochs": 0}, ValueError, "stage_epochs=0 must be at least 1"),
        ({"rectify_epochs": 1.5}, TypeError, "rectify_epochs=1.5 must be an integer"),
        ({"ce_weight": 0}, ValueError, "ce_weight=0 must be above 0"),
        ({"residual_weight": 6}, ValueError, "residual_weight=6 must be at least 0 and at most 5.0"),
        ({"agreement": -1}, ValueError, "agreement=-1 must be at least 0"),
        ({"detach_agreement": 1}, TypeError, "detach_agreement=1 must be True or False"),
        ({"rate": 0}, ValueError, "rate=0 must be above 0"),
    ],
)
def test_invalid_parameters_are_named_in_the_error(data, changes, error, message):
    with pytest.raises(error, match=message):
        JointClassifier(GROUPS, balancer=ReconBoost(**changes), **FAST).fit(*data)


def test_modalities_without_a_stage_cause_a_warning(data):
    with pytest.warns(ConvergenceWarning, match=r"max_epochs=7 ends before all 3 .* Raise max_epochs to 8 or more"):
        JointClassifier(GROUPS, balancer=ReconBoost(2, 1), **FAST).fit(*data)
    JointClassifier(GROUPS, balancer=ReconBoost(2, 1), **FAST | {"max_epochs": 8}).fit(*data)
