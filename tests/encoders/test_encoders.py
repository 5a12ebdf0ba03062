"""Choice of encoder by shape, user-supplied encoders, input statistics."""

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import LateFusionClassifier
from mmestim.encoders.choice import build_encoder
from mmestim.encoders.conv import ConvEncoder
from mmestim.encoders.standardize import SoftStandardize, Standardize
from mmestim.encoders.vectors import LinearEncoder, PeriodicEmbedding, TabularEncoder

FAST = {"cv": None, "max_epochs": 2, "random_state": 0, "device": "cpu"}


def build(encoder, shape, is_signal=False, embedding_dim=8):
    return build_encoder(encoder, "m", shape, is_signal=is_signal, embedding_dim=embedding_dim, names=["m", "other"])


@pytest.mark.parametrize(
    "shape, is_signal, expected_type, n_dims",
    [
        ((30,), False, TabularEncoder, None),
        ((30,), True, ConvEncoder, 1),
        ((16000,), True, ConvEncoder, 1),
        ((5,), True, ConvEncoder, 1),
        ((28, 28), False, ConvEncoder, 2),
        ((3, 20, 31), False, ConvEncoder, 2),
        ((1, 1), False, ConvEncoder, 2),
    ],
)
def test_auto_chooses_by_shape(shape, is_signal, expected_type, n_dims):
    module, size = build("auto", shape, is_signal)
    assert type(module) is expected_type
    assert n_dims is None or any(isinstance(m, (nn.Conv1d, nn.Conv2d)[n_dims - 1]) for m in module.modules())
    assert module(torch.randn(3, *shape)).shape == (3, size) == (3, 8)


@pytest.mark.parametrize(
    "name, shape", [("tabular", (4, 5)), ("linear", (4, 5)), ("mlp", (4, 5)), ("conv1d", (2, 40)), ("conv2d", (4, 5))]
)
def test_encoders_by_name(name, shape):
    module, size = build(name, shape)
    assert module(torch.randn(3, *shape)).shape == (3, size)


@pytest.mark.parametrize("encoder", ["tabular", "linear", "mlp", "conv2d"])
def test_features_depend_on_their_row_alone(encoder):
    module, _ = build(encoder, (6, 7))
    x = torch.randn(5, 6, 7)
    torch.testing.assert_close(module.train()(x)[2:3], module.eval()(x[2:3]))


@pytest.mark.parametrize("shape, axes", [((4, 3), (0,)), ((1, 1), (0, 1, 2))])
def test_statistics_do_not_depend_on_the_batches(shape, axes):
    x = torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(0)) * 3 + 100
    standardize = Standardize(shape)
    standardize.fit(x.split([7, 1, 30, 12]))
    standardized = standardize(x)
    torch.testing.assert_close(standardized.mean(axes), torch.zeros(standardized.mean(axes).shape), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        standardized.std(axes, correction=0), torch.ones(standardized.mean(axes).shape), atol=1e-4, rtol=0
    )


def test_constant_columns_stay_finite():
    standardize = Standardize((2,))
    standardize.fit([torch.tensor([[7.0, 1.0], [7.0, 3.0]])])
    torch.testing.assert_close(standardize(torch.tensor([[7.0, 3.0], [8.0, 3.0]])), torch.tensor([[0.0, 1], [1, 1]]))


def fitted_soft(x, n_batches=1):
    standardize = SoftStandardize(tuple(x.shape[1:]))
    standardize.fit(x.chunk(n_batches))
    return standardize


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def columns(*deviations):
    x = normal(400, len(deviations)).double()
    return ((x - x.mean(0)) / x.std(0, correction=0) * torch.tensor(deviations)).float()


@pytest.mark.parametrize(
    "deviations, weights",
    [
        ([0.5, 1.0, 2.0], [0.5, 1.0, 2.0]),  # one unit: the spread counts
        ([5e-9, 1e-8, 2e-8], [0.5, 1.0, 2.0]),
        ([0.1, *[1.0] * 98, 10.0], [0.25, *[1.0] * 98, 4.0]),  # up to a factor of 4
        ([1e-12, 1.0, 1e12], [1.0, 1.0, 1.0]),  # units: it does not
        ([3.0], [1.0]),
    ],
)
def test_weights_keep_the_spread_unless_units_differ(deviations, weights):
    weight = fitted_soft(columns(*deviations), 3).weight
    torch.testing.assert_close(weight / weight.log().mean().exp(), torch.tensor(weights), atol=0, rtol=0.05)


@pytest.mark.parametrize("shape", [(1,), (3,), (500,), (4, 1, 6)])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_rows_do_not_grow_with_the_unit_nor_beyond_64_columns(shape, unit):
    x = normal(50, *shape) * unit + unit
    expected = min(x[0].numel(), 64)
    assert 0.7 * expected < fitted_soft(x, 7)(x).square().flatten(1).sum(1).mean() < expected


def test_outliers_are_limited_and_remain_in_order():
    x = normal(100, 2)
    standardize = fitted_soft(x)
    scaled = standardize(torch.tensor([[1.0], [1e2], [1e3], [3e38]]).expand(-1, 2)) / standardize.weight
    assert (scaled.diff(dim=0) > 0).all()
    assert scaled[1].min() > 3.9
    assert scaled.max() <= 4


@pytest.mark.parametrize("constant", [0.0, 7.0, -1e8])
@pytest.mark.parametrize("n_varying", [0, 1, 3])
def test_constant_columns_are_ignored(constant, n_varying):
    x = torch.cat([normal(20, n_varying), torch.full((20, 2), constant)], dim=1)
    standardize = fitted_soft(x)
    assert (standardize(x + 5)[:, n_varying:] == 0).all()
    if n_varying:
        varying = x[:, :n_varying]
        torch.testing.assert_close(standardize(x)[:, :n_varying], fitted_soft(varying)(varying))


@pytest.mark.parametrize("n_inputs", [2, 64, 1000])
def test_initial_features_do_not_depend_on_the_width(n_inputs):
    torch.manual_seed(0)
    x = normal(200, n_inputs)
    module = TabularEncoder((n_inputs,), 64)
    module.standardize.fit([x])
    assert 0.4 < module.linear(module.standardize(x)).std() < 0.8


def test_tabular_is_affine_without_its_perceptron():
    module = TabularEncoder((3,), 2)
    module.standardize = nn.Identity()
    nn.init.zeros_(module.layers[-1].weight)
    x, y = torch.randn(2, 1, 3)
    zero = module(torch.zeros(1, 3))
    torch.testing.assert_close(module(x + y) - zero, module(x) + module(y) - 2 * zero)


def test_periodic_embedding_by_hand():
    embedding = PeriodicEmbedding(2, n_frequencies=2, n_outputs=1)
    with torch.no_grad():
        embedding.frequency.copy_(torch.tensor([[0.5, 1.0], [0.25, 0.5]]))
        embedding.shift.copy_(torch.tensor([[0.0, 0.0], [np.pi / 2, 0.0]]))
        embedding.weight.copy_(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]))
    expected = torch.tensor([[-1.0 + 2.0, 3 * -1.0 + 4 * -1.0]])
    torch.testing.assert_close(embedding(torch.tensor([[1.0, 1.0]])), expected)
    nested = torch.randn(3, 4, 2)
    torch.testing.assert_close(embedding(nested)[1, 2], embedding(nested[1, 2]))


def test_narrow_ranges_of_a_column_are_learned():
    X = np.random.default_rng(0).normal(size=(800, 2))
    y = np.floor(3 * X[:, 0]).astype(int) % 2
    clf = LateFusionClassifier(random_state=0, device="cpu").fit(X[:600], y[:600])
    assert clf.score(X[600:], y[600:]) > 0.85


def test_columns_of_any_scale_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    X = (rng.normal(size=(200, 3)) + y[:, None]) * [1e-6, 1.0, 1e8] + [0, 1e3, -1e8]
    assert LateFusionClassifier(random_state=0, device="cpu").fit(X, y).score(X, y) > 0.75


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.LazyLinear(5)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    return rng.normal(size=(60, 10)) + y[:, None], y


@pytest.mark.parametrize(
    "encoder",
    [
        Pooled,
        lambda embedding_dim: nn.LazyLinear(embedding_dim),
        lambda input_shape: nn.Linear(*input_shape, 5),
        lambda **offered: nn.LazyLinear(offered["embedding_dim"]),
        nn.Sequential(nn.Linear(4, 5)),
        {"a": Pooled, "b": "linear"},
        {"a": nn.Linear(4, 5)},
    ],
)
def test_user_defined_encoders(encoder, data):
    X, y = data
    groups = {"a": slice(0, 4), "b": slice(4, 8)}
    clf = LateFusionClassifier(groups, encoder=encoder, embedding_dim=5, **FAST).fit(X[:, :8], y)
    assert clf.transform(X[:, :8]).shape == (60, 10)


def test_instance_is_copied_with_its_weights(data):
    X, y = data
    module = nn.Linear(10, 5)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    frozen = LateFusionClassifier(encoder=module, lr=1e-12, weight_decay=0, **FAST).fit(X, y)
    expected = module(torch.tensor(X, dtype=torch.float32)).detach()
    np.testing.assert_allclose(frozen.transform(X), expected, atol=1e-5)
    LateFusionClassifier(encoder=module, **FAST).fit(X, y)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    "encoder, error, message",
    [
        ("resnet", ValueError, r"encoder='resnet' .*'auto', 'tabular', 'linear', 'mlp', 'conv1d', 'conv2d'"),
        ({"smell": "mlp"}, ValueError, r"encoder names \['smell'\].*\['x'\]"),
        (3, TypeError, "encoder=3 for modality 'x'"),
        (nn.Linear, TypeError, "encoder for modality 'x' cannot be created from no arguments: .*Pass an instance"),
        (lambda: 3, TypeError, "encoder for modality 'x' returned int"),
        (lambda: nn.Linear(7, 2), ValueError, r"encoder for modality 'x' fails on a batch of shape \(2, 10\)"),
        (lambda: nn.Unflatten(1, (5, 2)), ValueError, r"returns \(2, 5, 2\).*expected \(2, n_features\)"),
    ],
)
def test_bad_encoders(encoder, error, message, data):
    with pytest.raises(error, match=message):
        LateFusionClassifier(encoder=encoder, **FAST).fit(*data)


def test_no_network_for_four_axes(data):
    with pytest.raises(ValueError, match=r"no network for modality 'x' with samples of shape \(1, 1, 2, 5\)"):
        LateFusionClassifier(shapes={"x": (1, 1, 2, 5)}, **FAST).fit(*data)


def test_conv_needs_its_rank():
    with pytest.raises(ValueError, match="conv2d needs samples of rank 2"):
        build("conv2d", (5,))


def test_linear_is_affine():
    module = LinearEncoder((3,), 2)
    x, y = torch.randn(2, 1, 3)
    zero = module(torch.zeros(1, 3))
    torch.testing.assert_close(module(x + y) - zero, module(x) + module(y) - 2 * zero)
