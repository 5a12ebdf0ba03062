"""Frozen encoders: their features are computed once, and the results are those of computing them in every epoch."""

import copy
import random

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import mmestim
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.encoders import MLPEncoder, RandomCropFlip, Standardize, TextEncoder
from mmestim.multimodal import fit_context

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"max_epochs": 5, "random_state": 0, "device": "cpu", "cv": None}
CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]


class Backbone(nn.Module):
    """Network that was trained elsewhere; its class counts the rows that it reads."""

    n_rows = 0

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(4, 6, generator=generator), requires_grad=False)
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(6, affine=False)
        self.norm.running_mean += 0.5

    def forward(self, x):
        if not torch.compiler.is_compiling():
            Backbone.n_rows += len(x)
        return self.dropout(self.norm(x @ self.weight)).tanh()


@pytest.fixture
def frozen():
    Backbone.n_rows = 0
    return Backbone()


@pytest.fixture
def without_cache(monkeypatch):
    """Function that turns the cache off: a frozen encoder runs in eval mode in every epoch."""

    def turn_off():
        monkeypatch.setattr(fit_context.FitContext, "freeze", lambda *args: None)
        monkeypatch.setattr(Backbone, "train", lambda self, mode=True: nn.Module.train(self, False))

    return turn_off


@pytest.fixture
def absent(data):
    """The data, where a tenth of the rows lacks a modality."""
    X, y = data[0].copy(), data[1]
    X[::10, GROUPS["image"]] = np.nan
    X[5::10, GROUPS["text"]] = np.nan
    return X, y


def outputs(clf, X):
    return [clf.predict_proba(X), clf.transform(X), *clf.predict_proba_per_modality(X).values()]


@pytest.mark.parametrize("max_memory", [1024, 0])
@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_results_equal_those_of_every_epoch(classifier, cv, max_memory, absent, frozen, without_cache):
    encoder = {"image": frozen, "text": "mlp"}
    clf = classifier(GROUPS, encoder=encoder, max_memory=max_memory, **FAST | {"cv": cv})
    cached = outputs(clf.fit(*absent), absent[0])
    without_cache()
    Backbone.n_rows = 0
    expected = outputs(clone(clf).fit(*absent), absent[0])
    assert Backbone.n_rows > 5 * len(absent[1])
    for values, others in zip(cached, expected, strict=True):
        np.testing.assert_allclose(values, others, atol=1e-6)


def test_results_with_every_balancing_method_equal_those_of_every_epoch(balancer, absent, frozen, without_cache):
    clf = JointClassifier(GROUPS, encoder={"image": frozen}, balancer=balancer, **FAST)
    cached = outputs(clf.fit(*absent), absent[0])
    without_cache()
    for values, others in zip(cached, outputs(clone(clf).fit(*absent), absent[0]), strict=True):
        np.testing.assert_allclose(values, others, atol=1e-6)


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_features_are_computed_once(classifier, cv, absent, frozen):
    n_present = int((~np.isnan(absent[0][:, 4])).sum())
    clf = classifier(GROUPS, encoder={"image": frozen}, **FAST | {"cv": cv}).fit(*absent)
    # Two zeros give the number of features, and the two extreme rows are tried twice.
    assert Backbone.n_rows == n_present + 2 + 4
    Backbone.n_rows = 0
    clf.predict(absent[0])
    assert Backbone.n_rows == n_present  # once for all networks


def test_a_frozen_encoder_does_not_change(data, frozen):
    clf = JointClassifier(GROUPS, encoder={"image": frozen, "text": frozen}, **FAST | {"cv": 2}).fit(*data)
    for name in ("image", "text"):
        for encoder in clf.module_.branch(name).encoder.encoders:
            assert isinstance(encoder, Backbone)
            assert not encoder.training
            assert encoder is not frozen
            for key, value in frozen.state_dict().items():
                torch.testing.assert_close(encoder.state_dict()[key], value)
    assert frozen.training


def test_all_encoders_may_be_frozen(data, frozen):
    assert UDIClassifier(GROUPS, encoder=frozen, **FAST | {"cv": 2}).fit(*data).score(*data) > 0.5
    clf = JointClassifier(GROUPS, encoder=Backbone, lr={"image": 0.1, "head": 0.02}, **FAST | {"max_epochs": 30})
    assert clf.fit(*data).score(*data) > 0.5


def test_ensemble_of_one_network_has_the_encoder(data, frozen):
    clf = UDIClassifier(GROUPS, encoder={"text": frozen}, ensemble=False, follower_init="warm", **FAST | {"cv": 2})
    assert isinstance(clf.fit(*data).module_.branch("text").encoder, Backbone)


@pytest.mark.parametrize("cv", [None, 2])
def test_files_and_pickles_have_the_encoder(cv, tmp_path, absent, frozen):
    clf = LateFusionClassifier(GROUPS, encoder={"image": frozen}, **FAST | {"cv": cv}).fit(*absent)
    mmestim.save(clf, tmp_path / "model.mme")
    loaded = mmestim.load(tmp_path / "model.mme", modules={"Backbone": frozen})
    for other in (loaded, copy.deepcopy(clf)):
        np.testing.assert_allclose(other.predict_proba(absent[0]), clf.predict_proba(absent[0]), atol=1e-6)


@pytest.mark.parametrize("cv", [None, 2])
def test_the_network_can_be_exported(cv, data, frozen):
    X = data[0]
    clf = JointClassifier(GROUPS, encoder={"image": frozen}, **FAST | {"cv": cv}).fit(*data)
    blocks = {name: torch.from_numpy(X[:, columns]) for name, columns in clf.modalities_.items()}
    few = {name: block[:4] for name, block in blocks.items()}
    n_rows = {name: {0: torch.export.Dim("n_rows")} for name in blocks}
    program = torch.export.export(clf.module_, (few,), dynamic_shapes=(n_rows,))
    with torch.no_grad():
        logits, _ = program.module()(blocks)
    np.testing.assert_allclose(torch.softmax(logits, dim=1), clf.predict_proba(X), atol=1e-6)


def test_a_resumed_fit_computes_the_features_again(tmp_path, data, frozen):
    clf = UDIClassifier(GROUPS, encoder={"image": frozen}, checkpoint=tmp_path, **FAST).fit(*data)
    again = clone(clf).fit(*data)
    np.testing.assert_array_equal(again.predict_proba(data[0]), clf.predict_proba(data[0]))


def test_input_dtype_and_images_reach_the_encoder():
    class Pixels(nn.Module):
        input_dtype = torch.int64

        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(256, 2).requires_grad_(False)

        def forward(self, x):
            assert x.shape[1:] == (3, 8, 8)
            return self.table(x).mean(dim=(2, 3)).flatten(1)

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    X = {"photo": rng.integers(0, 128, (60, 8, 8, 3)) + 100 * y[:, None, None, None], "audio": rng.normal(size=(60, 5))}
    clf = JointClassifier(encoder={"photo": Pixels}, **FAST | {"max_epochs": 30}).fit(X, y)
    assert clf.score(X, y) > 0.6
    assert clf.transform(X).shape == (60, 6 + 64)


# Encoders that count as frozen -------------------------------------------------------------------------------


class Noise(nn.Module):
    """Augmentation in training mode."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x + self.draw() if self.training else x


DRAWS = [lambda: torch.randn(()), lambda: np.random.normal(), random.random]  # noqa: NPY002


@pytest.mark.parametrize("draw", DRAWS, ids=["torch", "numpy", "python"])
def test_augmentation_is_not_cached(draw, data, frozen):
    encoder = nn.Sequential(Noise(draw), frozen)
    with pytest.warns(UserWarning, match="'image' has no parameter .* draws random numbers.*encoder.eval"):
        clf = JointClassifier(GROUPS, encoder={"image": encoder}, **FAST).fit(*data)
    assert Backbone.n_rows > 5 * 0.9 * len(data[1])
    assert clf.module_.branch("image").encoder[1].norm.num_batches_tracked > 0  # in training mode
    Backbone.n_rows = 0
    JointClassifier(GROUPS, encoder={"image": encoder.eval()}, **FAST).fit(*data)
    assert Backbone.n_rows == len(data[1]) + 2 + 4


@pytest.mark.parametrize(
    "encoder",
    [
        nn.Sequential(nn.Linear(4, 6).requires_grad_(False), nn.Linear(6, 6)),
        nn.Sequential(nn.Dropout(0.5), nn.Flatten()),
        MLPEncoder((4,), 6).requires_grad_(False),  # standardised by the training rows
    ],
    ids=["partly trainable", "no parameters", "no statistics"],
)
def test_other_encoders_are_computed_in_every_epoch(encoder, monkeypatch, data):
    frozen = []
    monkeypatch.setattr(fit_context.FitContext, "freeze", lambda self, name, *args: frozen.append(name))
    JointClassifier(GROUPS, encoder={"image": encoder}, **FAST).fit(*data)
    assert frozen == []


@pytest.mark.parametrize("cv", [None, 2])
def test_the_input_of_a_frozen_encoder_behind_an_augmentation_is_known(cv, data):
    tokens, y = np.random.default_rng(0).integers(1, 50, (len(data[1]), 4)), data[1]
    encoder = nn.Sequential(RandomCropFlip(), TextEncoder((4,), 6, vocabulary_size=50)).requires_grad_(False).eval()
    clf = JointClassifier(encoder={"tokens": encoder}, **FAST | {"cv": cv})
    X = {"tokens": tokens, "other": data[0][:, :4]}
    branch = clf.fit(X, y).module_.branch("tokens")
    assert (branch.input_dtype, branch.input_range) == (torch.int64, (0, 49))
    assert clf.predict(X).shape == y.shape


def test_a_fitted_built_in_encoder_may_be_frozen(data):
    encoder = MLPEncoder((4,), 6).requires_grad_(False)
    assert isinstance(encoder.standardize, Standardize)
    encoder.standardize.fit([torch.from_numpy(data[0][:, 4:8])])
    clf = JointClassifier(GROUPS, encoder={"image": encoder}, **FAST).fit(*data)
    torch.testing.assert_close(clf.module_.branch("image").encoder.state_dict(), encoder.state_dict())


def test_errors_name_the_modality(data):
    class Picky(Backbone):
        def forward(self, x):
            if x.any():
                raise RuntimeError("no values please")
            return super().forward(x)

    with pytest.raises(ValueError, match=r"encoder for modality 'image' fails on rows with values from .*no values"):
        JointClassifier(GROUPS, encoder={"image": Picky}, **FAST).fit(*data)


def test_a_note_names_the_frozen_encoder(capsys, data, frozen):
    JointClassifier(GROUPS, encoder={"image": frozen}, verbose=1, **FAST).fit(*data)
    assert "features of 'image' are computed once, because its encoder is frozen" in capsys.readouterr().out
