"""OGM: coefficients, gradients and noise against numpy."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from mmestim import JointClassifier
from mmestim._data.batches import Batch
from mmestim.balancers import OGM
from mmestim.balancers._base import Outputs
from mmestim.balancers.ogm import score_ratios

PAIR = {"audio": slice(0, 3), "image": slice(3, 6)}
GROUPS = {"audio": slice(0, 3), "image": slice(3, 6), "text": slice(6, 9)}
FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu", "early_stopping": False, "embedding_dim": 8}


@pytest.fixture(scope="module")
def data(make_data):
    return make_data(scales=(0.5, 1.0, 4.0), n_columns=3)


def stub(logits, y, absent=(), weight=None):
    """Outputs with given logits by modality; `absent` has a pair of modality and row each."""
    size = len(y)
    have = {name: [row for row in range(size) if (name, row) not in absent] for name in logits}
    x = {name: torch.zeros(len(rows), 1) for name, rows in have.items()}
    present = {name: torch.tensor(rows, dtype=torch.long) for name, rows in have.items() if len(rows) < size}
    batch = Batch(x, present, size, torch.tensor(y), None if weight is None else torch.tensor(weight))
    training = SimpleNamespace(unimodal_logits=lambda features: features)
    return Outputs(training, batch, (None, {name: torch.tensor(z) for name, z in logits.items()}))


def log_shares(*rows):
    return np.log(np.array(rows, dtype=np.float32))


def test_two_modalities_by_hand():
    # True-class scores: .6 + .8 = 1.4 against .2 + .5 = 0.7.
    outputs = stub({"a": log_shares([0.6, 0.4], [0.2, 0.8]), "v": log_shares([0.2, 0.8], [0.5, 0.5])}, [0, 1])
    torch.testing.assert_close(score_ratios(outputs), torch.tensor([2.0, 0.5]))


def test_more_than_two_are_compared_with_the_mean_of_the_others():
    shares = {"a": [[0.6, 0.4]], "t": [[0.3, 0.7]], "v": [[0.1, 0.9]]}
    outputs = stub({name: log_shares(*rows) for name, rows in shares.items()}, [0])
    torch.testing.assert_close(score_ratios(outputs), torch.tensor([0.6 / 0.2, 0.3 / 0.35, 0.1 / 0.45]))


def test_rows_count_where_two_modalities_are_and_by_their_weight():
    logits = {
        "a": log_shares([0.6, 0.4], [0.8, 0.2], [0.9, 0.1]),
        "t": log_shares([0.3, 0.7], [0.4, 0.6], [0.2, 0.8]),
        "v": log_shares([0.1, 0.9], [0.7, 0.3], [0.5, 0.5]),
    }
    absent = {("v", 1), ("a", 2), ("t", 2)}
    outputs = stub(logits, [0, 0, 0], absent, weight=[1.0, 2.0, 1.0])
    expected = [(0.6 + 2 * 0.8) / (0.2 + 2 * 0.4), (0.3 + 2 * 0.4) / (0.35 + 2 * 0.8), 0.1 / 0.45]
    torch.testing.assert_close(score_ratios(outputs), torch.tensor(expected))
    alone = stub({name: z[2:] for name, z in logits.items()}, [0], {("a", 0), ("t", 0)})
    assert score_ratios(alone).tolist() == [1, 1, 1]


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
    spy = JointClassifier(modalities, balancer=Spy(alpha=0.7, enhance=False), **settings).fit(X, y).balancer_
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
    spy = clf.fit(X, data[1]).balancer_
    ndims = {before.ndim for before, _ in spy.seen_}
    assert ndims == {1, 2, 3, 4}
    slowest = min(range(2), key=lambda m: clf.balance_history_["coefficient"][:, m].mean())
    name = sorted(wide)[slowest]
    pairs = [pair for label, pair in zip(spy.names_, spy.seen_, strict=True) if label.startswith(name)]
    assert {before.ndim for before, after in pairs if not np.array_equal(before, after)} <= {2, 3, 4}


def test_noise_has_the_standard_deviation_of_the_unscaled_gradient(data):
    """Wide layers estimate the standard deviation well."""
    X, y = data
    settings = FAST | {"max_epochs": 1, "batch_size": 96, "embedding_dim": 64}

    class Wide(Spy):
        def after_backward(self, training, outputs):
            self.before_ = {m: [p.grad.clone() for p in training.parameters[m]] for m in training.names}
            OGM.after_backward(self, training, outputs)
            self.after_ = {m: [p.grad.clone() for p in training.parameters[m]] for m in training.names}

    plain, noisy = (
        JointClassifier(GROUPS, balancer=Wide(enhance=e), **settings).fit(X, y).balancer_ for e in (False, True)
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
    assert (off.balance_history_["coefficient"] == 1).all()
    assert (late.balance_history_["coefficient"] == 1).all()  # recorded in epochs without modulation as well


def test_gradients_are_modulated_from_starts_to_ends(data):
    clf = JointClassifier(GROUPS, balancer=OGM(starts=1, ends=1), **FAST).fit(*data)
    shown = np.isfinite(clf.balance_history_["ratio"]).all(axis=1)
    assert shown.tolist() == [False, True, False]
    assert (clf.balance_history_["coefficient"][[0, 2]] == 1).all()
    with pytest.raises(ValueError, match="ends=1 must be at least 2"):
        JointClassifier(GROUPS, balancer=OGM(starts=2, ends=1), **FAST).fit(*data)


def test_the_leading_modality_learns_more_slowly(data):
    clf = JointClassifier(GROUPS, balancer=OGM(enhance=False), **FAST | {"max_epochs": 12, "lr": 0.1}).fit(*data)
    coefficient, ratio = (clf.balance_history_[key][-1] for key in ("coefficient", "ratio"))
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
