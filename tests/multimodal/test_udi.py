"""UDIClassifier: the anchor, guided followers, and equality with late fusion without guidance."""

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import LateFusionClassifier, UDIClassifier
from mmestim._data.folds import PADDING
from mmestim._networks.multimodal_networks import fuse
from mmestim._training.net import Net
from mmestim.multimodal._objectives.guidance import FrozenBranches, Guidance

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"optimizer": "sgd", "max_epochs": 5, "random_state": 0, "device": "cpu"}
# One network per branch, fused as in the paper.
SINGLE = FAST | {"cv": None, "fusion": "sum"}


def parameters(branch):
    return [p.detach().clone() for p in branch.parameters()]


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("guidance", [None, (0, 0), (0.0, 0.0)])
def test_without_guidance_equals_late_fusion(guidance, cv, data):
    X, y = data
    late = LateFusionClassifier(GROUPS, cv=cv, **FAST).fit(X, y)
    udi = UDIClassifier(GROUPS, cv=cv, guidance=guidance, **FAST).fit(X, y)
    np.testing.assert_array_equal(udi.predict_proba(X), late.predict_proba(X))


def test_strongest_modality_is_the_anchor_and_followers_are_ordered(data):
    clf = UDIClassifier(GROUPS, **FAST).fit(*data)
    scores = clf.branch_scores_
    assert clf.anchor_ == clf.order_[0] == "text" == max(scores, key=scores.get)
    assert list(clf.guidance_history_) == clf.order_[1:]
    assert [scores[name] for name in clf.order_[1:]] == sorted((scores[n] for n in clf.order_[1:]), reverse=True)
    guided = {row["modality"] for row in clf.history_ if row["stage"] == "guided"}
    assert guided == {"audio", "image"}


def test_anchor_can_be_named(data):
    clf = UDIClassifier(GROUPS, anchor="audio", **FAST).fit(*data)
    assert clf.order_[0] == clf.anchor_ == "audio"


def test_lowest_entropy_breaks_ties_between_anchors(data):
    X, y = data
    settings = SINGLE | {"early_stopping": False}
    clf = UDIClassifier(GROUPS, anchor_tolerance=1.0, **settings).fit(X, y)
    alone = LateFusionClassifier(GROUPS, **settings).fit(X, y).predict_proba_per_modality(X)
    entropy = {name: -(p * np.log(p)).sum(1).mean() for name, p in alone.items()}
    assert clf.anchor_ == min(entropy, key=entropy.get)
    scores = {name: (p.argmax(1) == y).mean() for name, p in alone.items()}
    assert clf.branch_scores_ == pytest.approx(scores)


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("guidance", ["validated", "dynamic", "aligned", (1.0, 0.0), (0.0, 0.01)])
def test_guidance_changes_followers_and_not_the_anchor(guidance, cv, data):
    X, y = data
    late = LateFusionClassifier(GROUPS, cv=cv, **FAST).fit(X, y)
    udi = UDIClassifier(GROUPS, cv=cv, guidance=guidance, **FAST).fit(X, y)
    for before, after in zip(
        parameters(late.module_.branch("text")), parameters(udi.module_.branch("text")), strict=True
    ):
        assert torch.equal(before, after)
    guided = parameters(udi.module_.branch("image"))[0]
    assert not torch.equal(parameters(late.module_.branch("image"))[0], guided)


@pytest.mark.parametrize("guidance", ["dynamic", "aligned"])
def test_adaptive_weights_are_fractions_of_positive_alignments(guidance, data):
    history = UDIClassifier(GROUPS, guidance=guidance, **FAST).fit(*data).guidance_history_["image"]
    assert history["weights"].shape == history["alignment"].shape == (5, 2)
    assert history["gradient_norm"].shape == (5, 3)
    positive = np.maximum(history["alignment"], 0)
    expected = positive / (positive.sum(1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(history["weights"], expected, atol=1e-5)
    if guidance == "aligned":
        assert (np.abs(history["alignment"]) <= 1).all()


@pytest.mark.parametrize("cv", [None, 3])
def test_validated_weights_are_positive_cosines(cv, data):
    history = UDIClassifier(GROUPS, guidance="validated", cv=cv, **FAST).fit(*data).guidance_history_["image"]
    np.testing.assert_allclose(history["weights"], np.maximum(history["alignment"], 0), atol=1e-6)
    assert (np.abs(history["alignment"]) <= 1 + 1e-5).all()


@pytest.mark.parametrize("cv", [None, 3])
def test_validated_weights_are_judged_on_rows_that_neither_side_has_seen(cv, monkeypatch, data):
    judged = []
    original = Guidance._gradient_products

    def gradient_products(self, net, guided_rows, fused_rows):
        judged.append((guided_rows, fused_rows, net.train_rows))
        return original(self, net, guided_rows, fused_rows)

    monkeypatch.setattr(Guidance, "_gradient_products", gradient_products)
    UDIClassifier(GROUPS, guidance="validated", cv=cv, **FAST).fit(*data)
    assert judged
    for guided, fused, train in judged:
        for guided_rows, fused_rows, fold in zip(guided.tolist(), fused.tolist(), train.folds, strict=True):
            assert set(guided_rows) - {PADDING} <= set(fold.rows.tolist())
            assert not set(fused_rows) & set(fold.rows.tolist())


@pytest.mark.parametrize("rule", ["validated", "aligned", "dynamic"])
@pytest.mark.parametrize("n_rows", [60, 600])
def test_few_rows_judge_the_weights_of_an_epoch(rule, n_rows, monkeypatch, draw_modalities):
    n_judged = []
    original = Guidance._gradient_products

    def gradient_products(self, net, guided_rows, fused_rows):
        n_judged[-1].append(guided_rows.numel())
        return original(self, net, guided_rows, fused_rows)

    begin_epoch = Guidance.begin_epoch
    monkeypatch.setattr(Guidance, "begin_epoch", lambda self, *args: (n_judged.append([]), begin_epoch(self, *args))[1])
    monkeypatch.setattr(Guidance, "_gradient_products", gradient_products)
    X, y = draw_modalities(n_rows, (1.0, 2.0))
    pair = {"image": slice(0, 4), "text": slice(4, 8)}
    UDIClassifier(pair, guidance=rule, batch_size=16, cv=3, max_epochs=2, random_state=0, device="cpu").fit(X, y)
    n_batches = -(-n_rows * 2 // 3 // 16)
    for batches in n_judged:
        assert sum(batches) <= 516
        assert len(batches) <= max(1, n_batches / 4)


def test_fixed_weights_are_constant(data):
    history = UDIClassifier(GROUPS, guidance=(0.5, 0.01), **FAST).fit(*data).guidance_history_
    assert all((follower["weights"] == [0.5, 0.01]).all() for follower in history.values())


def test_followers_start_from_fresh_or_warm_weights(data):
    first = {
        start: next(
            row["train_loss"]
            for row in UDIClassifier(GROUPS, follower_init=start, guidance=(0.1, 0), **FAST).fit(*data).history_
            if row["stage"] == "guided"
        )
        for start in ("fresh", "warm")
    }
    assert first["warm"] < first["fresh"]


def test_consistency_pulls_the_follower_to_the_anchor(data):
    X, y = data
    pair, settings = {"image": slice(0, 4), "text": slice(4, 8)}, FAST | {"max_epochs": 30, "early_stopping": False}

    def divergence(guidance):
        clf = UDIClassifier(pair, anchor="text", guidance=guidance, **settings).fit(X[:, 4:], y)
        probabilities = clf.predict_proba_per_modality(X[:, 4:])
        return np.abs(probabilities["image"] - probabilities["text"]).sum(1).mean()

    assert divergence((20.0, 0.0)) < 0.9 * divergence((0.0, 0.0))


@pytest.mark.parametrize("overlap", [True, False])
def test_only_rows_with_both_modalities_are_guided(overlap, data):
    X, y = data[0][:, 4:].copy(), data[1]
    X[::3, 4:] = np.nan
    if not overlap:
        X[1::3, :4] = np.nan
        X[2::3, :4] = np.nan
    settings = FAST | {
        "early_stopping": False,
        "anchor": "text",
        "modalities": {"image": slice(0, 4), "text": slice(4, 8)},
    }
    guided = UDIClassifier(guidance=(5.0, 1.0), **settings).fit(X, y).predict_proba(X)
    alone = UDIClassifier(guidance=(0.0, 0.0), **settings).fit(X, y).predict_proba(X)
    assert np.isfinite(guided).all()
    assert np.allclose(guided, alone, atol=1e-6) != overlap


def spy_on_guidance(monkeypatch):
    """Record alignments, expected alignments and gradients left behind, for every update of the weights."""
    records = []
    original = Guidance.begin_epoch

    def begin_epoch(self, net, epoch):
        net.module_.zero_grad()
        expected = naive_alignment(self, net, epoch[0])
        original(self, net, epoch)
        records.append((self.records[-1]["alignment"], expected, [p.grad for p in net.module_.parameters()]))

    monkeypatch.setattr(Guidance, "begin_epoch", begin_epoch)
    return records


def naive_alignment(guidance, net, rows):
    """Return equations 13 and 14, computed with one backward pass per loss."""
    batch = net.train_rows.batch(rows)
    gradients = []
    for loss in ("fused", "consistency", "complementarity"):
        net.module_.zero_grad()
        logits, features = net.module_(batch)
        if loss == "fused":
            frozen = [branch.log_proba[batch.rows[0]] for branch in guidance.frozen.outputs]
            torch.nn.functional.cross_entropy(fuse([*frozen, logits[0]], None, "sum"), batch.y[0]).backward()
        elif loss == "consistency":
            guidance._consistency(logits, batch).sum().backward()
        else:
            guidance._complementarity(features, batch, None).sum().backward()
        gradients.append([None if p.grad is None else p.grad.clone() for p in net.module_.parameters()])
        net.module_.zero_grad()
    return [
        sum((a * b).sum().item() for a, b in zip(gradients[0], other, strict=True) if b is not None)
        for other in gradients[1:]
    ]


def test_dynamic_rule_uses_gradient_products_and_leaves_no_gradients(monkeypatch, data):
    records = spy_on_guidance(monkeypatch)
    UDIClassifier(GROUPS, guidance="dynamic", **SINGLE).fit(*data)
    assert len(records) == 10
    for alignment, expected, gradients in records:
        np.testing.assert_allclose(alignment, expected, rtol=1e-3, atol=1e-6)
        # The fused loss sets the weights; it must not train the follower.
        assert all(gradient is None for gradient in gradients)


class Normed(nn.Sequential):
    """Encoder whose BatchNorm counts its training batches."""

    def __init__(self, input_shape):
        super().__init__(nn.BatchNorm1d(*input_shape), nn.Linear(*input_shape, 5), nn.Dropout(0.5))


def test_setting_the_weights_keeps_batch_norm_statistics(data):
    clf = UDIClassifier(GROUPS, encoder=Normed, early_stopping=False, **SINGLE).fit(*data)
    # Five epochs of four batches, without the batches that set the weights of each epoch.
    assert [int(b.encoder[0].num_batches_tracked) for b in clf.module_.branches] == [20, 20, 20]


@pytest.mark.parametrize("guidance", ["aligned", "dynamic"])
def test_followers_may_have_frozen_encoders(guidance, data):
    clf = UDIClassifier(GROUPS, encoder=nn.Identity(), guidance=guidance, **FAST).fit(*data)
    for history in clf.guidance_history_.values():
        assert (history["alignment"][:, 1] == 0).all()
    assert clf.score(*data) > 0.5


def test_weights_of_rows_reach_the_consistency_loss(data):
    X, y = data[0][:, 4:].copy(), data[1]
    pair, weight = {"image": slice(0, 4), "text": slice(4, 8)}, np.where(np.arange(len(y)) < 120, 1.0, 1e-9)
    settings = SINGLE | {"early_stopping": False, "anchor": "text", "guidance": (5.0, 0.0)}
    first = UDIClassifier(pair, **settings).fit(X, y, sample_weight=weight).predict_proba(X[:120])
    X[120:, 4:] = X[120:, 4:][::-1]
    other = UDIClassifier(pair, **settings).fit(X, y, sample_weight=weight).predict_proba(X[:120])
    np.testing.assert_allclose(other, first, atol=5e-3)


def test_frozen_branches_are_evaluated_once(monkeypatch, data):
    calls = []
    original = FrozenBranches.add
    monkeypatch.setattr(FrozenBranches, "add", lambda self, *args: (calls.append(1), original(self, *args))[1])
    UDIClassifier(GROUPS, **FAST).fit(*data)
    assert len(calls) == 2


@pytest.mark.parametrize("stopped_in, is_fitted", [("unimodal text", False), ("guided audio", True)])
def test_ctrl_c_keeps_usable_networks(stopped_in, is_fitted, monkeypatch, data):
    original = Net.train_epoch

    def train_epoch(self, train, epoch):
        if self.title == stopped_in and len(self.history) == 3:
            raise KeyboardInterrupt
        return original(self, train, epoch)

    monkeypatch.setattr(Net, "train_epoch", train_epoch)
    clf = UDIClassifier({name: GROUPS[name] for name in ("text", "image", "audio")}, **FAST)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*data)
    assert hasattr(clf, "module_") == is_fitted
    if is_fitted:
        assert clf.score(*data) > 0.5
        assert clf.order_[0] == "text"


@pytest.mark.parametrize(
    "parameter, value, message",
    [
        ("guidance", "strong", r"guidance='strong'.*'validated', 'aligned', 'dynamic', None.*two weights"),
        ("guidance", (1.0,), "two weights"),
        ("guidance", (1.0, -1.0), "at least 0"),
        ("anchor", "smell", r"anchor='smell'.*'auto', 'audio', 'image', 'text'"),
        ("anchor_tolerance", 2.0, "at most 1"),
        ("follower_init", "cold", "'fresh', 'warm'"),
        ("fusion", "max", "'weighted', 'sum', 'mean'"),
        ("cv", 1, "cv=1 must be at least 2"),
        ("cv", "loo", "cv='loo' is not supported.*'auto', None.*splitter"),
        ("monitor", "f1", "'valid_loss', 'valid_accuracy'"),
    ],
)
def test_invalid_parameters_raise(parameter, value, message, data):
    with pytest.raises(ValueError, match=message):
        UDIClassifier(GROUPS, **{parameter: value}).fit(*data)
