"""ONNX files of classifiers: equal to predict_proba for any number of rows, and refused where they would not be."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.pipeline import make_pipeline
from torch import nn

from mmestim import (
    JointClassifier,
    LateFusionClassifier,
    ModalityGapAnalyzer,
    ModalityGapClassifier,
    UDIClassifier,
    load,
    save,
    to_onnx,
)
from mmestim.balancers import MLA, QMF, MMCosine, ReconBoost

FAST = {"max_epochs": 2, "embedding_dim": 8, "random_state": 0, "device": "cpu", "cv": None}
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(0, 3, 40)


@pytest.fixture(scope="module")
def vectors(labels):
    """Return blocks of vectors, of which some rows lack either."""
    rng = np.random.default_rng(1)
    X = {"audio": rng.normal(size=(40, 5)) + labels[:, None], "text": rng.normal(size=(40, 4)) * [1, 10, 100, 1000]}
    X["audio"][::5], X["text"][1::5] = np.nan, np.nan
    return X


@pytest.fixture(scope="module")
def images(labels):
    """Return grey images, colour images with the channels in the last axis, and vectors."""
    rng = np.random.default_rng(2)
    return {
        "grey": rng.normal(size=(40, 9, 9)) + labels[:, None, None],
        "colour": rng.integers(0, 256, size=(40, 12, 10, 3), dtype=np.uint8),
        "audio": rng.normal(size=(40, 5)),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


@pytest.fixture
def export(path):
    """Return a function that exports a classifier and opens the file."""

    def call(clf):
        to_onnx(clf, path)
        onnx.checker.check_model(path, full_check=True)
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    return call


def run(session, X):
    """Return the probabilities of a file for a dict of blocks."""
    blocks = {put.name: np.asarray(X[put.name]).astype(TYPES[put.type]) for put in session.get_inputs()}
    [probabilities] = session.run(None, blocks)
    return probabilities


def assert_equal_predictions(session, clf, X):
    for n_rows in (1, 7, 40):
        rows = {name: block[:n_rows] for name, block in X.items()}
        np.testing.assert_allclose(run(session, rows), clf.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize("data", ["vectors", "images"])
@pytest.mark.parametrize(
    "classifier, settings",
    [
        (JointClassifier, {"cv": 2}),
        (LateFusionClassifier, {}),
        (ModalityGapClassifier, {}),
        (UDIClassifier, {"cv": 2}),
    ],
)
def test_a_file_predicts_as_its_classifier_for_any_number_of_rows(classifier, settings, data, labels, export, request):
    X = request.getfixturevalue(data)
    clf = classifier(**FAST | settings).fit(X, labels)
    assert_equal_predictions(export(clf), clf, X)


@pytest.mark.parametrize(
    "clf",
    [
        LateFusionClassifier(fusion="mean", **FAST),
        LateFusionClassifier(encoder="mlp", **FAST),
        JointClassifier(encoder={"text": nn.Linear(4, 6).requires_grad_(False)}, **FAST | {"cv": 2}),
        JointClassifier(encoder="linear", fusion="film", **FAST),
        JointClassifier(encoder={"audio": "conv1d"}, shapes={"audio": (5,)}, fusion="gated", **FAST),
        JointClassifier(balancer=MLA(), **FAST),
        JointClassifier(balancer=MMCosine(), **FAST),
        JointClassifier(balancer=QMF(), **FAST),
        JointClassifier(balancer=ReconBoost(stage_epochs=1, rectify_epochs=0), **FAST),
    ],
)
def test_every_fusion_and_encoder_is_exported(clf, vectors, labels, export):
    clf.fit(vectors, labels)
    assert_equal_predictions(export(clf), clf, vectors)


def test_a_table_is_fed_by_its_columns(vectors, labels, export):
    frame = pd.DataFrame(np.hstack([vectors["text"], vectors["audio"]])[:, ::-1], columns=list("abcdefghi"))
    clf = JointClassifier({"text": list("ihgf"), "audio": list("edcba")}, **FAST).fit(frame, labels)
    session = export(clf)
    names = json.loads(session.get_modelmeta().custom_metadata_map["feature_names"])
    assert names == {"text": list("ihgf"), "audio": list("edcba")}
    rows = {name: frame[columns] for name, columns in names.items()}
    np.testing.assert_allclose(run(session, rows), clf.predict_proba(frame), atol=1e-5)


def test_a_modality_far_from_zero_is_fed_as_float64(vectors, labels, export):
    X = {**vectors, "clock": 1.7e9 + labels[:, None] + np.random.default_rng(0).uniform(0, 0.5, (40, 1))}
    clf = LateFusionClassifier(**FAST).fit(X, labels)
    session = export(clf)
    assert [put.type for put in session.get_inputs()] == ["tensor(float)", "tensor(float)", "tensor(double)"]
    assert_equal_predictions(session, clf, X)


def test_rows_that_predict_proba_refuses_have_nan(vectors, labels, export):
    clf = JointClassifier(**FAST).fit(vectors, labels)
    X = {name: block[2:7].copy() for name, block in vectors.items()}
    X["audio"][0, 0], X["text"][1, 0], X["text"][2, 0] = np.nan, np.inf, 1e39
    X["audio"][3], X["text"][3] = np.nan, np.nan
    with np.errstate(over="ignore"):
        probabilities = run(export(clf), X)
    assert np.isnan(probabilities[:4]).all()
    for row in range(4):
        with pytest.raises(ValueError, match="Input X contains"):
            clf.predict_proba({name: block[[row]] for name, block in X.items()})
    valid = {name: block[4:] for name, block in X.items()}
    np.testing.assert_allclose(probabilities[4:], clf.predict_proba(valid), atol=1e-5)


def test_metadata(vectors, labels, export):
    clf = UDIClassifier(**FAST).fit(vectors, np.array(["no", "so", "ja"])[labels])
    session = export(clf)
    meta = session.get_modelmeta()
    assert meta.producer_name == "mmestim"
    assert meta.custom_metadata_map["estimator"] == "UDIClassifier"
    classes = np.array(json.loads(meta.custom_metadata_map["classes"]))
    np.testing.assert_array_equal(classes[run(session, vectors).argmax(1)], clf.predict(vectors))
    assert [(put.name, put.shape) for put in session.get_inputs()] == [
        ("audio", ["n_samples", 5]),
        ("text", ["n_samples", 4]),
    ]
    assert [(put.name, put.shape) for put in session.get_outputs()] == [("probabilities", ["n_samples", 3])]


def test_a_file_holds_no_paths_of_the_source_code(vectors, labels, path):
    to_onnx(JointClassifier(**FAST).fit(vectors, labels), path)
    assert b".py" not in path.read_bytes()


def test_names_of_modalities_may_be_those_of_operators(vectors, labels, export):
    X = {"linear": vectors["audio"], "val_0": vectors["text"], "a b.c/d": vectors["audio"]}
    clf = JointClassifier(**FAST).fit(X, labels)
    assert_equal_predictions(export(clf), clf, X)


def test_a_loaded_classifier_is_exported(vectors, labels, tmp_path, export):
    clf = LateFusionClassifier(**FAST).fit(vectors, labels)
    save(clf, tmp_path / "model.mme")
    assert_equal_predictions(export(load(tmp_path / "model.mme", device="cpu")), clf, vectors)


# Encoders of users ------------------------------------------------------------------------------


class Words(nn.Module):
    """Mean of word vectors."""

    input_dtype = torch.int64

    def __init__(self, embedding_dim):
        super().__init__()
        self.vectors = nn.Embedding(50, embedding_dim)

    def forward(self, x):
        return self.vectors(x).mean(dim=1)


class Branching(nn.Linear):
    """Layer that depends on a value of the batch."""

    def __init__(self, input_shape):
        super().__init__(input_shape[0], 4)

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Counting(Branching):
    """Layer that fixes the number of rows."""

    def forward(self, x):
        return nn.Linear.forward(self, x) + torch.zeros(len(x), 4)


class Detached(Branching):
    """Layer that leaves torch."""

    def forward(self, x):
        return nn.Linear.forward(self, torch.from_numpy(x.numpy() + 1))


def test_integers_are_checked_by_the_file(vectors, labels, export):
    words = np.random.default_rng(0).integers(0, 50, size=(40, 6))
    clf = LateFusionClassifier(encoder={"words": Words}, **FAST).fit({"words": words, **vectors}, labels)
    session = export(clf)
    assert_equal_predictions(session, clf, {"words": words, **vectors})
    broken = words.astype(float)
    broken[1, 0], broken[2, 0], broken[3] = 0.5, 2.0**25, np.nan
    probabilities = run(session, {"words": broken, **vectors})
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(probabilities).any(1)), [1, 2])
    present = {"words": broken[3:], **{name: block[3:] for name, block in vectors.items()}}
    np.testing.assert_allclose(probabilities[3:], clf.predict_proba(present), atol=1e-5)


@pytest.mark.parametrize("encoder", [Branching, Counting, Detached])
def test_encoders_that_no_graph_can_hold_are_refused(encoder, labels, path):
    X = np.random.default_rng(0).normal(size=(40, 5))
    clf = JointClassifier(encoder=encoder, **FAST).fit(X, labels)
    path.write_text("old")
    with pytest.raises(ValueError, match=r"network of JointClassifier cannot be exported: .*same torch operations"):
        to_onnx(clf, path)
    assert path.read_text() == "old"


# Refusals ---------------------------------------------------------------------------------------


def test_other_objects_are_refused(fitted, digits, path):
    for other in (make_pipeline(fitted), ModalityGapAnalyzer(), "model"):
        with pytest.raises(TypeError, match=r"to_onnx expects a fitted JointClassifier.*best_estimator_"):
            to_onnx(other, path)


def test_a_subclass_with_its_own_predictions_is_refused(digits, path):
    class Doubtful(JointClassifier):
        def predict_proba(self, X):
            return super().predict_proba(X) / 2

    with pytest.raises(TypeError, match="Doubtful overrides predict_proba"):
        to_onnx(Doubtful(), path)


def test_a_modality_with_the_name_of_the_output_is_refused(vectors, labels, path):
    clf = JointClassifier(**FAST).fit({"probabilities": vectors["audio"], "text": vectors["text"]}, labels)
    with pytest.raises(ValueError, match="'probabilities' has the name of the output"):
        to_onnx(clf, path)


@pytest.mark.parametrize("unit", ["D", "ns"])
def test_labels_that_a_file_cannot_hold_are_refused(unit, vectors, labels, path):
    clf = JointClassifier(**FAST).fit(vectors, labels.astype(f"datetime64[{unit}]"))
    with pytest.raises(ValueError, match=r"classes_ has labels that a file cannot hold, such as .*datetime64"):
        to_onnx(clf, path)


def test_networks_beyond_the_limit_of_the_format_are_refused(fitted, path, monkeypatch):
    monkeypatch.setattr("mmestim.persistence.onnx._MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"has \d+ bytes, but an ONNX file holds less than 2 GiB"):
        to_onnx(fitted, path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_names_the_extra(package, fitted, path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"requires the package {package}: pip install 'mmestim\[onnx\]'"):
        to_onnx(fitted, path)
