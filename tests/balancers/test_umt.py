"""UMT: distance to teachers that were trained alone, against numpy, and its effect."""

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier
from mmestim._networks.multimodal_networks import present_mask
from mmestim.balancers import UMT

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "embedding_dim": 5,
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 3,
    "batch_size": 32,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}


class Noisy(nn.Module):
    """Encoder with statistics that change in training, and noise."""

    def __init__(self, input_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))

    def forward(self, x):
        return self.layers(x)


class Compared(UMT):
    """UMT that compares the loss of every batch with the formula, with teachers trained a second time."""

    def begin(self, training):
        super().begin(training)
        self.teachers = {name: training.train_alone(name).eval() for name in training.names}
        self.checked = 0

    def loss(self, training, outputs):
        loss = super().loss(training, outputs)
        batch = outputs.batch
        weight = np.ones(batch.size) if batch.weight is None else batch.weight.numpy()
        expected, gradients = training.joint_loss(outputs).item(), []
        for name, features in outputs.features.items():
            has = present_mask(batch, name).numpy()
            with torch.no_grad():
                teacher = self.teachers[name].encoder(batch.x[name]).numpy()
            difference = np.zeros(features.shape)
            difference[has] = features.detach().numpy()[has] - teacher
            expected += self.scale * (weight[has] * (difference[has] ** 2).mean(axis=1)).mean()
            gradients.append(2 * self.scale * weight[:, None] * difference / has.sum() / features.shape[1])
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        added = torch.autograd.grad(
            loss - training.joint_loss(outputs), list(outputs.features.values()), retain_graph=True
        )
        for real, gradient in zip(added, gradients, strict=True):
            np.testing.assert_allclose(real, gradient, atol=1e-6)
        self.checked += 1
        return loss


@pytest.mark.parametrize("case", ["pair", "three", "absent"])
def test_loss_and_gradient_match_the_formula(data, with_absent, case):
    X, y = with_absent if case == "absent" else data
    groups = {"b": slice(4, 12), "a": slice(0, 4)} if case == "pair" else GROUPS
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if case == "absent" else None
    encoder = {"text": Noisy} if case != "pair" else "auto"
    clf = JointClassifier(groups, balancer=Compared(3.0), unimodal_weight=0.5, **FAST | {"encoder": encoder})
    assert clf.fit(X, y, sample_weight=weight).balancers_[0].checked == 9
    assert clf.balance_history_[0]["distance"].shape == (3, len(groups))


def test_zero_scale_is_plain_training(with_absent):
    plain = JointClassifier(GROUPS, **FAST).fit(*with_absent)
    off = JointClassifier(GROUPS, balancer=UMT(0), **FAST).fit(*with_absent)
    np.testing.assert_array_equal(off.predict_proba(with_absent[0]), plain.predict_proba(with_absent[0]))
    assert {row["stage"] for row in off.history_} == {"joint"}


def test_encoders_come_closer_to_their_teachers(data):
    def distance(scale):
        clf = JointClassifier(GROUPS, balancer=UMT(scale), **FAST | {"max_epochs": 10}).fit(*data)
        return clf.balance_history_[0]["distance"][-1]

    assert (distance(30.0) < 0.5 * distance(1e-6)).all()


def test_encoders_without_parameters_have_no_teacher(data):
    frozen = {name: nn.Identity() for name in ("audio", "image")}
    clf = JointClassifier(GROUPS, balancer=UMT(), **FAST | {"encoder": frozen}).fit(*data)
    assert {row["modality"] for row in clf.history_} == {"text", None}
    assert (clf.balance_history_[0]["distance"][:, :2] == 0).all()
    assert (clf.balance_history_[0]["distance"][1:, 2] > 0).all()
    nothing = FAST | {"encoder": {name: nn.Identity() for name in GROUPS}}
    plain = JointClassifier(GROUPS, **nothing).fit(*data)
    clf = JointClassifier(GROUPS, balancer=UMT(), **nothing).fit(*data)
    np.testing.assert_array_equal(clf.predict_proba(data[0]), plain.predict_proba(data[0]))


def test_an_invalid_scale_is_named_in_the_error(data):
    with pytest.raises(ValueError, match="scale=-1 must be at least 0"):
        JointClassifier(GROUPS, balancer=UMT(-1), **FAST).fit(*data)
