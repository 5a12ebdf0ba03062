"""ModalityDropout: how often modalities are dropped, and the loss of the remaining features."""

import numpy as np
import pytest
from scipy.special import log_softmax

from mmestim import JointClassifier
from mmestim.balancers import ModalityDropout, Training, modality_dropout

PAIR = {"audio": slice(0, 3), "image": slice(3, 6)}
GROUPS = {"audio": slice(0, 3), "image": slice(3, 6), "text": slice(6, 9)}
FAST = {
    "cv": None,
    "optimizer": "sgd",
    "encoder": "mlp",
    "max_epochs": 3,
    "random_state": 0,
    "device": "cpu",
    "early_stopping": False,
    "embedding_dim": 8,
}


@pytest.fixture(scope="module")
def data(make_data):
    return make_data(120, scales=(2.0, 2.0, 2.0), n_columns=3)


@pytest.fixture
def steps(monkeypatch):
    """Return a list that collects kept modalities and losses of every training step."""
    recorded_steps, fuse, joint_loss = [], modality_dropout.fuse, Training.joint_loss

    def spy_fuse(training, outputs, is_kept):
        logits = fuse(training, outputs, is_kept)
        linear = training.module.fusion_head.linear
        features = {name: f.detach().numpy() for name, f in outputs.features.items()}
        z = np.concatenate([f * k[:, None] for f, k in zip(features.values(), is_kept.numpy(), strict=True)], axis=1)
        shares = log_softmax(z @ linear.weight.detach().numpy().T + linear.bias.detach().numpy(), axis=1)
        losses = -shares[range(len(z)), outputs.batch.y]
        weight = 1 if outputs.batch.weight is None else outputs.batch.weight.numpy()
        recorded_steps.append(
            {"kept": is_kept.numpy(), "present": outputs.present.numpy(), "expected": np.mean(weight * losses)}
        )
        return logits

    def spy_loss(self, outputs):
        loss = joint_loss(self, outputs)
        if recorded_steps:
            recorded_steps[-1]["loss"] = loss.item()
        return loss

    monkeypatch.setattr(modality_dropout, "fuse", spy_fuse)
    monkeypatch.setattr(Training, "joint_loss", spy_loss)
    return recorded_steps


def test_loss_uses_the_remaining_features(steps, with_absent):
    X, y = with_absent
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    JointClassifier(GROUPS, balancer=ModalityDropout(0.5), **FAST).fit(X, y, weight)
    assert len(steps) == 6
    for step in steps:
        assert step["kept"].any(axis=0).all()
        assert not (step["kept"] & ~step["present"]).any()
        assert step["loss"] == pytest.approx(step["expected"], rel=1e-4)


@pytest.mark.parametrize("p", [0.25, 0.7, 1.0])
def test_drop_frequencies_match_the_formula(p, steps, with_absent):
    X, y = with_absent
    settings = FAST | {"max_epochs": 40, "embedding_dim": 2, "batch_size": 120}
    clf = JointClassifier(GROUPS, balancer=ModalityDropout(p), **settings).fit(X, y)
    is_kept, present = (np.concatenate([step[key] for step in steps], axis=1) for key in ("kept", "present"))
    history = np.zeros(3)
    for n in (1, 2, 3):
        rows = present.sum(axis=0) == n
        lost = (present & ~is_kept)[:, rows].sum(axis=1) / present[:, rows].sum(axis=1).clip(1)
        trials = present[:, rows].sum(axis=1)
        expected = (p - p**n / n) * (trials > 0)
        np.testing.assert_allclose(lost, expected, atol=2 / np.sqrt(trials.max()) if n > 1 else 1e-9)
        history += lost * trials
    assert set(present.sum(axis=0)) == {1, 2, 3}
    np.testing.assert_allclose(
        clf.balance_history_[0]["dropped"].mean(axis=0), history / present.sum(axis=1), atol=1e-5
    )
    if p == 1:
        assert (is_kept.sum(axis=0) == 1).all()


def test_rows_and_modalities_are_dropped_independently(steps, data):
    settings = FAST | {"max_epochs": 20, "embedding_dim": 2, "batch_size": 120}
    JointClassifier(GROUPS, balancer=ModalityDropout(0.2), **settings).fit(*data)
    is_kept = np.concatenate([step["kept"] for step in steps], axis=1)
    lost_both = ~is_kept[0] & ~is_kept[1]
    assert lost_both.mean() == pytest.approx(0.2**2 - 0.2**3 / 3, abs=0.015)
    assert len({step["kept"].tobytes() for step in steps}) == len(steps)


def test_zero_probability_is_plain_training(with_absent):
    X, y = with_absent
    plain = JointClassifier(GROUPS, unimodal_weight=0.5, **FAST).fit(X, y)
    clf = JointClassifier(GROUPS, unimodal_weight=0.5, balancer=ModalityDropout(0), **FAST).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-6)
    assert (clf.balance_history_[0]["dropped"] == 0).all()


def test_a_weak_modality_predicts_better_alone(data):
    """Dropout makes the network learn a weak modality although a strong one is present."""
    X, y = data
    X = np.hstack([X[:, :3], 4 * np.eye(3, dtype=np.float32)[y]])
    settings = FAST | {"max_epochs": 25, "lr": 0.05}

    def alone(balancer):
        clf = JointClassifier(PAIR, balancer=balancer, **settings).fit(X, y)
        return np.log(clf.predict_proba_per_modality(X)["audio"][range(len(y)), y]).mean()

    assert alone(ModalityDropout(0.5)) > alone(None) + 0.1


@pytest.mark.parametrize("fusion", ["gated", "film"])
def test_dropout_changes_training_under_fusions_that_are_not_sums(fusion, data):
    X, y = data[0][:, :6], data[1]
    settings = FAST | {"fusion": fusion, "lr": 0.1}
    plain = JointClassifier(PAIR, **settings).fit(X, y)
    clf = JointClassifier(PAIR, balancer=ModalityDropout(0.5), **settings).fit(X, y)
    assert not np.allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-3)
    assert not clf.module_.unimodal_heads


def test_results_are_reproducible_and_independent_of_the_order_of_modalities(with_absent):
    X, y = with_absent
    fits = [
        JointClassifier(groups, balancer=ModalityDropout(), **FAST).fit(X, y).predict_proba(X)
        for groups in (GROUPS, GROUPS, dict(reversed(GROUPS.items())))
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_allclose(fits[0], fits[2], atol=1e-5)


def test_an_invalid_parameter_is_named_in_the_error(data):
    with pytest.raises(ValueError, match=r"p=1\.1 must be at least 0 and at most 1"):
        JointClassifier(GROUPS, balancer=ModalityDropout(1.1), **FAST).fit(*data)
