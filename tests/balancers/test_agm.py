"""AGM: contributions, coefficients and gradients against the published formulas on muted inputs."""

import itertools
import math

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from mmestim import JointClassifier
from mmestim._networks.fusion_heads import ConcatHead, FilmHead, GatedHead, SumHead
from mmestim.balancers import AGM
from mmestim.balancers.agm import contributions

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
ONE_BATCH = FAST | {"batch_size": 96}


@pytest.fixture(scope="module")
def data(make_data):
    """Return three modalities far from zero, each more informative than the one before."""
    X, y = make_data(scales=(0.5, 1.0, 4.0), n_columns=3)
    return X + 3, y


# Contributions -------------------------------------------------------------------------------------


def in_all_orders(head, features, muted, present):
    """Return contributions as means over all orders in which a row's modalities can be added."""
    names = list(features)
    rows = []
    for i in range(present.shape[1]):
        row_modalities = [m for m in range(len(names)) if present[m, i]]

        def value(joined, i=i, row_modalities=row_modalities):
            z = {}
            for m, name in enumerate(names):
                replacement = muted[name][0] if m in row_modalities else torch.zeros_like(muted[name][0])
                z[name] = (features[name][i] if m in joined else replacement).unsqueeze(0)
            return head.fuse(z)[0]

        parts = torch.stack(
            [value(()) / len(row_modalities) if m in row_modalities else 0 * value(()) for m in range(len(names))]
        )
        orders = list(itertools.permutations(row_modalities))
        for order in orders:
            for k, m in enumerate(order):
                parts[m] += (value(order[: k + 1]) - value(order[:k])) / len(orders)
        rows.append(parts)
    return torch.stack(rows, dim=1)


def example(n, n_rows, absent=False):
    rng = torch.Generator().manual_seed(n)
    sizes = {name: 2 + m for m, name in enumerate("abcdef"[:n])}
    present = torch.ones(n, n_rows, dtype=torch.bool)
    if absent:
        present = torch.rand(n, n_rows, generator=rng) < 0.6
        present[0] |= ~present.any(0)
    features = {
        name: torch.randn(n_rows, size, generator=rng) * present[m].unsqueeze(1)
        for m, (name, size) in enumerate(sizes.items())
    }
    return sizes, features, {name: torch.randn(1, size, generator=rng) for name, size in sizes.items()}, present


class NoSum(ConcatHead):
    """Fusion head for any number of modalities that is not a sum."""

    is_sum = False

    def fuse(self, features):
        return torch.tanh(super().fuse(features))


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("kind", [ConcatHead, SumHead, NoSum])
def test_contributions_are_shapley_values_plus_an_equal_part_of_the_muted_logits(kind, n, absent):
    sizes, features, muted, present = example(n, 5, absent)
    head = kind(sizes, 3)
    with torch.no_grad():
        parts = contributions(head, features, muted, present)
        torch.testing.assert_close(parts, in_all_orders(head, features, muted, present), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(parts.sum(0), head.fuse(features), rtol=1e-4, atol=1e-5)


def test_contributions_over_all_subsets_equal_those_of_a_sum():
    sizes, features, muted, present = example(6, 4)
    head = ConcatHead(sizes, 3)
    short = contributions(head, features, muted, present)
    head.is_sum = False
    torch.testing.assert_close(contributions(head, features, muted, present), short, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [GatedHead, FilmHead])
def test_contributions_of_two_modalities_match_the_published_formula(kind):
    sizes, z, z0, present = example(2, 4)
    head = kind(sizes, 3, "a", "b")
    total = head.fuse(z)
    pad_a, pad_b = (head.fuse(z | {name: z0[name].expand(4, -1)}) for name in "ab")
    expected = torch.stack([0.5 * (total - pad_a + pad_b), 0.5 * (total - pad_b + pad_a)])
    torch.testing.assert_close(contributions(head, z, z0, present), expected)


def test_contributions_of_three_modalities_match_the_published_formula():
    sizes, z, z0, present = example(3, 4)
    head = NoSum(sizes, 3)

    def pad(*names):
        return head.fuse(z | {name: z0[name].expand(4, -1) for name in names})

    a = (pad() - pad("a") + pad("b", "c")) / 3 + (pad("b") - pad("a", "c") + pad("c") - pad("a", "b")) / 6
    torch.testing.assert_close(contributions(head, z, z0, present)[0], a)


# Coefficients --------------------------------------------------------------------------------------


class Spy(AGM):
    """AGM that records the logits of muted inputs and the gradients of every step."""

    def begin(self, training):
        super().begin(training)
        self.steps_ = []

    def loss(self, training, outputs):
        module, batch = training.module, outputs.batch
        module.eval()
        with torch.no_grad():
            self.steps_.append(
                {
                    "y": batch.y,
                    "values": {
                        muted: module(
                            batch._replace(
                                x={
                                    name: self._zero(module, name, x) if name in muted else x
                                    for name, x in batch.x.items()
                                }
                            )
                        )[0]
                        for n in range(len(batch.x) + 1)
                        for muted in itertools.combinations(batch.x, n)
                    },
                }
            )
        module.train()
        plain = training.joint_loss(outputs)
        parameters = [p for name in training.names for p in training.parameters[name]]
        self.steps_[-1]["plain"] = torch.autograd.grad(plain, parameters, retain_graph=True)
        loss = super().loss(training, outputs)
        assert torch.equal(loss, plain)
        return loss

    @staticmethod
    def _zero(module, name, x):
        """Return an input that is zero after the standardisation of built-in encoders."""
        encoder = module.branch(name).encoder
        return (encoder.standardize.mean if hasattr(encoder, "standardize") else 0) + 0 * x

    def after_backward(self, training, outputs):
        parameters = [p for name in training.names for p in training.parameters[name]]
        self.steps_[-1]["gradient"] = [p.grad.clone() for p in parameters]
        self.steps_[-1]["sizes"] = [len(training.parameters[name]) for name in training.names]

    def end(self):
        pass


def published(steps, alpha, cap):
    """Return the coefficients of two modalities from the second step on, computed as in the released code."""
    level, coefficients = None, []
    for t, step in enumerate(steps):
        v, rows = step["values"], range(len(step["y"]))
        parts = [0.5 * (v[()] - v["audio",] + v["image",]), 0.5 * (v[()] - v["image",] + v["audio",])]
        c = []
        for part in parts:
            shares = torch.softmax(part, dim=1)[rows, step["y"]].tolist()
            c.append(sum(-math.log(max(share, 1e-8)) for share in shares) / len(shares))
        if level is not None:
            ratios = [math.exp(c[1] - c[0]), math.exp(c[0] - c[1])]
            running = [math.exp(level[1] - level[0]), math.exp(level[0] - level[1])]
            gaps = [min(a - b, cap) for a, b in zip(running, ratios, strict=True)]
            coefficients.append([math.exp(alpha * gap) for gap in gaps])
        level = [((level or c)[m] * t + c[m]) / (t + 1) for m in range(2)]
    return np.array(coefficients)


@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
@pytest.mark.parametrize("encoder", ["mlp", "custom"])
def test_coefficients_of_two_modalities_match_the_released_code(encoder, fusion, data):
    X, y = data[0][:, 3:], data[1]
    if encoder == "custom":
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 8))
    settings = ONE_BATCH | {"encoder": encoder, "fusion": fusion, "lr": 0.3, "max_epochs": 6}
    clf = JointClassifier(PAIR, balancer=Spy(20.0, cap=0.005), **settings).fit(X, y)
    expected = published(clf.balancers_[0].steps_, 20.0, 0.005)
    coefficients = clf.balance_history_[0]["coefficient"]
    assert expected.min() < 0.95
    assert expected.max() == pytest.approx(math.exp(0.1))  # the cap
    np.testing.assert_allclose(coefficients[0], 1)
    np.testing.assert_allclose(coefficients[1:], expected, rtol=1e-4)


@pytest.mark.parametrize("groups", [PAIR, GROUPS])
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_coefficients_multiply_encoder_gradients_under_a_sum(fusion, groups, data):
    X, y = data[0][:, -3 * len(groups) :], data[1]
    settings = ONE_BATCH | {"fusion": fusion, "lr": 0.1, "max_epochs": 4}
    clf = JointClassifier(groups, balancer=Spy(10.0), **settings).fit(X, y)
    assert np.abs(clf.balance_history_[0]["coefficient"][1:] - 1).max() > 0.05
    for step, coefficients in zip(clf.balancers_[0].steps_, clf.balance_history_[0]["coefficient"], strict=True):
        factors = np.repeat(coefficients, step["sizes"])
        for gradient, plain, factor in zip(step["gradient"], step["plain"], factors, strict=True):
            torch.testing.assert_close(gradient, float(factor) * plain, rtol=1e-4, atol=1e-7)


def test_coefficients_multiply_gradients_of_contributions_under_other_fusions(data):
    X, y = data[0][:, 3:], data[1]
    records = []

    class GradientSpy(AGM):
        def loss(self, training, outputs):
            if training.epoch < 3:
                return super().loss(training, outputs)
            loss = super().loss(training, outputs)
            z, head = outputs.features, training.module.fusion_head
            with torch.no_grad():
                z0 = {n: training.module.branch(n).encoder(self.zero(training, n)) for n in training.names}
            total, no_a, no_b = (
                head.fuse(z | {name: z0[name].expand_as(z[name]) for name in gone})
                for gone in ((), ("audio",), ("image",))
            )
            parts = [0.5 * (total - no_a + no_b), 0.5 * (total - no_b + no_a)]
            k = self.coefficients
            logits = sum(c * part + (1 - c) * part.detach() for c, part in zip(k, parts, strict=True))
            expected = nn.functional.cross_entropy(logits, outputs.batch.y)
            parameters = list(training.module.parameters())
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
            records.append((gradients, torch.autograd.grad(expected, parameters, retain_graph=True), k))
            return loss

        @staticmethod
        def zero(training, name):
            return training.module.branch(name).encoder.standardize.mean.unsqueeze(0)

        def _coefficients(self, training, outputs, parts):
            self.coefficients = super()._coefficients(training, outputs, parts)
            return self.coefficients

        def end(self):
            pass

    settings = ONE_BATCH | {"fusion": "gated", "lr": 0.2, "max_epochs": 5}
    JointClassifier(PAIR, balancer=GradientSpy(5.0), **settings).fit(X, y)
    for gradients, expected, k in records:
        assert (k - 1).abs().max() > 0.01
        for a, b in zip(gradients, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert len(records) == 2


class ScaleText(Callback):
    """Callback that scales the text's part of the logits from the fifth epoch on."""

    def __init__(self, factor):
        self.factor = factor

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 4:
            with torch.no_grad():
                net.module_.fusion_head.linear.weight[:, 16:] *= self.factor


def test_growing_leads_shrink_gradients_and_steady_leads_do_not(data):
    X, y = data
    trained = JointClassifier(GROUPS, **FAST | {"max_epochs": 30, "lr": 0.1, "encoder": "mlp"}).fit(X, y)
    still = ONE_BATCH | {"max_epochs": 6, "lr": 1e-12, "weight_decay": 0.0}
    encoders = {name: trained.module_.branch(name).encoder for name in GROUPS}

    class Start(Callback):
        def on_train_begin(self, net, **kwargs):
            net.module_.load_state_dict(trained.module_.state_dict())
            with torch.no_grad():  # so that the lead can still grow
                net.module_.fusion_head.linear.weight[:, 16:] *= 0.1

    settings = still | {"encoder": encoders}
    for factor, change in ((1.0, 0), (3.0, -1), (0.1, 1)):
        callbacks = [Start(), ScaleText(factor)]
        clf = JointClassifier(GROUPS, balancer=AGM(), **settings, callbacks=callbacks).fit(X, y)
        history = clf.balance_history_[0]
        assert history["lead"][0].argmax() == 2
        assert history["lead"][0, 2] > 0.2
        np.testing.assert_allclose(history["coefficient"][:4], 1, atol=1e-4)  # the lead is steady
        later = history["coefficient"][4]
        if change == 0:
            np.testing.assert_allclose(later, 1, atol=1e-4)
        else:
            assert (history["lead"][4, 2] - history["lead"][3, 2]) * change < -0.1
            assert (later[2] - 1) * change > 0.1
            assert ((later[:2] - 1) * change < 0).all()


def test_levels_are_means_over_the_batches_with_comparable_rows(with_absent):
    X, y = with_absent
    X = X.copy()
    X[:, :3] = np.where(np.arange(96)[:, None] < 3, X[:, :3], np.nan)  # all audio but row 1 is absent
    X[:, 3:6] = np.where(np.isnan(X[:, 3:6]), 0, X[:, 3:6])
    X[1, :3] = 1
    clf = JointClassifier(GROUPS, balancer=AGM(), **FAST | {"batch_size": 8}).fit(X, y)
    n = clf.balancers_[0].n_batches_
    assert n[0] < n[1] == n[2] == 36
    lead = clf.balance_history_[0]["lead"]
    np.testing.assert_allclose(clf.balancers_[0].lead_[1:], lead.mean(axis=0)[1:], atol=1e-5)
    if n[0]:
        np.testing.assert_allclose(clf.balancers_[0].lead_[0], lead[:, 0].sum() * 12 / n[0], atol=1e-5)
    assert np.isfinite(clf.predict_proba(X)).all()


# Everything else -----------------------------------------------------------------------------------


def test_zero_alpha_is_plain_training(with_absent):
    X, y = with_absent
    plain = JointClassifier(GROUPS, unimodal_weight=0.5, **FAST).fit(X, y)
    clf = JointClassifier(GROUPS, unimodal_weight=0.5, balancer=AGM(0), **FAST).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))
    on = JointClassifier(GROUPS, balancer=AGM(3.0), **FAST | {"lr": 0.1, "max_epochs": 6}).fit(X, y)
    assert np.abs(on.balance_history_[0]["coefficient"] - 1).max() > 0.02


def test_muted_inputs_do_not_change_the_encoders(data):
    """Batch normalisation ignores the zero input and stays in training mode."""
    X, y = data
    encoder = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2))
    fits = [
        JointClassifier(GROUPS, encoder=encoder, balancer=balancer, **FAST).fit(X, y) for balancer in (None, AGM(0))
    ]
    np.testing.assert_array_equal(*(clf.predict_proba(X) for clf in fits))


def test_the_head_is_modulated_if_encoders_have_no_parameters(data):
    X, y = data[0] - 3, data[1]
    settings = ONE_BATCH | {"encoder": nn.Identity(), "lr": 0.3, "max_epochs": 6}
    plain = JointClassifier(GROUPS, **settings).fit(X, y)
    clf = JointClassifier(GROUPS, balancer=AGM(3.0), **settings).fit(X, y)
    assert not np.allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-3)


def test_results_are_independent_of_the_order_of_modalities_and_images_are_accepted(with_absent):
    X, y = with_absent
    fits = [
        JointClassifier(groups, balancer=AGM(), **FAST | {"lr": 0.1}).fit(X, y).predict_proba(X)
        for groups in (GROUPS, dict(reversed(GROUPS.items())))
    ]
    np.testing.assert_allclose(*fits, atol=1e-5)
    wide = {"audio": slice(0, 4), "image": slice(4, 8)}
    shaped = JointClassifier(wide, shapes={"audio": (4,), "image": (1, 2, 2)}, balancer=AGM(), **FAST)
    assert np.isfinite(shaped.fit(np.nan_to_num(X[:, :8]), y).predict_proba(np.nan_to_num(X[:, :8]))).all()


@pytest.mark.parametrize("parameters", [{"alpha": -1}, {"cap": -1}])
def test_invalid_parameters_are_named_in_the_error(parameters, data):
    ((name, value),) = parameters.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be at least 0"):
        JointClassifier(GROUPS, balancer=AGM(**parameters), **FAST).fit(*data)
