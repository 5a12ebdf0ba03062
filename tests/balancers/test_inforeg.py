"""InfoReg: pulls, windows and traces against plain loops."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from mmestim import JointClassifier
from mmestim.balancers import InfoReg

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"image": slice(0, 4), "text": slice(4, 8)}
FAST = {"cv": None, "optimizer": "sgd", "max_epochs": 4, "batch_size": 40, "random_state": 0, "device": "cpu"}


class Spy(InfoReg):
    """InfoReg that records scores, weights, and gradients before and after the pull of each step."""

    def begin(self, training):
        super().begin(training)
        self.steps = []

    def begin_epoch(self, training):
        super().begin_epoch(training)
        self.starts = copy.deepcopy(training.module)
        self.is_open = self.open_.numpy().copy()

    def after_backward(self, training, outputs):
        state = [
            [(None if p.grad is None else p.grad.clone(), p.detach().clone()) for p in training.parameters[name]]
            for name in training.names
        ]
        super().after_backward(training, outputs)
        after = [[p.grad for p in training.parameters[name]] for name in training.names]
        after = [[None if g is None else g.clone() for g in gradients] for gradients in after]
        starts = [[p.detach() for p in self.starts.branch(name).encoder.parameters()] for name in training.names]
        logits = [z.detach().numpy() for z in outputs.unimodal.values()]
        scores = np.array([softmax(z, axis=1)[range(len(z)), outputs.batch.y.numpy()] for z in logits])
        self.steps.append((training.epoch, self.is_open, scores, outputs.present.numpy(), state, after, starts))


def expected_pulls(scores, present, is_open, strength):
    """Return the pulls, from each row's scores against the mean of the row's other modalities."""
    gaps = np.zeros(len(scores))
    for m in range(len(scores)):
        for i in range(scores.shape[1]):
            other_scores = [scores[j, i] for j in range(len(scores)) if j != m and present[j, i]]
            if present[m, i] and other_scores:
                gaps[m] += scores[m, i] - np.mean(other_scores)
    return np.array(
        [
            strength * np.exp(np.tanh(gap)) if gap > 0 and gap == gaps.max() and is_window_open else 0.0
            for gap, is_window_open in zip(gaps, is_open, strict=True)
        ]
    )


@pytest.mark.parametrize("groups, absent", [(PAIR, False), (GROUPS, False), (GROUPS, True)])
def test_gradients_and_traces_match_the_formula(groups, absent, data, with_absent):
    X, y = with_absent if absent else data
    X = X[:, -4 * len(groups) :]
    clf = JointClassifier(groups, balancer=Spy(strength=0.5), **FAST).fit(X, y)
    pulls, traces = [[] for _ in range(4)], [[] for _ in range(4)]
    for epoch, is_open, scores, present, state, after, starts in clf.balancers_[0].steps:
        pull = expected_pulls(scores, present, is_open, 0.5)
        if len(groups) == 2 and is_open.all():  # the published rule
            assert pull.max() == pytest.approx(0.5 * np.exp(np.tanh(np.ptp(scores.sum(axis=1)))), rel=1e-5)
        pulls[epoch].append(pull)
        traces[epoch].append([sum((g**2).mean().item() for g, w in encoder if w.ndim > 1) for encoder in state])
        for k in range(len(groups)):
            for (old, weight), new, start in zip(state[k], after[k], starts[k], strict=True):
                expected = old.numpy() + pull[k] * (weight.numpy() - start.numpy())
                np.testing.assert_allclose(new.numpy(), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(clf.balance_history_[0]["pull"], [np.mean(p, axis=0) for p in pulls], rtol=1e-4)
    np.testing.assert_allclose(clf.balance_history_[0]["fisher"], [np.mean(t, axis=0) for t in traces], rtol=1e-4)
    assert (clf.balance_history_[0]["pull"] > 0).any(axis=1).all()
    np.testing.assert_array_equal(clf.balancers_[0].fisher_, clf.balance_history_[0]["fisher"])


class GivenTraces(InfoReg):
    """InfoReg with given traces."""

    given = torch.tensor([[1.0, 4.0], [3.0, 4.0], [4.0, 4.0], [1.0, 3.0], [5.0, 0.0]])

    def end_epoch(self, training):
        self.fisher_ = self.given[: training.epoch + 1]


def test_windows_match_hand_computed_values(data):
    settings = FAST | {"max_epochs": 6, "early_stopping": False}
    clf = JointClassifier(PAIR, balancer=GivenTraces(threshold=0.25, window=2), **settings).fit(data[0][:, 4:], data[1])
    # Sums over two epochs, current minus previous: image 1-0, 4-1, 7-4, 5-7, 6-5; text 4-0, 8-4, 8-8, 7-8, 3-7.
    expected = [[1, 1], [1, 1], [1, 1], [1, 0], [0, 0], [0, 0]]
    np.testing.assert_array_equal(clf.balance_history_[0]["open"], expected)
    assert (clf.balance_history_[0]["pull"][~np.array(expected, dtype=bool)] == 0).all()


def test_zero_strength_is_plain_training(with_absent):
    clf = JointClassifier(GROUPS, balancer=InfoReg(strength=0), **FAST).fit(*with_absent)
    plain = JointClassifier(GROUPS, unimodal_weight=1, **FAST).fit(*with_absent)
    np.testing.assert_array_equal(clf.predict_proba(with_absent[0]), plain.predict_proba(with_absent[0]))


def test_an_encoder_without_weights_has_no_trace(data):
    clf = JointClassifier(GROUPS, encoder={"text": nn.Identity()}, balancer=InfoReg(), **FAST).fit(*data)
    assert (clf.balance_history_[0]["fisher"][:, 2] == 0).all()
    assert (clf.balance_history_[0]["fisher"][:, :2] > 0).all()
    assert not clf.balance_history_[0]["open"][1:, 2].any()


@pytest.mark.parametrize("parameters", [{"strength": -1}, {"threshold": 1.1}, {"window": 0}])
def test_invalid_parameters_are_named_in_the_error(parameters, data):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        JointClassifier(GROUPS, balancer=InfoReg(**parameters), **FAST).fit(*data)
