"""MMCosine: logits are cosines in training and in prediction."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from mmestim import JointClassifier
from mmestim.balancers.mmcosine import CosineHead, MMCosine

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {
    "cv": None,
    "optimizer": "sgd",
    "max_epochs": 3,
    "batch_size": 16,
    "embedding_dim": 6,
    "lr": 0.05,
    "random_state": 0,
    "device": "cpu",
}


def test_logits_match_hand_computed_values():
    head = CosineHead({"a": 2, "b": 1}, 2, scale=10.0)
    with torch.no_grad():
        head.linears[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
        head.linears[1].weight.copy_(torch.tensor([[0.5], [-7.0]]))
    features = {"a": torch.tensor([[6.0, 8.0], [1.0, 0.0], [0.0, 0.0]]), "b": torch.tensor([[2.0], [-9.0], [1e-3]])}
    parts = head.split(features)
    np.testing.assert_allclose(parts["a"].detach().numpy(), [[10, -8], [6, 0], [0, 0]], atol=1e-5)
    np.testing.assert_allclose(parts["b"].detach().numpy(), [[10, -10], [-10, 10], [10, -10]], atol=1e-5)
    np.testing.assert_allclose(head(features, None).detach().numpy(), [[20, -18], [-4, 10], [10, -10]], atol=1e-5)


@pytest.mark.parametrize("names", [["audio", "image"], ["audio", "image", "text"]])
def test_predictions_use_the_cosines_of_present_modalities(data, names):
    X, y = data[0][:, : 4 * len(names)].copy(), data[1]
    X[::5, :4] = np.nan
    X[1::5, 4:8] = np.nan
    settings = FAST | {"max_epochs": 6}
    clf = JointClassifier({name: GROUPS[name] for name in names}, balancer=MMCosine(scale=7.0), **settings).fit(X, y)
    z = np.split(clf.transform(X), len(names), axis=1)
    logits = np.zeros((len(y), 3))
    for m, features in enumerate(z):
        weight = clf.module_.fusion_head.linears[m].weight.detach().numpy()
        for row, f in enumerate(features):
            if np.isnan(X[row, 4 * m]):
                continue
            logits[row] += 7 * weight @ f / np.linalg.norm(weight, axis=1) / np.linalg.norm(f)
    np.testing.assert_allclose(clf.predict_proba(X), softmax(logits, axis=1), atol=1e-5)
    assert clf.score(X, y) > 0.5


def test_gradients_are_orthogonal_to_the_class_weights(data):
    """Longer weights do not decrease the loss."""
    gradients = []

    class Spy(MMCosine):
        def after_backward(self, training, outputs):
            for linear in training.module.fusion_head.linears:
                gradients.append(
                    ((linear.weight * linear.weight.grad).sum(1).abs().max(), linear.weight.grad.abs().max())
                )

    JointClassifier(GROUPS, balancer=Spy(), **FAST).fit(*data)
    assert all(along < 1e-4 * size for along, size in gradients)


def test_zero_features_have_finite_gradients():
    head = CosineHead({"a": 2, "b": 3}, 2, scale=10.0)
    features = {"a": torch.zeros(4, 2, requires_grad=True), "b": torch.randn(4, 3, requires_grad=True)}
    loss = nn.functional.cross_entropy(head.fuse(features), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    assert features["a"].grad.abs().max() < 100
    assert not any(torch.isnan(p.grad).any() for p in head.parameters())


def test_unimodal_probabilities_multiply_to_the_fused_ones(data):
    clf = JointClassifier(GROUPS, balancer=MMCosine(), **FAST).fit(*data)
    unimodal = clf.predict_proba_per_modality(data[0])
    product = np.prod(np.stack(list(unimodal.values())), axis=0)
    product /= product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(product, clf.predict_proba(data[0]), atol=1e-5)  # logits are summed


@pytest.mark.parametrize("scale, error", [(0, ValueError), (-1.0, ValueError), ("1", TypeError)])
def test_an_invalid_scale_is_named_in_the_error(data, scale, error):
    with pytest.raises(error, match="scale="):
        JointClassifier(GROUPS, balancer=MMCosine(scale), **FAST).fit(*data)
