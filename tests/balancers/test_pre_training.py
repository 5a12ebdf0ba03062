"""PreTraining: initial weights of the joint network, fraction of the learning rate, and frozen encoders."""

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier
from mmestim.balancers import PreTraining

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
        self.layers = nn.Sequential(nn.Linear(*input_shape, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x):
        return self.layers(x)


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], **tolerance)


EXACT = {"rtol": 0, "atol": 0}


class Watched(PreTraining):
    """PreTraining that compares the encoders with those of `train_alone`, and records the initial weights."""

    seen: ClassVar = {}

    def begin(self, training):
        fresh = state(training.module)
        alone = {name: training.train_alone(name) for name in training.names}
        super().begin(training)
        for name in training.names:
            branch = training.module.branch(name)
            assert_same(state(branch.encoder), state(alone[name].encoder), **EXACT)
            if training.module.unimodal_heads:
                assert_same(state(branch.head), state(alone[name].head), **EXACT)
        after = state(training.module)
        for key in after:
            if key.startswith("fusion_head"):
                torch.testing.assert_close(after[key], fresh[key], **EXACT)
        assert any(not torch.equal(after[key], fresh[key]) for key in after)
        self.seen["start"] = after


@pytest.mark.parametrize("unimodal_weight", [0.0, 0.5])
def test_encoders_start_from_training_alone_and_stay_fixed_if_frozen(with_absent, unimodal_weight):
    options = FAST | {"encoder": {"text": Noisy}}
    clf = JointClassifier(GROUPS, balancer=Watched("frozen"), unimodal_weight=unimodal_weight, **options)
    clf.fit(*with_absent)
    end, start = state(clf.module_), Watched.seen["start"]
    for key in end:
        assert torch.equal(end[key], start[key]) == (".encoder." in key), key
    # Watched trains each encoder a second time.
    assert [row["modality"] for row in clf.history_] == 2 * [n for n in GROUPS for _ in range(3)] + [None] * 3


class Recomputed(PreTraining):
    """PreTraining that computes the features of frozen encoders for every batch."""

    def _train_head(self, training, batch):
        for name in training.names:
            training.module.branch(name).encoder.eval()
        with torch.no_grad():
            features = training.module(batch)[1]
        training.zero_grad()
        logits = training.module.fusion_head(features, batch)
        loss = nn.functional.cross_entropy(logits, batch.y)
        loss.backward()
        training.step(batch)
        return loss.detach(), logits


def test_cached_features_equal_recomputed_ones(with_absent):
    options = FAST | {"encoder": {"text": Noisy}, "batch_size": 7}
    modules = [
        JointClassifier(GROUPS, balancer=balancer, **options).fit(*with_absent).module_
        for balancer in (PreTraining("frozen"), Recomputed("frozen"))
    ]
    assert_same(*(state(module.fusion_head) for module in modules), rtol=0, atol=1e-6)


class Compared(PreTraining):
    """PreTraining that also trains a copy of the network with a parameter group for the encoders."""

    def begin(self, training):
        super().begin(training)
        self.copy = copy.deepcopy(training.module)
        options = training.context.options
        groups = [
            {"params": list(self.copy.branches.parameters()), "factor": self.finetune},
            {"params": list(self.copy.fusion_head.parameters()), "factor": 1.0},
        ]
        self.optimizer = options.optimizer(groups, lr=options.lr, **options.optimizer_kwargs)
        self.rates = set()

    def train_batch(self, training, batch):
        result = super().train_batch(training, batch)
        rate = training.net.optimizer_.param_groups[0]["lr"]
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        for copied, trained in zip(self.copy.parameters(), training.module.parameters(), strict=True):
            copied.grad = trained.grad.clone()
        self.optimizer.step()
        for copied, trained in zip(self.copy.parameters(), training.module.parameters(), strict=True):
            torch.testing.assert_close(copied, trained, rtol=1e-5, atol=1e-6)
        self.rates.add(rate)
        return result


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("factor", [0.1, 1, 3.0])
def test_finetune_equals_a_parameter_group_with_its_own_learning_rate(data, optimizer, factor):
    balancer = Compared(factor)
    clf = JointClassifier(
        GROUPS,
        balancer=balancer,
        **FAST | {"optimizer": optimizer, "weight_decay": 0.1, "lr": 0.05, "lr_schedule": "step"},
    )
    assert len(clf.fit(*data).balancers_[0].rates) == 2  # the schedule has reduced the learning rate once


def test_encoders_without_parameters_are_not_trained(data):
    encoder = {"audio": nn.Identity(), "image": nn.Identity()}
    for finetune in (0.1, "frozen"):
        clf = JointClassifier(GROUPS, balancer=PreTraining(finetune), **FAST | {"encoder": encoder}).fit(*data)
        assert {row["modality"] for row in clf.history_} == {"text", None}
    nothing = FAST | {"encoder": {name: nn.Identity() for name in GROUPS}}
    plain = JointClassifier(GROUPS, **nothing).fit(*data)
    for finetune in (0.1, "frozen"):
        clf = JointClassifier(GROUPS, balancer=PreTraining(finetune), **nothing).fit(*data)
        np.testing.assert_allclose(clf.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-6)


def test_a_fitted_balancer_holds_no_tensors(data):
    for finetune in (0.1, "frozen"):
        fitted = JointClassifier(GROUPS, balancer=PreTraining(finetune), **FAST).fit(*data).balancers_[0]
        assert not [value for value in vars(fitted).values() if isinstance(value, list | dict | torch.Tensor)]


@pytest.mark.parametrize(
    "finetune, error, message",
    [
        ("thawed", ValueError, "finetune='thawed' is not supported. Use 'frozen' or a number above 0"),
        (0, ValueError, "finetune=0 must be above 0"),
        (True, TypeError, "finetune=True must be a number"),
        (None, ValueError, "finetune=None is not supported"),
    ],
)
def test_invalid_parameters_are_named_in_the_error(data, finetune, error, message):
    with pytest.raises(error, match=message):
        JointClassifier(GROUPS, balancer=PreTraining(finetune), **FAST).fit(*data)
