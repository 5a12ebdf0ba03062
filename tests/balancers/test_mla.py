"""MLA: turns of the modalities, projected gradients against numpy, and weights of the prediction."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from skorch.callbacks import Callback
from torch import nn

from mmestim import JointClassifier
from mmestim._data.batches import Batch
from mmestim.balancers import MLA
from mmestim.balancers.mla import SharedHead

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "encoder": "linear",
    "embedding_dim": 5,
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 2,
    "batch_size": 32,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}


class StepRecorder(Callback):
    """Callback that records the trained modality of every step, the input of the head and its gradient."""

    def on_train_begin(self, net, X=None, y=None):
        self.steps, self.weights = [], {}

    def on_grad_computed(self, net, named_parameters, X=None, y=None, training=None):
        module = net.module_
        moved = [n for n in module.names if any(p.grad is not None for p in module.branch(n).encoder.parameters())]
        assert len(moved) == 1
        for name in module.names:
            weight = module.branch(name).encoder.layers[1].weight.detach().clone()
            if name in self.weights:
                same = torch.equal(weight, self.weights[name])
                # An encoder changes in its own step only, and that step is the previous one.
                assert same == (self.steps[-1]["name"] != name)
            self.weights[name] = weight
        head = module.fusion_head.linear
        with torch.no_grad():
            z = module.branch(moved[0]).encoder(X[moved[0]])
            p = softmax(head(z).numpy(), axis=1)
        self.steps.append({"name": moved[0], "z": z.numpy(), "p": p, "grad": head.weight.grad.numpy().copy()})


def fit(data, balancer, callback, **changes):
    groups = changes.pop("modalities", GROUPS)
    return JointClassifier(groups, balancer=balancer, callbacks=[callback], **FAST | changes).fit(*data)


class TargetRecorder(StepRecorder):
    """`StepRecorder` that also records targets, for data without absent modalities."""

    def on_grad_computed(self, net, named_parameters, X=None, y=None, training=None):
        super().on_grad_computed(net, named_parameters, X=X, y=y, training=training)
        self.steps[-1]["y"] = y.numpy()


@pytest.mark.parametrize("projection", ["owm", "none"])
@pytest.mark.parametrize("modalities", [{"b": slice(4, 12), "a": slice(0, 4)}, GROUPS])
def test_gradient_of_the_head_matches_the_formula(data, modalities, projection):
    steps = TargetRecorder()
    clf = fit(data, MLA(projection), steps, modalities=modalities)
    names, n_batches = sorted(modalities), 3
    assert [step["name"] for step in steps.steps] == names * (2 * n_batches)
    P = np.eye(5)
    for number, step in enumerate(steps.steps):
        raw = (step["p"] - np.eye(3)[step["y"]]).T @ step["z"] / len(step["y"])
        if projection == "owm" and number > 0:
            i = number // len(names) % n_batches
            a, r = 0.1 ** (1 + i / n_batches), step["z"].mean(axis=0)[:, None]
            P = P - (P @ r @ r.T @ P) / (a + r.T @ P @ r)
            P = P / np.linalg.norm(P)
            assert np.abs(raw @ P.T - raw).max() > 0.1 * np.abs(raw).max()
        np.testing.assert_allclose(step["grad"], raw @ P.T, atol=2e-6)
    np.testing.assert_allclose(clf.balancers_[0].projector_, P, atol=1e-5)


class Plain(nn.Module):
    """Encoder without statistics of the rows, which would differ between weighted and repeated rows."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))

    def forward(self, x):
        return self.layers(x)


def test_row_weights_equal_repeated_rows(data):
    X, y = data
    weight = np.where(np.arange(len(y)) % 2, 2, 1)
    rows = np.repeat(np.arange(len(y)), weight)
    options = FAST | {"encoder": Plain, "max_epochs": 3, "batch_size": 1000}
    weighted, repeated = StepRecorder(), StepRecorder()
    for callback, args in ((weighted, (X, y, weight)), (repeated, (X[rows], y[rows]))):
        JointClassifier(GROUPS, balancer=MLA(), callbacks=[callback], **options).fit(*args)
    for one, other in zip(weighted.steps, repeated.steps, strict=True):
        np.testing.assert_allclose(one["grad"], other["grad"], atol=1e-5)


@pytest.mark.parametrize("weights", ["entropy", "sum", {"audio": 0.5, "image": 2.0, "text": 0.0}])
def test_prediction_is_the_weighted_sum_of_present_modalities(with_absent, weights):
    X, y = with_absent
    clf = JointClassifier(GROUPS, balancer=MLA(weights=weights), **FAST).fit(X, y)
    alone = clf.predict_proba_per_modality(X)
    head = clf.module_.fusion_head
    features = np.split(clf.transform(X), 3, axis=1)
    fused = np.zeros((len(y), 3))
    for row in range(len(y)):
        logits = {
            name: head.linear(torch.from_numpy(z[row])).detach().numpy()
            for name, z in zip(GROUPS, features, strict=True)
            if not np.isnan(X[row, GROUPS[name]]).any()
        }
        for name, z in logits.items():
            np.testing.assert_allclose(alone[name][row], softmax(z), atol=1e-5)
        if weights == "entropy":
            H = {name: entropy(softmax(z)) for name, z in logits.items()}
            top = {name: np.exp(max(H.values()) - h) for name, h in H.items()}
            w = {name: t / sum(top.values()) for name, t in top.items()}
        else:
            w = dict.fromkeys(logits, 1.0) if weights == "sum" else weights
        fused[row] = sum(w[name] * z for name, z in logits.items())
    np.testing.assert_allclose(clf.predict_proba(X), softmax(fused, axis=1), atol=1e-5)
    assert np.isfinite(clf.balance_history_[0]["weight"]).all()


def test_batches_may_lack_a_modality(data):
    X, y = data[0].copy(), data[1]
    X[4:, :4] = np.nan  # most batches have no row with it
    clf = JointClassifier(GROUPS, balancer=MLA(), **FAST | {"batch_size": 10}).fit(X, y)
    assert all(torch.isfinite(p).all() for p in clf.module_.parameters())


def test_rows_without_modalities_have_zero_weights():
    head = SharedHead({"a": 2, "b": 2}, 3, "entropy")
    positions = {"a": torch.tensor([0]), "b": torch.tensor([0, 1])}
    batch = Batch({"a": torch.zeros(1, 2), "b": torch.zeros(2, 2)}, positions, 3)
    shares = head.modality_weights(torch.randn(2, 3, 3), batch)
    np.testing.assert_allclose(shares.sum(0), [1, 1, 0])
    assert shares[:, 1].tolist() == [0, 1]


def test_features_of_different_lengths_are_mapped_to_the_longest(data):
    class Wide(nn.Module):
        def __init__(self, input_shape):
            super().__init__()
            self.linear = nn.Linear(*input_shape, 7)

        def forward(self, x):
            return self.linear(x)

    clf = JointClassifier(GROUPS, balancer=MLA(), **FAST | {"encoder": {"text": Wide, "image": "linear"}}).fit(*data)
    maps = dict(zip(clf.module_.fusion_head.names, clf.module_.fusion_head.maps, strict=True))
    assert [type(maps[name]) for name in GROUPS] == [nn.Linear, nn.Linear, nn.Identity]
    assert clf.balancers_[0].projector_.shape == (7, 7)
    same = JointClassifier(GROUPS, balancer=MLA(), **FAST).fit(*data).module_.fusion_head
    assert all(isinstance(layer, nn.Identity) for layer in same.maps)


def test_the_head_learns_on_frozen_encoders(data):
    frozen = {name: nn.Identity() for name in GROUPS}
    clf = JointClassifier(GROUPS, balancer=MLA(), **FAST | {"encoder": frozen}).fit(*data)
    losses = [row["train_loss"] for row in clf.history_]
    assert losses[1] < losses[0]


def test_unimodal_weight_adds_the_loss_of_unimodal_heads(data):
    def losses(weight):
        clf = JointClassifier(GROUPS, balancer=MLA(), unimodal_weight=weight, **FAST | {"max_epochs": 1, "lr": 1e-9})
        return clf.fit(*data)

    plain, extra = losses(0.0), losses(0.5)
    X, y = data
    # At this learning rate the weights do not change: the loss is the shared head's and half of the unimodal heads'.
    unimodal_loss = sum(-np.log(p[range(len(y)), y]).mean() for p in extra.predict_proba_per_modality(X).values())
    added = extra.history_[0]["train_loss"] - plain.history_[0]["train_loss"]
    assert added == pytest.approx(0.5 * unimodal_loss, rel=1e-4)


@pytest.mark.parametrize(
    "balancer, message",
    [
        (MLA("gs"), r"projection='gs' is not supported. Use one of 'owm', 'none'"),
        (MLA(weights="max"), r"weights='max' is not supported. Use one of 'entropy', 'sum', or a dict"),
        (MLA(weights={"audio": 1.0}), r"must have one weight for each of \['audio', 'image', 'text'\]"),
        (MLA(weights={"audio": 1.0, "image": -1, "text": 1}), r"weights\['image'\]=-1 must be at least 0"),
        (MLA(weights={"audio": 0.0, "image": 0, "text": 0}), r"must have a weight above 0"),
    ],
)
def test_invalid_parameters_are_named_in_the_error(data, balancer, message):
    with pytest.raises(ValueError, match=message):
        JointClassifier(GROUPS, balancer=balancer, **FAST).fit(*data)
