"""ResNet-18: names and sizes of torchvision, the forward pass by hand, input statistics, and fits."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.encoders import ImageNetStandardize, ResNet18Encoder
from mmestim.encoders.choice import build_encoder
from mmestim.encoders.standardize import fit_statistics

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
FAST = {"cv": None, "max_epochs": 2, "random_state": 0, "device": "cpu"}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def published_names():
    """Yield the names of the state dict of torchvision.models.resnet18, without fc."""
    yield "conv1.weight"
    yield from (f"bn1.{name}" for name in NORM)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            for number in (1, 2):
                yield f"layer{stage}.{block}.conv{number}.weight"
                yield from (f"layer{stage}.{block}.bn{number}.{name}" for name in NORM)
            if stage > 1 and block == 0:
                yield f"layer{stage}.0.downsample.0.weight"
                yield from (f"layer{stage}.0.downsample.1.{name}" for name in NORM)


def by_hand(state, x, training=False):
    """Return the pooled features of ResNet-18 from a state dict, written down from the paper."""

    def norm(x, name):
        mean, variance = (state[f"{name}.running_{statistic}"].clone() for statistic in ("mean", "var"))
        return F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], training)

    x = F.relu(norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1"))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if stride == 2:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
                shortcut = norm(shortcut, f"{name}.downsample.1")
            inner = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            inner = norm(F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            x = F.relu(inner + shortcut)
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


@pytest.fixture(scope="module")
def encoder():
    """Return an encoder of colour images whose BatchNorm has seen some rows."""
    torch.manual_seed(0)
    encoder = ResNet18Encoder((3, 40, 33))
    fit_statistics(encoder, [3 + 5 * torch.randn(8, 3, 40, 33)])
    with torch.no_grad():
        encoder.train()(3 + 5 * torch.randn(8, 3, 40, 33))
    return encoder.eval()


@pytest.fixture(scope="module")
def data():
    """Return images whose brightness gives the class away, with a vector of noise; some rows lack one of them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    X = {"image": rng.normal(size=(40, 3, 12, 12)) + 2 * y[:, None, None, None], "noise": rng.normal(size=(40, 3))}
    X["image"][::7] = np.nan
    X["noise"][1::7] = np.nan
    return X, y


def test_names_and_numbers_are_those_of_torchvision(encoder):
    names = [name for name in encoder.state_dict() if not name.startswith("standardize.")]
    assert names == list(published_names())
    assert len(names) == 120
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 11_176_512


@pytest.mark.parametrize("training", [False, True])
def test_features_by_hand(encoder, training):
    x = 3 + 5 * torch.randn(4, 3, 40, 33, generator=torch.Generator().manual_seed(1))
    standardized = (x - encoder.standardize.mean) * encoder.standardize.scale
    expected = by_hand(encoder.state_dict(), standardized, training)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    features = encoder.train(training)(x)
    encoder.load_state_dict(before)
    assert features.shape == (4, 512)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_frames_are_encoded_one_by_one_and_averaged(encoder):
    frames = ResNet18Encoder((2, 3, 40, 33)).eval()
    state = encoder.state_dict()
    shapes = {name: tensor.shape for name, tensor in frames.state_dict().items()}
    frames.load_state_dict({name: tensor.reshape(shapes[name]) for name, tensor in state.items()})
    x = torch.randn(3, 2, 3, 40, 33)
    expected = (encoder.eval()(x[:, 0]) + encoder(x[:, 1])) / 2
    torch.testing.assert_close(frames(x), expected, atol=1e-5, rtol=1e-5)


def test_an_image_of_two_axes_has_one_channel():
    torch.manual_seed(0)
    flat = ResNet18Encoder((9, 11), 5).eval()
    torch.manual_seed(0)
    grey = ResNet18Encoder((1, 9, 11), 5).eval()
    x = torch.randn(3, 9, 11)
    torch.testing.assert_close(flat(x), grey(x.unsqueeze(1)))


@pytest.mark.parametrize("embedding_dim", [512, 64])
def test_a_projection_is_added_for_other_lengths(embedding_dim):
    encoder, n_features = build_encoder(
        "resnet18", "m", (2, 8, 8), is_signal=False, embedding_dim=embedding_dim, names=["m"]
    )
    assert n_features == embedding_dim
    assert encoder(torch.randn(2, 2, 8, 8)).shape == (2, embedding_dim)
    assert isinstance(encoder.projection, torch.nn.Identity) == (embedding_dim == 512)


def test_a_partial_sets_the_length_for_one_modality(data):
    encoder = {"image": functools.partial(ResNet18Encoder, embedding_dim=512)}
    clf = LateFusionClassifier(encoder=encoder, **FAST).fit(*data)
    assert clf.transform(data[0]).shape == (40, 512 + 64)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((10,), r"resnet18 needs samples of shape .*got \(10,\)"),
        ((1, 2, 3, 8, 8), r"resnet18 needs samples of shape .*got \(1, 2, 3, 8, 8\)"),
        ((4, 8, 8), r"1 to 3 channels, but samples of shape \(4, 8, 8\) have 4: .*grey frames.*transparency"),
        ((5, 8, 8, 3), r"samples of shape \(5, 8, 8, 3\) have 8: move the channels .*np\.moveaxis\(X, -1, 2\)"),
    ],
)
def test_shapes_that_are_no_images_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        ResNet18Encoder(shape)


def test_frames_name_the_encoder():
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 8\).*encoder={'x': 'resnet18'} for frames"):
        LateFusionClassifier(**FAST).fit({"x": np.zeros((6, 2, 3, 8, 8))}, [0, 1] * 3)


@pytest.mark.parametrize("shape", [(12, 9), (3, 12, 9), (2, 3, 12, 9)])
def test_rows_standardise_each_channel(shape):
    encoder = ResNet18Encoder(shape)
    n_channels = encoder.standardize.mean.numel()
    x = torch.randn(30, *shape) * 3 + 7
    fit_statistics(encoder, x.split(7))
    channels = encoder.standardize(x).reshape(-1, n_channels, 12, 9)
    torch.testing.assert_close(channels.mean((0, 2, 3)), torch.zeros(n_channels), atol=1e-4, rtol=0)
    torch.testing.assert_close(channels.std((0, 2, 3), correction=0), torch.ones(n_channels), atol=1e-4, rtol=0)


@pytest.mark.parametrize("largest, low", [(1, 0.2), (255, 0)])
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1)])
def test_imagenet_statistics_find_the_scale_of_pixels(largest, low, shape):
    standardize = ImageNetStandardize(shape)
    pixels = torch.tensor([low, 0.5, 1.0]).mul(largest).expand(*shape[:-1], 3)
    standardize.fit([pixels[None, ..., :2], pixels[None, ..., 2:]])
    white = standardize(torch.full(shape, float(largest))).flatten()
    torch.testing.assert_close(white, torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]))


def test_imagenet_statistics_of_grey_images_are_means():
    standardize = ImageNetStandardize((1, 1, 1))
    torch.testing.assert_close(standardize(torch.ones(1, 1, 1)), torch.full((1, 1, 1), (3 - 1.347) / 0.678))


@pytest.mark.parametrize("low, high", [(-0.1, 1), (0, 1.05), (0, 4), (0, 65535)])
def test_values_of_neither_scale_are_refused(low, high, data):
    encoder = functools.partial(ResNet18Encoder, statistics="imagenet")
    X = np.random.default_rng(0).uniform(low, high, (10, 3, 8, 8))
    X[3, 0, 0], X[4, 0, 0] = low, high
    with pytest.raises(ValueError, match=r"modality 'x' cannot be used: .*from 0 to 1 or .*statistics='rows'"):
        LateFusionClassifier(encoder=encoder, **FAST).fit({"x": X}, [0, 1] * 5)


def test_two_channels_have_no_imagenet_statistics():
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        ResNet18Encoder((2, 8, 8), statistics="imagenet")


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_fits_with_absent_rows(classifier, data):
    X, y = data
    clf = classifier(encoder={"image": "resnet18"}, **FAST | {"max_epochs": 6}).fit(X, y)
    has_image = ~np.isnan(X["image"][:, 0, 0, 0])
    assert (clf.predict_proba_per_modality(X)["image"].argmax(1) == y)[has_image].mean() > 0.9
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("classifier", [JointClassifier, LateFusionClassifier])
def test_fits_in_folds_repeat_and_do_not_depend_on_the_batch_size(classifier, data):
    X, y = data
    X = X | {"image": X["image"].reshape(40, 1, 3, 12, 12)}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    proba = []
    for _ in range(2):
        clf = classifier(encoder={"image": "resnet18"}, **FAST | {"cv": 2, "batch_size": 9}).fit(X, y)
        proba.append(clf.predict_proba(X))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(*proba)
    clf.batch_size = 1
    single = {name: block[:3] for name, block in X.items()}
    np.testing.assert_allclose(clf.predict_proba(single), proba[0][:3], atol=1e-5)


def test_batches_of_one_row_need_a_larger_image(data):
    with pytest.raises(ValueError, match=r"modality 'image' cannot train on one row at a time, but batch_size=1"):
        LateFusionClassifier(encoder={"image": "resnet18"}, **FAST, batch_size=1).fit(*data)
    X = {"image": np.random.default_rng(0).normal(size=(6, 33, 33))}
    clf = LateFusionClassifier(encoder="resnet18", **FAST, batch_size=1).fit(X, [0, 1] * 3)
    assert np.isfinite(clf.predict_proba(X)).all()
