"""Encoders and balancers of the user, of which a file holds only the names."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from mmestim import JointClassifier, LateFusionClassifier, balancers, load, save
from mmestim.balancers import Balancer
from mmestim.encoders import choice as encoders

pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")


class UserEncoder(nn.Module):
    """Encoder with a buffer outside its state, which cannot be built on the meta device."""

    def __init__(self, input_shape, embedding_dim, scale=1.0):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(input_shape[0], embedding_dim), nn.BatchNorm1d(embedding_dim))
        self.register_buffer("table", torch.full((embedding_dim,), scale), persistent=False)
        if not np.isfinite(self.layer[0].weight.detach().numpy()).all():
            raise AssertionError

    def forward(self, x):
        return self.table * self.layer(x)


def make_user_encoder(input_shape, embedding_dim):
    return UserEncoder(input_shape, embedding_dim)


class UserBalancer(Balancer):
    def __init__(self, factor=0.5):
        self.factor = factor

    def build_head(self, sizes, n_classes):
        return balancers.MMCosine(20 * self.factor).build_head(sizes, n_classes)


def with_parameters(**parameters):
    return lambda parts: parts.fields["parameters"].update(parameters)


@pytest.mark.parametrize(
    "encoder, name",
    [
        (UserEncoder, "UserEncoder"),
        (make_user_encoder, "make_user_encoder"),
        (functools.partial(UserEncoder, scale=3.0), "UserEncoder"),
        (UserEncoder((64,), 8), "UserEncoder"),
    ],
    ids=["class", "function", "partial", "instance"],
)
def test_user_encoders_are_passed_to_load_by_name(
    encoder, name, digits, save_and_load, path, fast_options, assert_same_predictions
):
    X, y, modalities = digits
    clf = LateFusionClassifier(modalities, encoder={"pixels": encoder, "fourier": "linear"}, **fast_options).fit(X, y)
    assert_same_predictions(save_and_load(clf, modules={name: encoder}), clf, X)
    with pytest.raises(ValueError, match=rf"model\.mme.*modules={{'{name}': \.\.\.}}"):
        load(path)
    with pytest.raises(ValueError, match="its tensors do not match its parameters"):
        load(path, modules={name: nn.Linear(64, 8)})


def test_a_user_encoder_is_not_built_larger_than_the_file(digits, path, fast_options, forge):
    X, y, modalities = digits
    save(LateFusionClassifier(modalities, encoder=UserEncoder, **fast_options).fit(X, y), path)
    path.write_bytes(forge(path.read_bytes(), with_parameters(embedding_dim=10**9)))
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path, modules={"UserEncoder": UserEncoder})


@pytest.mark.parametrize("failing", ["pixels", "fourier"])
def test_only_user_encoders_take_memory_one_at_a_time(failing, digits, path, monkeypatch, fast_options):
    X, y, modalities = digits
    encoder = dict.fromkeys(modalities, UserEncoder) | {failing: "mlp"}
    save(LateFusionClassifier(modalities, encoder=encoder, **fast_options).fit(X, y), path)
    built_on = []

    def mlp(input_shape, embedding_dim):
        built_on.append(torch.empty(0).device.type)
        return encoders.MLPEncoder(input_shape, embedding_dim)

    def fail(input_shape):
        raise AssertionError

    monkeypatch.setitem(encoders.ENCODERS, "mlp", mlp)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path, modules={"UserEncoder": fail})
    assert set(built_on) <= {"meta"}
    built_on.clear()
    load(path, modules={"UserEncoder": UserEncoder})
    assert built_on == ["meta"]


def test_a_user_encoder_is_checked_before_the_next_is_built(digits, path, fast_options):
    X, y, modalities = digits
    save(LateFusionClassifier(modalities, encoder=UserEncoder, **fast_options).fit(X, y), path)
    built_on = []

    def build_wider(input_shape, embedding_dim):
        if torch.empty(0).is_meta:
            raise AssertionError
        built_on.append(torch.empty(0).device.type)
        return UserEncoder(input_shape, 2 * embedding_dim)

    with pytest.raises(ValueError, match="its tensors do not match its parameters"):
        load(path, modules={"UserEncoder": build_wider})
    assert len(built_on) == 1


class DriftingEncoder(UserEncoder):
    """Encoder that changes a non-persistent buffer in training."""

    def forward(self, x):
        if self.training:
            self.table += 0.01
        return super().forward(x)


def test_state_outside_persistent_buffers_is_refused(digits, path, fast_options, assert_same_predictions):
    X, y, modalities = digits
    clf = LateFusionClassifier(modalities, encoder={"pixels": DriftingEncoder}, **fast_options).fit(X, y)
    with pytest.raises(ValueError, match=r"encoder\.table' .* not persistent"):
        save(clf, path)
    clf.module_.branch("pixels").encoder.table.fill_(1.0)
    save(clf, path)
    assert_same_predictions(load(path, device="cpu", modules={"DriftingEncoder": DriftingEncoder}), clf, X)


def test_user_encoders_of_one_name_are_distinguished_by_modality(
    digits, save_and_load, fast_options, assert_same_predictions
):
    X, y, modalities = digits
    encoder = {"pixels": nn.Sequential(nn.Linear(64, 5)), "fourier": nn.Sequential(nn.Linear(34, 3), nn.Tanh())}
    clf = LateFusionClassifier(modalities, encoder=encoder, **fast_options).fit(X, y)
    modules = {f"{name}.Sequential": module for name, module in encoder.items()}
    assert_same_predictions(save_and_load(clf, modules=modules), clf, X)
    shared = LateFusionClassifier(modalities, encoder=dict.fromkeys(modalities, UserEncoder), **fast_options).fit(X, y)
    assert_same_predictions(save_and_load(shared, modules={"UserEncoder": UserEncoder}), shared, X)


def test_user_balancers_are_passed_to_load_by_name(digits, save_and_load, path, fast_options, assert_same_predictions):
    X, y, modalities = digits
    clf = JointClassifier(modalities, balancer=UserBalancer(0.25), **fast_options).fit(X, y)
    loaded = save_and_load(clf, modules={"UserBalancer": UserBalancer})
    assert_same_predictions(loaded, clf, X)
    assert loaded.balancer.factor == 0.25
    with pytest.raises(ValueError, match="'UserBalancer'"):
        load(path)
    with pytest.raises(ValueError, match="expected a subclass of"):
        load(path, modules={"UserBalancer": UserEncoder})
    with pytest.raises(ValueError, match="do not describe the fitted network"):
        save(clf.set_params(balancer=UserBalancer(0.5)), path)
    with pytest.raises(TypeError, match=r"factor=.*cannot be saved"):
        save(clf.set_params(balancer=UserBalancer(print)), path)


def test_an_encoder_without_a_name_is_refused(digits, path, fast_options):
    X, y, modalities = digits
    clf = LateFusionClassifier(
        modalities, encoder=lambda input_shape: nn.Linear(input_shape[0], 4), **fast_options
    ).fit(X, y)
    with pytest.raises(TypeError, match=r"encoder holds <function .*def"):
        save(clf, path)
    assert not path.exists()


@pytest.mark.parametrize(
    "make, changed",
    [
        (functools.partial(LateFusionClassifier, fusion="sum"), {"fusion": "mean"}),
        (functools.partial(JointClassifier, balancer=balancers.MMCosine()), {"balancer__scale": 11.0}),
        (functools.partial(JointClassifier, balancer=balancers.QMF()), {"balancer__temperature": 9.0}),
        (functools.partial(JointClassifier, encoder={"pixels": UserEncoder}), {"fusion": "gated"}),
        (functools.partial(JointClassifier, encoder={"pixels": UserEncoder}), {"encoder": "linear"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_changed_parameters_without_a_tensor_are_refused(make, changed, digits, path, fast_options):
    X, y, modalities = digits
    clf = make(modalities, **fast_options).fit(X, y)
    save(clf, path)
    path.unlink()
    with pytest.raises(ValueError, match="do not describe the fitted network"):
        save(clf.set_params(**changed), path)
    assert not path.exists()
