"""MBSD: distillation, loss and gradients against loops over rows and pairs."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mmestim import JointClassifier
from mmestim._data.batches import Batch
from mmestim.balancers import MBSD
from mmestim.balancers.mbsd import distill

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
PAIR = {"image": slice(0, 4), "text": slice(4, 8)}
FAST = {
    "cv": None,
    "optimizer": "sgd",
    "encoder": "mlp",
    "max_epochs": 3,
    "batch_size": 40,
    "random_state": 0,
    "device": "cpu",
}


def distillation(logits, y, present, row_weight=None):
    """Return the distillation loss by loops over pairs and rows."""
    pairs = []
    for a, b in itertools.combinations(range(len(logits)), 2):
        total, count = 0.0, 0
        for i in range(len(y)):
            if not (present[a][i] and present[b][i]):
                continue
            count += 1
            if logits[a][i].argmax() != y[i] and logits[b][i].argmax() != y[i]:
                continue
            low, high = sorted(log_softmax(logits[m][i])[y[i]] for m in (a, b))
            distance = np.mean((logits[a][i] - logits[b][i]) ** 2) + np.exp(high) * (high - low)
            total += (np.exp(high) - np.exp(low)) * distance * (1 if row_weight is None else row_weight[i])
        pairs.append(total / max(count, 1))
    return np.mean(pairs)


def cross_entropy(logits, y, weight):
    return -np.mean(log_softmax(logits, axis=1)[np.arange(len(y)), y] * weight)


class Spy(MBSD):
    """MBSD that records the outputs and the loss of each step."""

    def begin(self, training):
        super().begin(training)
        self.steps = []

    def loss(self, training, outputs):
        loss = super().loss(training, outputs)
        batch = outputs.batch
        weight = np.ones(batch.size) if batch.weight is None else batch.weight.numpy()
        unimodal = [z.detach().numpy() for z in outputs.unimodal.values()]
        recorded = outputs.logits.detach().numpy(), unimodal, batch.y.numpy(), weight, outputs.present.numpy()
        self.steps.append((loss.item(), recorded))
        return loss


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "groups, fusion, unimodal_weight",
    [(PAIR, "concat", 0), (GROUPS, "concat", 0), (GROUPS, "sum", 0), (PAIR, "gated", 0), (PAIR, "gated", 2)],
)
def test_loss_matches_the_formula(groups, fusion, unimodal_weight, weighted, with_absent):
    X, y = with_absent[0][12:, -4 * len(groups) :], with_absent[1][12:]
    clf = JointClassifier(groups, fusion=fusion, unimodal_weight=unimodal_weight, balancer=Spy(0.7), **FAST)
    clf.fit(X, y, sample_weight=1 + y if weighted else None)
    for loss, (fused, unimodal, y_batch, weight, present) in clf.balancers_[0].steps:
        expected = cross_entropy(fused, y_batch, weight) + 0.7 * distillation(unimodal, y_batch, present, weight)
        for z, has in zip(unimodal, present, strict=True):
            expected += (unimodal_weight or 1) * cross_entropy(z[has], y_batch[has], weight[has])
        assert loss == pytest.approx(expected, rel=1e-5)


def test_additional_unimodal_heads_are_trained(with_absent):
    clf = JointClassifier(GROUPS, unimodal_weight=1.0, balancer=MBSD(), **FAST | {"max_epochs": 30, "lr": 0.1})
    proba = clf.fit(*with_absent).predict_proba_per_modality(with_absent[0])["text"]
    assert (proba.argmax(axis=1) == with_absent[1]).mean() > 0.9


def stub_outputs(y, present=None):
    present = torch.ones(2, len(y), dtype=torch.bool) if present is None else present
    return SimpleNamespace(batch=Batch({}, {}, len(y), y), present=present)


def test_distillation_of_two_rows_matches_hand_computed_values():
    # In the first row the first modality is right and more confident; in the second row neither is right.
    logits = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
    loss, weight = distill(logits, stub_outputs(torch.tensor([0, 0])))
    high, low = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))
    assert weight.item() == pytest.approx((high - low) / 2)
    assert loss.item() == pytest.approx((high - low) * (0.5 + high * np.log(high / low)) / 2)
    loss.backward()
    # The more confident modality gets the gradient of the squared distance only, the other one also the divergence's.
    np.testing.assert_allclose(logits.grad[0, 0].numpy(), [(high - low) / 2, 0], rtol=1e-5, atol=1e-8)
    pull = -(high - low) / 2 * high * (1 - low)
    np.testing.assert_allclose(logits.grad[1, 0].numpy(), [pull - (high - low) / 2, -pull], rtol=1e-5)
    assert (logits.grad[:, 1] == 0).all()


def test_rows_without_a_pair_add_no_loss_and_no_nan():
    logits = torch.tensor([[[90.0, -90.0]], [[-90.0, 90.0]]], requires_grad=True)
    loss, weight = distill(logits, stub_outputs(torch.tensor([0]), torch.tensor([[True], [False]])))
    loss.backward()
    assert (loss.item(), weight.item()) == (0, 0)
    assert (logits.grad == 0).all()
    loss, weight = distill(logits, stub_outputs(torch.tensor([0])))
    assert weight.item() == 1
    assert torch.isfinite(loss)


def test_an_invalid_strength_is_named_in_the_error(with_absent):
    with pytest.raises(ValueError, match="strength"):
        JointClassifier(GROUPS, balancer=MBSD(-1), **FAST).fit(*with_absent)
