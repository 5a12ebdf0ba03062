"""Encoder of token ids: the mean by hand, the vocabulary, and fits."""

import functools

import numpy as np
import pytest
import torch

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.balancers import AGM
from mmestim.encoders import TextEncoder

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
FAST = {"cv": None, "max_epochs": 2, "random_state": 0, "device": "cpu"}
SMALL = functools.partial(TextEncoder, vocabulary_size=100)


@pytest.fixture(scope="module")
def data():
    """Return padded token ids below 100 that give the class away, and noise; masked rows have no text."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    ids = rng.integers(1, 50, (60, 9)) + 50 * y[:, None]
    ids[np.arange(9) >= rng.integers(3, 10, 60)[:, None]] = 0
    ids = np.ma.masked_array(ids, np.zeros(ids.shape, dtype=bool))
    ids[::6] = np.ma.masked
    return {"text": ids, "noise": rng.normal(size=(60, 3))}, y


def test_features_by_hand():
    encoder = TextEncoder((4,), 3, vocabulary_size=10)
    vectors, (layer, _) = encoder.embedding.weight, encoder.layers
    means = torch.stack([(2 * vectors[7] + vectors[9]) / 3, vectors[1], torch.zeros(3)])
    expected = torch.relu(means @ layer.weight.T + layer.bias)
    torch.testing.assert_close(encoder(torch.tensor([[7, 0, 9, 7], [0, 0, 0, 1], [0, 0, 0, 0]])), expected)


def test_padding_has_no_gradient():
    encoder = TextEncoder((3,), 4, vocabulary_size=5)
    encoder(torch.tensor([[1, 0, 0], [2, 3, 0]])).sum().backward()
    assert not encoder.embedding.weight.grad[[0, 4]].any()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"input_shape": (4, 5)}, ValueError, r"samples of shape \(length,\) .*got \(4, 5\)"),
        ({"vocabulary_size": 1}, ValueError, "vocabulary_size=1 must be at least 2"),
        ({"vocabulary_size": 2**24 + 1}, ValueError, "vocabulary_size=.* at most 16777216"),
        ({"vocabulary_size": 10.0}, TypeError, r"vocabulary_size=10\.0 must be an integer"),
    ],
)
def test_bad_parameters_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TextEncoder(**{"input_shape": (4,), "embedding_dim": 8} | arguments)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_tokens_are_learnt(classifier, data):
    X, y = data
    clf = classifier(encoder={"text": SMALL}, **FAST | {"max_epochs": 30, "lr": 0.01}).fit(X, y)
    has_text = np.arange(60) % 6 > 0
    assert (clf.predict_proba_per_modality(X)["text"].argmax(1) == y)[has_text].mean() > 0.9
    assert np.isnan(clf.predict_proba_per_modality(X)["text"][~has_text]).all()


def test_the_name_has_a_vocabulary_of_32768(data):
    X, y = data
    clf = LateFusionClassifier(encoder={"text": "text"}, **FAST | {"cv": 2}).fit(X, y)
    assert clf.predict_proba({"text": np.full((1, 9), 32767), "noise": X["noise"][:1]}).shape == (1, 2)
    with pytest.raises(ValueError, match=r"'text' has the value 32768, but its encoder takes values from 0 to 32767"):
        clf.predict({"text": np.full((1, 9), 32768), "noise": X["noise"][:1]})


@pytest.mark.parametrize("cv", [None, 2])
@pytest.mark.parametrize("value", [-1, 100, 5000])
def test_ids_outside_the_vocabulary_are_refused(value, cv, data):
    X, y = data
    changed = X | {"text": X["text"].copy()}
    changed["text"][4, 2] = value
    clf = LateFusionClassifier(encoder={"text": SMALL}, **FAST | {"cv": cv}).fit(X, y)
    message = rf"modality 'text' has the value {value}, but .* from 0 to 99\. .*TextEncoder, vocabulary_size="
    for fit_or_predict in (clf.predict, lambda X: clf.fit(X, y)):
        with pytest.raises(ValueError, match=message):
            fit_or_predict(changed)


def test_ids_that_are_no_integers_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match=r"modality 'noise' has the value .*must be integers"):
        LateFusionClassifier(encoder={"noise": "text", "text": SMALL}, **FAST).fit(X, y)


def test_a_limit_of_a_user_s_encoder_is_checked(data):
    class Limited(torch.nn.Linear):
        input_range = (0.0, 60.0)

        def __init__(self):
            super().__init__(9, 4)

    with pytest.raises(ValueError, match=r"modality 'text' has the value .* takes values from 0 to 60"):
        LateFusionClassifier(encoder={"text": Limited}, **FAST).fit(*data)
    Limited.input_range = 60
    with pytest.raises(TypeError, match=r"input_range=60 of the encoder for modality 'text' must be a tuple"):
        LateFusionClassifier(encoder={"text": Limited}, **FAST).fit(*data)


def test_agm_mutes_tokens_by_padding(data):
    clf = JointClassifier(encoder={"text": SMALL}, balancer=AGM(), **FAST).fit(*data)
    assert np.isfinite(clf.predict_proba(data[0])).all()


def test_fits_repeat(data):
    fits = [LateFusionClassifier(encoder={"text": SMALL}, **FAST | {"cv": 2}).fit(*data) for _ in range(2)]
    np.testing.assert_array_equal(*(clf.predict_proba(data[0]) for clf in fits))
