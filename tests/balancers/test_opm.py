"""OPM: dropped features and the loss of the remaining rows against numpy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from mmestim import JointClassifier
from mmestim.balancers import OPM, Training, opm

PAIR = {"audio": slice(0, 3), "image": slice(3, 6)}
GROUPS = {"audio": slice(0, 3), "image": slice(3, 6), "text": slice(6, 9)}
FAST = {
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 3,
    "random_state": 0,
    "device": "cpu",
    "early_stopping": False,
    "embedding_dim": 8,
}


@pytest.fixture(scope="module")
def data(make_data):
    return make_data(120, scales=(0.5, 1.0, 4.0), n_columns=3)


@pytest.fixture
def steps(monkeypatch):
    """Return a list that collects factors, scores, features and losses of every training step."""
    recorded_steps, fuse, joint_loss = [], opm.fuse, Training.joint_loss

    def spy_fuse(training, outputs, factors):
        logits = fuse(training, outputs, factors)
        unimodal = np.stack([z.detach().numpy() for z in outputs.unimodal.values()])
        recorded_steps.append(
            {
                "factors": factors.numpy(),
                "present": outputs.present.numpy(),
                "scores": softmax(unimodal, axis=2)[:, range(len(factors[0])), outputs.batch.y],
                "y": outputs.batch.y.numpy(),
                "row_weight": np.ones(len(factors[0]))
                if outputs.batch.weight is None
                else outputs.batch.weight.numpy(),
                "features": {name: f.detach().numpy() for name, f in outputs.features.items()},
                "weight": training.module.fusion_head.linear.weight.detach().numpy().copy(),
                "bias": training.module.fusion_head.linear.bias.detach().numpy().copy(),
            }
        )
        return logits

    def spy_loss(self, outputs, fused=None):
        loss = joint_loss(self, outputs, fused)
        if recorded_steps:
            recorded_steps[-1]["loss"] = loss.item()
        return loss

    monkeypatch.setattr(opm, "fuse", spy_fuse)
    monkeypatch.setattr(Training, "joint_loss", spy_loss)
    return recorded_steps


def drop_probabilities(step, q_base, alpha):
    """Return the drop probabilities by a loop over the rows."""
    n_modalities, n_rows = step["scores"].shape
    q = []
    for m in range(n_modalities):
        modality_sum = other_sum = 0.0
        for i in range(n_rows):
            others = [j for j in range(n_modalities) if j != m and step["present"][j, i]]
            if step["present"][m, i] and others:
                modality_sum += step["row_weight"][i] * step["scores"][m, i]
                other_sum += step["row_weight"][i] * np.mean(step["scores"][others, i])
        r = np.tanh(max(0.0, modality_sum / other_sum - 1))
        q.append(min(1.0, q_base * (1 + alpha * r)) if r > 0 else 0.0)
    return np.array(q)


def check_steps(steps, q_base, alpha):
    """Compare every step with the formula; return the numbers of dropped features and of lost rows."""
    n_dropped = n_lost = 0
    for step in steps:
        q = drop_probabilities(step, q_base, alpha)
        lengths = np.array([f.shape[1] for f in step["features"].values()])
        losses = []
        for i, label in enumerate(step["y"]):
            present, factors = step["present"][:, i], step["factors"][:, i]
            theta = (lengths * q)[present].sum() / lengths[present].sum() if present.sum() > 1 else 0.0
            is_kept = factors > 0
            np.testing.assert_allclose(factors[is_kept], 1 / (1 - theta), rtol=1e-5)
            assert not (is_kept & ~present).any()
            assert is_kept[present & (q == 0)].all()
            if present.sum() == 1:
                np.testing.assert_array_equal(factors, present)
            n_dropped += (present & ~is_kept).sum()
            n_lost += not is_kept.any()
            if is_kept.any():
                z = np.concatenate([f[i] * k for f, k in zip(step["features"].values(), factors, strict=True)])
                logits = step["weight"] @ z + step["bias"]
                losses.append(-step["row_weight"][i] * log_softmax(logits)[label])
        assert step["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    return n_dropped, n_lost


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("modalities", [PAIR, GROUPS])
def test_every_step_matches_the_formula(modalities, absent, steps, data, with_absent):
    X, y = with_absent if absent else data
    X = X[:, : 3 * len(modalities)]
    X, y = X[~np.isnan(X).all(axis=1)], y[~np.isnan(X).all(axis=1)]
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    sizes = {"audio": 4, "image": 8, "text": 6}
    encoder = {name: torch.nn.Linear(3, size) for name, size in sizes.items() if name in modalities}
    balancer = OPM(0.6, alpha=0.8, p_exe=1.0, starts=0)
    JointClassifier(modalities, balancer=balancer, encoder=encoder, **FAST).fit(X, y, weight)
    n_dropped, n_lost = check_steps(steps, 0.6, 0.8)
    assert len(steps) == 2 * 3
    assert n_dropped > 20
    if len(modalities) == 2:
        assert n_lost == 0  # only one of two modalities can lead


def test_drop_frequencies_match_the_formula(steps, data):
    balancer = OPM(0.4, p_exe=1.0, starts=0)
    JointClassifier(GROUPS, balancer=balancer, **FAST | {"max_epochs": 10, "lr": 0.1}).fit(*data)
    expected = np.sum([drop_probabilities(step, 0.4, 0.5) * len(step["y"]) for step in steps], axis=0)
    dropped = np.sum([(step["factors"] == 0).sum(axis=1) for step in steps], axis=0)
    assert expected[2] > 200
    assert np.abs(dropped - expected).max() < 4 * np.sqrt(expected.max())


def test_some_batches_drop_nothing(steps, data):
    balancer = OPM(0.6, p_exe=0.5, starts=0)
    JointClassifier(GROUPS, balancer=balancer, **FAST | {"max_epochs": 12, "batch_size": 30}).fit(*data)
    untouched = [(step["factors"] == 1).all() for step in steps]
    assert len(untouched) == 48
    assert 12 < sum(untouched) < 36


def test_rows_that_lose_all_modalities_are_excluded_from_the_loss(steps, data):
    """Two of three modalities lead, and half of the rows lack the third one."""
    X, y = np.hstack([np.tile(data[0][:, 6:], 2), data[0][:, :3]]), data[1]
    X[::2, 6:] = np.nan
    balancer = OPM(0.9, p_exe=1.0, starts=0)
    settings = FAST | {"max_epochs": 20, "lr": 0.1, "batch_size": 60, "encoder": "mlp"}
    clf = JointClassifier(GROUPS, balancer=balancer, **settings).fit(X, y)
    _, n_lost = check_steps(steps, 0.9, 0.5)
    assert n_lost > 50
    assert clf.balance_history_[0]["lost"].sum() == pytest.approx(n_lost / 120)


def test_batches_that_lose_all_rows_change_no_weights(monkeypatch, data):
    monkeypatch.setattr(opm, "score_ratios", lambda outputs: torch.full((3,), 9.0))
    settings = FAST | {"weight_decay": 0.0, "max_epochs": 2}
    clf = JointClassifier(GROUPS, balancer=OPM(1.0, p_exe=1.0, starts=0), **settings).fit(*data)
    assert (clf.balance_history_[0]["lost"] == 1).all()
    start = JointClassifier(GROUPS, **settings | {"lr": 1e-30}).fit(*data)
    np.testing.assert_allclose(clf.predict_proba(data[0]), start.predict_proba(data[0]), atol=1e-6)


@pytest.mark.parametrize("off", [{"q_base": 0}, {"p_exe": 0}, {"starts": 3}])
def test_switched_off_it_is_plain_training(off, with_absent):
    X, y = with_absent
    plain = JointClassifier(GROUPS, **FAST).fit(X, y)
    clf = JointClassifier(GROUPS, balancer=OPM(**{"starts": 0} | off), **FAST).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("fusion", ["gated", "film"])
def test_dropping_changes_training_under_fusions_that_are_not_sums(fusion, data):
    X, y = data[0][:, 3:], data[1]
    settings = FAST | {"fusion": fusion, "lr": 0.1}
    clf = JointClassifier(PAIR, balancer=OPM(0.9, p_exe=1.0, starts=0), **settings).fit(X, y)
    plain = JointClassifier(PAIR, **settings).fit(X, y)
    assert not np.allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-3)


def test_results_are_reproducible_and_independent_of_the_order_of_modalities(with_absent):
    X, y = with_absent
    fits = [
        JointClassifier(groups, balancer=OPM(starts=0), **FAST).fit(X, y).predict_proba(X)
        for groups in (GROUPS, GROUPS, dict(reversed(GROUPS.items())))
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_allclose(fits[0], fits[2], atol=1e-5)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"q_base": 1.5}, "q_base=1.5 must be at least 0 and at most 1"),
        ({"alpha": -1}, "alpha=-1 must be at least 0"),
        ({"p_exe": -0.1}, "p_exe=-0.1 must be at least 0 and at most 1"),
        ({"starts": 1.5}, "starts=1.5 must be an integer"),
    ],
)
def test_invalid_parameters_are_named_in_the_error(parameters, message, data):
    with pytest.raises((TypeError, ValueError), match=message):
        JointClassifier(GROUPS, balancer=OPM(**parameters), **FAST).fit(*data)
