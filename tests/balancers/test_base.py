"""Base class of balancers: order of the hooks, records, and errors of classes that are not balancers."""

import numpy as np
import pytest
import torch
from numpydoc.validate import validate

from mmestim import JointClassifier
from mmestim.balancers import Balancer

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"audio": slice(0, 6), "image": slice(6, 12)}
FAST = {"cv": None, "optimizer": "sgd", "max_epochs": 4, "random_state": 0, "device": "cpu"}


@pytest.mark.parametrize("hook", [name for name, value in vars(Balancer).items() if callable(value) and name[0] != "_"])
def test_hooks_are_documented(hook):
    accepted = {"ES01", "EX01", "GL01", "RT02", "SA01", "SS05", "SS06"}
    errors = [error for error in validate(f"mmestim.balancers.Balancer.{hook}")["errors"] if error[0] not in accepted]
    assert errors == []


class HookRecorder(Balancer):
    """Balancer that records the calls of its hooks."""

    unimodal = "split"

    def begin(self, training):
        self.calls_ = ["begin"]

    def begin_epoch(self, training):
        self.calls_.append(f"begin_epoch {training.epoch}")

    def loss(self, training, outputs):
        self.calls_.append("loss")
        assert outputs.unimodal.keys() == outputs.features.keys()
        assert outputs.scores.shape == (len(training.names), outputs.batch.size)
        return super().loss(training, outputs)

    def backward(self, training, outputs, loss):
        self.calls_.append("backward")
        super().backward(training, outputs, loss)

    def after_backward(self, training, outputs):
        self.calls_.append("after_backward")
        training.record("n_calls", torch.tensor([1.0, 2.0]) * len(self.calls_))

    def end_epoch(self, training):
        self.calls_.append("end_epoch")


def test_hooks_are_called_in_order_and_records_are_averaged(data):
    settings = FAST | {"max_epochs": 2, "batch_size": 60, "early_stopping": False}
    clf = JointClassifier(PAIR, balancer=HookRecorder(), **settings).fit(*data)
    step = ["loss", "backward", "after_backward"]
    epochs = [["begin_epoch 0", *step, *step, "end_epoch"], ["begin_epoch 1", *step, *step, "end_epoch"]]
    assert clf.balancers_[0].calls_ == ["begin", *epochs[0], *epochs[1]]
    # The values are recorded after 5 and 8 calls in the first epoch, and after 13 and 16 in the second.
    np.testing.assert_allclose(clf.balance_history_[0]["n_calls"], [[6.5, 13.0], [14.5, 29.0]])


def test_plain_numbers_can_be_recorded(data):
    class NumberRecorder(Balancer):
        def after_backward(self, training, outputs):
            training.record("half", 0.5)

    clf = JointClassifier(GROUPS, balancer=NumberRecorder(), **FAST).fit(*data)
    np.testing.assert_array_equal(clf.balance_history_[0]["half"], [0.5] * 4)


def test_an_unknown_kind_of_unimodal_logits_is_named_in_the_error(data):
    class Misspelt(Balancer):
        unimodal = "head"

    with pytest.raises(
        ValueError, match=r"Misspelt.unimodal='head' is not supported. Use one of None, 'split', 'heads'"
    ):
        JointClassifier(GROUPS, balancer=Misspelt(), **FAST).fit(*data)


@pytest.mark.parametrize("balancer", ["ogm", Balancer, object()])
def test_objects_that_are_not_balancers_are_rejected(balancer, data):
    with pytest.raises(TypeError, match=r"balancer=.* must be an instance .* mmestim.balancers, or None"):
        JointClassifier(PAIR, balancer=balancer, **FAST).fit(*data)


def test_a_balancer_without_hooks_is_plain_training(data):
    with_hooks = JointClassifier(GROUPS, balancer=Balancer(), unimodal_weight=0.7, **FAST).fit(*data)
    plain = JointClassifier(GROUPS, unimodal_weight=0.7, **FAST).fit(*data)
    np.testing.assert_allclose(with_hooks.predict_proba(data[0]), plain.predict_proba(data[0]), atol=1e-6)
