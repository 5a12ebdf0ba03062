"""Weights of ResNet-18 from files: formats, wrappings, names, channels, and frozen layers."""

import functools

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier
from mmestim.encoders import ImageNetStandardize, ResNet18Encoder
from mmestim.encoders.weights import read_weights

FAST = {"cv": None, "max_epochs": 2, "random_state": 0, "device": "cpu"}
SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def state():
    """Return a state dict like that of torchvision.models.resnet18, with fc."""
    torch.manual_seed(0)
    state = {k: v for k, v in ResNet18Encoder(SHAPE).state_dict().items() if not k.startswith("standardize")}
    return state | {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "resnet18.pth"


def assert_loaded(encoder, state):
    for name, tensor in encoder.state_dict().items():
        if not name.startswith(("standardize.", "projection.")):
            assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3},
        lambda state: {"model_state_dict": {f"module.backbone.{name}": tensor for name, tensor in state.items()}},
        lambda state: {k: v for k, v in state.items() if not k.startswith("fc.") and "num_batches" not in k},
        lambda state: {k: v.double() for k, v in state.items()},
    ],
    ids=["plain", "state_dict", "model of DataParallel", "backbone", "without fc and counts", "float64"],
)
def test_state_dicts_load_in_their_wrappings(wrap, state, path):
    torch.save(wrap(state), path)
    encoder = ResNet18Encoder(SHAPE, weights=str(path))
    assert_loaded(encoder, state)
    assert encoder.conv1.weight.dtype == torch.float32
    assert type(encoder.standardize) is ImageNetStandardize


def test_safetensors_load(state, tmp_path):
    path = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(state, path)
    assert_loaded(ResNet18Encoder(SHAPE, 16, weights=path), state)


def test_one_channel_sums_the_kernels(state, path):
    torch.save(state, path)
    grey = ResNet18Encoder((8, 8), weights=path, statistics=None).eval()
    colour = ResNet18Encoder(SHAPE, weights=path, statistics=None).eval()
    x = torch.randn(2, 8, 8)
    torch.testing.assert_close(grey(x), colour(x.unsqueeze(1).expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def test_weights_of_one_channel_load_into_one_channel(path):
    trained = ResNet18Encoder((8, 8))
    torch.save({k: v for k, v in trained.state_dict().items() if "standardize" not in k}, path)
    assert_loaded(ResNet18Encoder((1, 8, 8), weights=path), trained.state_dict())
    with pytest.raises(ValueError, match=r"conv1\.weight is \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)"):
        ResNet18Encoder(SHAPE, weights=path)


def test_two_channels_are_refused(state, path):
    torch.save(state, path)
    with pytest.raises(ValueError, match="is for 3 channels, and can be used with 3 or 1, but samples have 2"):
        ResNet18Encoder((2, 8, 8), weights=path, statistics="rows")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("layer4.1.bn2.bias"), r"does not fit ResNet18Encoder: it lacks layer4\.1\.bn2\.bias\. Pass"),
        (lambda s: s.update({"layer1.0.conv3.weight": torch.ones(1)}), r"it has unexpected layer1\.0\.conv3\.weight\."),
        (lambda s: s.update({"bn1.weight": torch.ones(3)}), r"other shapes: bn1\.weight is \(3,\) instead of \(64,\)"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("layer4")], r"lacks layer4\.0.* and 20 more"),
    ],
)
def test_other_networks_are_refused_by_name(change, message, state, path):
    state = dict(state)
    change(state)
    torch.save(state, path)
    with pytest.raises(ValueError, match=message):
        ResNet18Encoder(SHAPE, weights=path)


@pytest.mark.parametrize(
    "content, message",
    [
        (nn.Linear(2, 3), r"damaged or holds more than tensors\. .*torch\.save\(model\.state_dict\(\), path\)"),
        ({"epoch": 3}, "holds a dict with epoch, expected a state dict"),
        ([torch.ones(2)], "holds a list, expected a state dict"),
    ],
)
def test_files_without_a_state_dict_are_refused(content, message, path):
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_weights(path)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_damaged_files_are_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x08no weights")
    with pytest.raises(ValueError, match=r"weights=.* cannot be read as a state dict"):
        read_weights(tmp_path / name)


def test_missing_files_and_other_types_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights='.*none\.pth' is no file\. Nothing is downloaded"):
        ResNet18Encoder(SHAPE, weights=tmp_path / "none.pth")
    with pytest.raises(TypeError, match="weights=True must be the path"):
        ResNet18Encoder(SHAPE, weights=True)
    with pytest.raises(ValueError, match="freeze=True needs weights"):
        ResNet18Encoder(SHAPE, freeze=True)


@pytest.mark.parametrize("classifier", [JointClassifier, LateFusionClassifier])
@pytest.mark.parametrize("embedding_dim", [8, 512])
def test_frozen_weights_stay_as_in_the_file(classifier, embedding_dim, state, path):
    torch.save(state, path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 30)
    image = (rng.integers(0, 100, (30, 3, 8, 8)) + 100 * y[:, None, None, None]).astype(np.uint8)
    X = {"image": image, "noise": rng.normal(size=(30, 2))}
    encoder = {"image": functools.partial(ResNet18Encoder, weights=path, freeze=True, embedding_dim=embedding_dim)}
    clf = classifier(encoder=encoder, **FAST).fit(X, y)
    trained = clf.module_.branch("image").encoder
    assert_loaded(trained, state)
    assert float(trained.standardize.mean.flatten()[0]) == pytest.approx(0.485 * 255)
    free = classifier(encoder={"image": functools.partial(ResNet18Encoder, weights=path)}, **FAST).fit(X, y)
    assert not torch.equal(free.module_.branch("image").encoder.conv1.weight, state["conv1.weight"])
