"""A batch that encoders read in parts trains like a whole batch, with the activations of one part in memory."""

import numpy as np
import pytest
import torch
from torch import nn

from _early_methods import early_method
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim._data.batches import Batch
from mmestim._networks.multimodal_networks import Branch
from mmestim._networks.stacking import StackedLinear

GROUPS = {"a": slice(0, 4), "b": slice(4, 8), "c": slice(8, 12)}
# SGD, because AdamW enlarges rounding where a gradient is close to zero. The last batch of an epoch is short.
SETTINGS = {"batch_size": 25, "max_epochs": 2, "optimizer": "sgd", "cv": 2, "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def partial_data(data):
    X, y = data[0].copy(), data[1]
    X[::5, 4:8] = np.nan
    return X, y


def branch_of(encoder, n_features, accumulate):
    return Branch("a", encoder, n_features, 2, accumulate=accumulate).train()


def weights(clf):
    return {name: tensor.numpy() for name, tensor in clf.module_.state_dict().items()}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "classifier, parameters",
    [
        (JointClassifier, {}),
        (JointClassifier, {"balancer": early_method("MMPareto"), "cv": None}),
        (JointClassifier, {"balancer": early_method("UMT"), "cv": None}),
        (LateFusionClassifier, {}),
        (UDIClassifier, {"guidance": "dynamic", "max_grad_norm": 1.0}),
        (ModalityGapClassifier, {"cv": None}),
    ],
)
def test_parts_of_a_batch_give_the_gradient_of_the_batch(partial_data, classifier, parameters):
    clf = classifier(GROUPS, **SETTINGS | parameters)
    whole, parts = (weights(clf.set_params(accumulate=n).fit(*partial_data)) for n in (1, 3))
    for name, expected in whole.items():
        np.testing.assert_allclose(parts[name], expected, atol=1e-5)


def test_bf16_gives_the_gradient_of_the_batch_too(partial_data):
    clf = JointClassifier(GROUPS, precision="bf16", **SETTINGS)
    whole, parts = (clf.set_params(accumulate=n).fit(*partial_data).predict_proba(partial_data[0]) for n in (1, 3))
    np.testing.assert_allclose(parts, whole, atol=0.02)


class Linear(nn.Linear):
    """Encoder that has no stack, because of its class."""

    def __init__(self, input_shape, embedding_dim):
        super().__init__(input_shape[0], embedding_dim)
        self.n_features = embedding_dim


@pytest.mark.parametrize("encoder, layer", [("linear", StackedLinear), (Linear, Linear)])
def test_training_reads_at_most_a_part_at_once(data, monkeypatch, encoder, layer):
    n_rows, forward = [], layer.forward

    def record(self, x):
        if self.training and x.shape[-1] == 4:  # no head
            n_rows.append(x.shape[-2])
        return forward(self, x)

    monkeypatch.setattr(layer, "forward", record)
    clf = LateFusionClassifier(GROUPS, encoder=encoder, accumulate=4, **SETTINGS | {"batch_size": 30, "max_epochs": 1})
    clf.fit(*data)
    # Two folds train on 120 rows each, in 4 batches.
    n_parts = 4 * 4 * len(GROUPS) * (1 if layer is StackedLinear else 2)
    n_trial = n_rows.count(2)
    assert max(n_rows) == 8
    assert len(n_rows) - n_trial == 2 * n_parts  # once forward, and once in the backward pass


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(4), nn.BatchNorm1d(4, momentum=None), nn.InstanceNorm1d(4, track_running_stats=True)]
)
def test_statistics_of_parts_count_once(norm):
    torch.manual_seed(0)
    x = torch.randn(11, 4, 3)
    encoder = nn.Sequential(nn.Conv1d(4, 4, 1), norm, nn.Flatten())
    expected = nn.Sequential(nn.Conv1d(4, 4, 1), type(norm)(4, momentum=norm.momentum, track_running_stats=True))
    expected.append(nn.Flatten()).load_state_dict(encoder.state_dict())
    scale = torch.randn(11, 12)
    features = branch_of(encoder, 12, accumulate=3).encode(Batch({"a": x}, {}, len(x)))
    (features * scale).sum().backward(retain_graph=True)
    (features * scale).sum().backward()
    (2 * torch.cat([expected(part) for part in x.tensor_split(3)]) * scale).sum().backward()
    for buffer, other in zip(encoder.buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, other)
    for parameter, other in zip(encoder.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)
    assert norm.momentum == expected[1].momentum


def test_dropout_is_the_same_in_the_backward_pass():
    layer = nn.Linear(6, 6, bias=False)
    nn.init.eye_(layer.weight)
    features = branch_of(nn.Sequential(nn.Dropout(0.5), layer), 6, 2).encode(Batch({"a": torch.ones(8, 6)}, {}, 8))
    features.sum().backward()
    torch.testing.assert_close(layer.weight.grad, features.detach().sum(0).expand(6, 6))


@pytest.mark.parametrize("n_rows, expected", [(1, [1]), (3, [3]), (5, [3, 2]), (8, [2, 2, 2, 2]), (9, [3, 2, 2, 2])])
def test_a_part_has_two_rows_or_more(n_rows, expected):
    sizes, encoder = [], nn.Linear(2, 2)
    encoder.register_forward_pre_hook(lambda layer, inputs: sizes.append(len(inputs[0])))
    branch = branch_of(encoder, 2, accumulate=4)
    batch = Batch({"a": torch.zeros(n_rows, 2)}, {}, n_rows)
    branch.encode(batch)
    assert sizes == expected
    with torch.no_grad():
        branch.encode(batch)
    branch.eval().encode(batch)
    branch.train().requires_grad_(False).encode(batch)
    assert sizes[len(expected) :] == [n_rows] * 3
