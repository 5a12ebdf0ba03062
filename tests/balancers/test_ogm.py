"""OGM: coefficients, gradients and noise against numpy."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from torch import nn

from mmestim import JointClassifier
from mmestim.balancers import OGM

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
    return make_data(scales=(0.5, 1.0, 4.0), n_columns=3)


class Spy(OGM):
    """OGM that records logits, and gradients before and after modulation, of the first step."""

    def after_backward(self, training, outputs):
        first = not hasattr(self, "seen_")
        if first:
            self.names_ = [f"{m}.{n}" for m in training.names for n, _ in self._named(training, m)]
            before = [p.grad.clone() for m in training.names for _, p in self._named(training, m)]
            head = training.module.fusion_head.linear
            parts = head.weight.detach().split(8, dim=1)
            self.logits_ = {
                m: (f @ w.T + head.bias / len(parts)).detach()
                for (m, f), w in zip(outputs.features.items(), parts, strict=True)
            }
            self.y_ = outputs.batch.y
        super().after_backward(training, outputs)
        if first:
            after = [p.grad.clone() for m in training.names for _, p in self._named(training, m)]
            self.seen_ = list(zip(before, after, strict=True))

    @staticmethod
    def _named(training, modality):
        return list(training.module.branch(modality).encoder.named_parameters())


@pytest.mark.parametrize("modalities", [PAIR, GROUPS])
def test_gradients_are_scaled_by_the_coefficients(modalities, data):
    X, y = data[0][:, : 3 * len(modalities)], data[1]
    settings = FAST | {"max_epochs": 1, "batch_size": 96}
    spy = JointClassifier(modalities, balancer=Spy(alpha=0.7, enhance=False), **settings).fit(X, y).balancers_[0]
    sums = [sum(softmax(z, axis=1)[i, c] for i, c in enumerate(spy.y_)) for z in spy.logits_.values()]
    factors = {}
    for m, (name, score_sum) in enumerate(zip(sorted(modalities), sums, strict=True)):
        ratio = score_sum / np.mean(sums[:m] + sums[m + 1 :])
        factors[name] = 1 - math.tanh(0.7 * ratio) if ratio > 1 else 1.0
    assert min(factors.values()) < 1 == max(factors.values())
    for label, (before, after) in zip(spy.names_, spy.seen_, strict=True):
        factor = factors[label.split(".")[0]] if before.ndim >= 2 else 1.0
        np.testing.assert_allclose(after, factor * before, rtol=1e-5, atol=1e-8)


def test_convolutions_of_any_rank_are_scaled(data):
    X = np.hstack([data[0]] * 2).astype(np.float32)  # 18 columns
    wide = {"audio": slice(0, 9), "image": slice(9, 18)}
    clf = JointClassifier(wide, balancer=Spy(enhance=False), shapes={"audio": (9,), "image": (3, 3)}, **FAST)
    spy = clf.fit(X, data[1]).balancers_[0]
    ndims = {before.ndim for before, _ in spy.seen_}
    assert ndims == {1, 2, 3, 4}
    slowest = min(range(2), key=lambda m: clf.balance_history_[0]["coefficient"][:, m].mean())
    name = sorted(wide)[slowest]
    pairs = [pair for label, pair in zip(spy.names_, spy.seen_, strict=True) if label.startswith(name)]
    assert {before.ndim for before, after in pairs if not np.array_equal(before, after)} <= {2, 3, 4}


def test_noise_has_the_standard_deviation_of_the_unscaled_gradient(data):
    """Wide layers estimate the standard deviation well."""
    X, y = data
    settings = FAST | {"max_epochs": 1, "batch_size": 96, "embedding_dim": 64, "encoder": "mlp"}

    class Wide(Spy):
        def after_backward(self, training, outputs):
            self.before_ = {m: [p.grad.clone() for p in training.parameters[m]] for m in training.names}
            OGM.after_backward(self, training, outputs)
            self.after_ = {m: [p.grad.clone() for p in training.parameters[m]] for m in training.names}

    plain, noisy = (
        JointClassifier(GROUPS, balancer=Wide(enhance=e), **settings).fit(X, y).balancers_[0] for e in (False, True)
    )
    draws = []
    for name in GROUPS:
        for before, scaled, moved in zip(noisy.before_[name], plain.after_[name], noisy.after_[name], strict=True):
            if before.ndim < 2:
                np.testing.assert_array_equal(moved, before)
                continue
            noise = moved - scaled
            assert np.std(noise) == pytest.approx(np.std(before), rel=0.15)
            assert abs(np.mean(noise)) < 0.2 * np.std(before)
            draws.append(noise.ravel()[:300] / np.std(before))
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.3  # the noise of different tensors is independent


def test_zero_alpha_without_noise_is_plain_training(with_absent):
    X, y = with_absent
    plain = JointClassifier(GROUPS, **FAST).fit(X, y)
    off = JointClassifier(GROUPS, balancer=OGM(alpha=0, enhance=False), **FAST).fit(X, y)
    late = JointClassifier(GROUPS, balancer=OGM(starts=3), **FAST).fit(X, y)
    np.testing.assert_array_equal(off.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(late.predict_proba(X), plain.predict_proba(X))
    assert (off.balance_history_[0]["coefficient"] == 1).all()
    assert (late.balance_history_[0]["coefficient"] == 1).all()  # recorded in epochs without modulation as well


def test_gradients_are_modulated_from_starts_to_ends(data):
    clf = JointClassifier(GROUPS, balancer=OGM(starts=1, ends=1), **FAST).fit(*data)
    shown = np.isfinite(clf.balance_history_[0]["ratio"]).all(axis=1)
    assert shown.tolist() == [False, True, False]
    assert (clf.balance_history_[0]["coefficient"][[0, 2]] == 1).all()
    with pytest.raises(ValueError, match="ends=1 must be at least 2"):
        JointClassifier(GROUPS, balancer=OGM(starts=2, ends=1), **FAST).fit(*data)


def test_the_leading_modality_learns_more_slowly(data):
    clf = JointClassifier(GROUPS, balancer=OGM(enhance=False), **FAST | {"max_epochs": 12, "lr": 0.1}).fit(*data)
    coefficient, ratio = (clf.balance_history_[0][key][-1] for key in ("coefficient", "ratio"))
    assert ratio.argmax() == coefficient.argmin() == 2  # text
    assert coefficient[2] < 0.5
    assert coefficient[0] > 0.9


@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_encoders_may_have_no_or_one_parameter(fusion, data):
    X, y = data[0][:, :4], data[1]
    encoder = {"audio": nn.Identity(), "image": nn.Linear(1, 1)}
    groups = {"audio": slice(0, 3), "image": slice(3, 4)}
    clf = JointClassifier(groups, fusion=fusion, encoder=encoder, balancer=OGM(), **FAST).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()


def test_results_are_reproducible_and_independent_of_the_order_of_modalities(with_absent):
    X, y = with_absent
    fits = [
        JointClassifier(groups, balancer=OGM(), **FAST).fit(X, y).predict_proba(X)
        for groups in (GROUPS, GROUPS, dict(reversed(GROUPS.items())))
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_allclose(fits[0], fits[2], atol=1e-5)
    off = JointClassifier(GROUPS, balancer=OGM(enhance=False), **FAST).fit(X, y)
    assert not np.allclose(fits[0], off.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"alpha": -1}, "alpha=-1 must be at least 0"),
        ({"enhance": 2}, "enhance=2 must be True or False"),
        ({"starts": 0.5}, "starts=0.5 must be an integer"),
        ({"ends": -1}, "ends=-1 must be at least 0"),
    ],
)
def test_invalid_parameters_are_named_in_the_error(parameters, message, data):
    with pytest.raises((TypeError, ValueError), match=message):
        JointClassifier(GROUPS, balancer=OGM(**parameters), **FAST).fit(*data)
