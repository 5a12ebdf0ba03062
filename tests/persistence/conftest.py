"""Fixtures of the tests of saved models."""

import importlib
import sys
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from mmestim import JointClassifier, load, save
from mmestim.datasets import load_digit_views


@pytest.fixture(scope="session")
def fast_options():
    """Return parameters of a classifier that is fitted quickly."""
    return {"max_epochs": 2, "embedding_dim": 8, "random_state": 0, "device": "cpu", "cv": None}


@pytest.fixture(scope="session")
def data_of_first_version():
    """Return the folder of a model that mmestim 0.1.0 saved, and of its predictions."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def digits():
    """Return rows, labels and modalities of two views of 150 digits."""
    bunch = load_digit_views(views=["pixels", "fourier"])
    return bunch.data[:150], bunch.target[:150], bunch.modalities


@pytest.fixture(scope="module")
def fitted(digits, fast_options):
    """Return a joint classifier that is fitted to the digits."""
    X, y, modalities = digits
    return JointClassifier(modalities, **fast_options).fit(X, y)


@pytest.fixture
def path(tmp_path):
    """Return the path of a model file."""
    return tmp_path / "model.mme"


@pytest.fixture
def save_and_load(path):
    """Return a function that saves an estimator and loads it again."""

    def call(estimator, **kwargs):
        save(estimator, path)
        return load(path, **{"device": "cpu"} | kwargs)

    return call


@pytest.fixture(scope="session")
def assert_same_predictions():
    """Return a function that compares all predictions of two classifiers."""

    def check(actual, expected, X):
        for method in ("predict", "predict_proba", "transform", "get_feature_names_out"):
            first, second = (getattr(clf, method)(X) for clf in (actual, expected))
            assert_array_equal(first, second)
            assert first.dtype == second.dtype
        actual_proba = actual.predict_proba_per_modality(X)
        for name, proba in expected.predict_proba_per_modality(X).items():
            assert_array_equal(actual_proba[name], proba)

    return check


@pytest.fixture(scope="module")
def fuzz_models():
    """Return the module benchmarks/fuzz_models.py."""
    pytest.importorskip("resource")
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("fuzz_models")
    sys.path.pop(0)
    sys.modules.pop("fuzz_models")


@pytest.fixture
def forge(fuzz_models):
    """Return a function that changes the parts of a file and updates its checksums."""

    def forge(blob, change):
        parts = fuzz_models.Parts(blob)
        change(parts)
        return parts.blob()

    return forge
