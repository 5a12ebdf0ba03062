"""MMPareto: gradients against one backward pass per loss, hand-computed values and zero gradients."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier
from mmestim._training.losses import weighted_cross_entropy
from mmestim.balancers.mmpareto import MMPareto

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "cv": None,
    "optimizer": "sgd",
    "encoder": "mlp",
    "max_epochs": 3,
    "batch_size": 16,
    "embedding_dim": 6,
    "lr": 0.05,
    "random_state": 0,
    "device": "cpu",
}


def definition(a, u, gamma):
    """Return the gradients of an encoder from its two gradients, tensor by tensor, as in the released code."""
    flat_a, flat_u = (np.concatenate([g.ravel() for g in gradients]) for gradients in (a, u))
    aa, uu, au = flat_a @ flat_a, flat_u @ flat_u, flat_a @ flat_u
    if au > 0:
        case, w = "agree", 0.5
    elif au >= aa:
        case, w = "no fused gradient", 0.999
    elif au >= uu:
        case, w = "no unimodal gradient", 0.001
    else:
        case, w = "conflict", (uu - au) / (aa + uu - 2 * au)
    result = []
    for x, y in zip(a, u, strict=True):
        h = 2 * w * x + 2 * (1 - w) * y
        length = np.linalg.norm(h)
        result.append(gamma * max(1, np.linalg.norm(x + y) / length) * h if length > 0 else h)
    return case, result


class Checked(MMPareto):
    """MMPareto that compares every gradient with the naive definition."""

    zeroed = ()

    def begin(self, training):
        super().begin(training)
        self.cases_ = []
        with torch.no_grad():
            if "fusion" in self.zeroed:
                training.module.fusion_head.linear.weight[:, :6] = 0  # the columns of audio
            if "head" in self.zeroed:
                training.module.branch("audio").head.weight.zero_()

    def backward(self, training, outputs, loss):
        heads = {
            name: (
                training.module.branch(name).head(f),
                outputs.batch.with_modality(name),
                outputs.batch.present.get(name),
            )
            for name, f in outputs.features.items()
        }
        losses = [weighted_cross_entropy(outputs.logits, outputs.batch)]
        for z, rows, at in heads.values():
            losses.append(training.unimodal_weight * weighted_cross_entropy(z if at is None else z[at], rows))
        assert loss.item() == pytest.approx(sum(losses).item(), rel=1e-6)
        encoders = {p for name in training.names for p in training.parameters[name]}
        head_parameters = [p for p in training.module.parameters() if p not in encoders]
        passes = []
        for one in losses:
            training.zero_grad()
            one.backward(retain_graph=True)
            passes.append({p: None if p.grad is None else p.grad.clone() for p in training.module.parameters()})
        training.zero_grad()
        super().backward(training, outputs, loss)
        for p in head_parameters:
            plain = sum(g[p] for g in passes if g[p] is not None)
            torch.testing.assert_close(p.grad, plain)
        for number, name in enumerate(training.names, 1):
            a, u = ([g[p].double().numpy() for p in training.parameters[name]] for g in (passes[0], passes[number]))
            case, expected = definition(a, u, self.gamma)
            self.cases_.append(case)
            for p, g in zip(training.parameters[name], expected, strict=True):
                np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-3, atol=1e-5 * np.abs(g).max())


@pytest.mark.parametrize("names", [["audio", "image"], ["audio", "image", "text"]])
@pytest.mark.parametrize("unimodal_weight", [0.0, 2.5])
def test_gradients_match_the_definition(data, names, unimodal_weight):
    X, y = data
    X = X[:, : 4 * len(names)].copy()
    X[::5, :4] = np.nan
    X[1::5, 4:8] = np.nan
    groups = {name: GROUPS[name] for name in names}
    clf = JointClassifier(groups, balancer=Checked(gamma=1.3), unimodal_weight=unimodal_weight, **FAST)
    clf.fit(X, y, sample_weight=np.random.default_rng(1).uniform(0.5, 2, len(y)))
    assert {"agree", "conflict"} <= set(clf.balancers_[0].cases_)


@pytest.mark.parametrize(
    "zeroed, case",
    [
        (("fusion",), "no fused gradient"),
        (("head",), "no unimodal gradient"),
        (("fusion", "head"), "no fused gradient"),
    ],
)
def test_the_other_gradient_is_followed_if_one_is_zero(data, zeroed, case):
    balancer = type("Zeroed", (Checked,), {"zeroed": zeroed})()
    clf = JointClassifier(GROUPS, balancer=balancer, **(FAST | {"max_epochs": 1, "early_stopping": False}))
    clf.fit(*data)
    assert clf.balancers_[0].cases_[0] == case


def test_conflicting_gradients_match_hand_computed_values():
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    a, u = [torch.tensor([1.0, 0.0]), torch.zeros(1)], [torch.tensor([-1.0, 1.0]), torch.zeros(1)]
    weight, cosine = MMPareto()._combine([[p, q]], a, u)
    # a.a = 1, u.u = 2, a.u = -1: w = (2 + 1) / (1 + 2 + 2), h = 1.2 a + 0.8 u = (0.4, 0.8), of length 0.8 ** 0.5.
    assert weight.item() == pytest.approx(0.6)
    assert cosine.item() == pytest.approx(-(0.5**0.5))
    np.testing.assert_allclose(p.grad.numpy(), 1.5 / 0.8**0.5 * np.array([0.4, 0.8]), rtol=1e-6)
    # The combination decreases both losses; the plain sum (0, 1) would decrease only one of them.
    assert (p.grad * a[0]).sum() > 0
    assert (p.grad * u[0]).sum() > 0
    assert q.grad.item() == 0


def test_orthogonal_gradients_are_summed():
    p = nn.Parameter(torch.zeros(2))
    weight, _ = MMPareto(gamma=2.0)._combine([[p]], [torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 3.0])])
    assert weight.item() == 0.5
    np.testing.assert_allclose(p.grad.numpy(), [2.0, 6.0])


def test_frozen_encoders_give_joint_training_with_unimodal_heads(data):
    frozen = JointClassifier(GROUPS, balancer=MMPareto(), **FAST | {"encoder": nn.Flatten()}).fit(*data)
    plain = JointClassifier(GROUPS, unimodal_weight=1.0, **FAST | {"encoder": nn.Flatten()}).fit(*data)
    np.testing.assert_allclose(frozen.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-6)
    assert (frozen.balance_history_[0]["weight"] == 0.5).all()


def test_history_has_weights_and_cosines_and_the_model_survives_pickling(data):
    clf = JointClassifier(GROUPS, balancer=MMPareto(), **FAST).fit(*data)
    weight, cosine = clf.balance_history_[0]["weight"], clf.balance_history_[0]["cosine"]
    assert weight.shape == cosine.shape == (3, 3)
    assert ((weight > 0) & (weight < 1)).all()
    assert (np.abs(cosine) <= 1).all()
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(data[0]), clf.predict_proba(data[0]))


def test_batches_without_any_modality_are_accepted():
    # In a batch of two rows without a common modality each modality has one row, which training leaves out.
    X = np.array([[1.0, np.nan], [np.nan, 2.0]] * 2, dtype=np.float32)
    settings = FAST | {"batch_size": 2, "embedding_dim": 64, "lr": 0.01, "early_stopping": False, "optimizer": "adamw"}
    clf = JointClassifier({"a": [0], "b": [1]}, balancer=MMPareto(), **settings)
    assert np.isfinite(clf.fit(X, [0, 1, 1, 0]).predict_proba(X)).all()


class SharedEncoder(nn.Linear):
    """Encoder with a layer that all encoders share."""

    layer = nn.Linear(4, 5)

    def __init__(self, input_shape):
        super().__init__(5, 6)
        self.common = self.layer

    def forward(self, x):
        return super().forward(self.common(x))


def test_encoders_that_share_parameters_are_rejected(data):
    with pytest.raises(ValueError, match="two encoders share parameters"):
        JointClassifier(GROUPS, balancer=MMPareto(), **FAST | {"encoder": SharedEncoder}).fit(*data)


@pytest.mark.parametrize("gamma, error", [(0, ValueError), (-1.0, ValueError), ("1", TypeError)])
def test_an_invalid_gamma_is_named_in_the_error(data, gamma, error):
    with pytest.raises(error, match="gamma="):
        JointClassifier(GROUPS, balancer=MMPareto(gamma), **FAST).fit(*data)
