"""Models as files: what comes back, what is refused, and that neither costs the old file or the memory."""

import functools
import importlib
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from mmestim import (
    JointClassifier,
    LateFusionClassifier,
    ModalityGapAnalyzer,
    ModalityGapClassifier,
    UDIClassifier,
    balancers,
    gap_scores,
    load,
    save,
)
from mmestim.__main__ import main
from mmestim.balancers import OGM, Balancer
from mmestim.datasets import load_digit_views
from mmestim.encoders import choice as encoders

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
METHODS = [value for value in vars(balancers).values() if isinstance(value, type) and issubclass(value, Balancer)]
METHODS.remove(Balancer)
FAST = {"max_epochs": 2, "embedding_dim": 8, "random_state": 0, "device": "cpu"}
LABELS = {
    "text": np.array(["zero", "a one", "two"]),
    "objects": np.array(["b", "é", "long name"], dtype=object),
    "integers": np.array([-5, 7, 2**40]),
    "bytes": np.array([3, 4, 200], dtype=np.uint8),
    "booleans": np.array([False, True]),
    "floats": np.array([0.0, 1.0, 4.0]),
}
DATA = Path(__file__).parent / "data"

pytestmark = pytest.mark.filterwarnings("ignore:max_epochs:sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    found = load_digit_views(views=["pixels", "fourier"])
    return found.data[:150], found.target[:150], found.modalities


@pytest.fixture(scope="module")
def fitted(digits):
    X, y, modalities = digits
    return JointClassifier(modalities, **FAST).fit(X, y)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.mme"


@pytest.fixture
def there_and_back(path):
    def call(estimator, **kwargs):
        save(estimator, path)
        return load(path, **{"device": "cpu"} | kwargs)

    return call


def assert_same_answers(one, other, X):
    for method in ("predict", "predict_proba", "transform", "get_feature_names_out"):
        first, second = (getattr(clf, method)(X) for clf in (one, other))
        assert_array_equal(first, second)
        assert first.dtype == second.dtype
    alone = other.predict_proba_per_modality(X)
    for name, expected in one.predict_proba_per_modality(X).items():
        assert_array_equal(alone[name], expected)


# What comes back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_answers_are_identical_with_absent_modalities_too(classifier, precision, digits, there_and_back):
    X, y, modalities = digits
    with_absent = X.copy()
    with_absent[::3, modalities["pixels"]] = np.nan
    clf = classifier(modalities, precision=precision, **FAST).fit(with_absent, y)
    loaded = there_and_back(clf)
    for rows in (X, with_absent):
        assert_same_answers(loaded, clf, rows)
    assert type(loaded) is classifier
    assert loaded.get_params() == clf.get_params()
    assert (loaded.device_, loaded.n_iter_, loaded.n_features_in_) == ("cpu", clf.n_iter_, clf.n_features_in_)
    assert loaded.score(X, y) == clf.score(X, y)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_keep_their_type(labels, digits, there_and_back):
    X, y, modalities = digits
    clf = LateFusionClassifier(modalities, **FAST).fit(X, labels[y % len(labels)])
    loaded = there_and_back(clf)
    assert_array_equal(loaded.predict(X), clf.predict(X))
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert [type(label) for label in loaded.classes_.tolist()] == [type(label) for label in clf.classes_.tolist()]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_every_balancer(method, digits, there_and_back):
    X, y, modalities = digits
    clf = JointClassifier(modalities, balancer=method(), **FAST).fit(X, y)
    loaded = there_and_back(clf)
    assert_same_answers(loaded, clf, X)
    assert type(loaded.balancer) is method
    assert loaded.balancer.get_params() == method().get_params()


@pytest.mark.parametrize("fusion", ["concat", "sum", "gated", "film"])
def test_every_fusion(fusion, digits, there_and_back):
    X, y, modalities = digits
    clf = JointClassifier(modalities, fusion=fusion, unimodal_weight=0.5, **FAST).fit(X, y)
    assert_same_answers(there_and_back(clf), clf, X)


@pytest.mark.parametrize("encoder", ["auto", "linear", {"pixels": "conv2d", "fourier": "conv1d"}])
def test_every_encoder_name(encoder, digits, there_and_back):
    X, y, modalities = digits
    shapes = {"pixels": (8, 8), "fourier": (34,)}
    clf = LateFusionClassifier(modalities, encoder=encoder, shapes=shapes, fusion="mean", **FAST).fit(X, y)
    loaded = there_and_back(clf)
    assert_same_answers(loaded, clf, X)
    assert loaded.shapes_ == shapes


def test_column_names_of_a_frame_and_of_a_dict_of_frames(digits, there_and_back):
    pandas = pytest.importorskip("pandas")
    X, y, _ = digits
    frame = pandas.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    groups = {"a": frame.columns[1::2], "b": list(frame.columns[::2])}
    clf = LateFusionClassifier(groups, **FAST).fit(frame, y)
    loaded = there_and_back(clf)
    assert_same_answers(loaded, clf, frame)
    assert_array_equal(loaded.feature_names_in_, clf.feature_names_in_)
    clf.fit(frame, pandas.Series(np.array(["odd", "even"])[y % 2]).astype("category"))
    assert_same_answers(there_and_back(clf), clf, frame)
    blocks = {name: frame[list(columns)] for name, columns in groups.items()}
    clf = LateFusionClassifier(**FAST).fit(blocks, y)
    loaded = there_and_back(clf)
    assert_same_answers(loaded, clf, blocks)
    with pytest.raises(ValueError, match="should match those of fit"):
        loaded.predict(blocks | {"a": blocks["a"][list(groups["a"][::-1])]})


def test_the_analyzer(fitted, digits, there_and_back):
    X, y, _ = digits
    scores = np.column_stack([gap_scores(fitted, X, y)[:, 0], y / 10])
    analyzer = ModalityGapAnalyzer(min_variance=1e-3).fit(scores)
    loaded = there_and_back(analyzer)
    for method in ("transform", "predict", "gap", "score_samples"):
        assert_array_equal(getattr(loaded, method)(scores), getattr(analyzer, method)(scores))
    assert {**vars(loaded), **vars(analyzer)}.keys() == vars(analyzer).keys() == vars(loaded).keys()
    assert_array_equal(loaded.bic_, analyzer.bic_)


def test_parameters_come_back_or_are_said_to_be_left_out(digits, there_and_back, path):
    X, y, modalities = digits
    kept = {
        "guidance": (1.0, 0.5),
        "class_weight": {np.int64(label): 1.0 + label for label in range(10)},
        "optimizer": torch.optim.RMSprop,
        "max_grad_norm": np.float32(2),
        "device": torch.device("cpu"),
        "modalities": {name: np.arange(300)[columns] for name, columns in modalities.items()},
    }
    lost = {"callbacks": [Callback()], "random_state": np.random.RandomState(0)}
    clf = UDIClassifier(**FAST | kept | lost).fit(X, y)
    loaded = there_and_back(clf)
    params = loaded.get_params()
    for name, columns in params.pop("modalities").items():
        assert_array_equal(columns, kept["modalities"][name])
    kept.pop("modalities")
    assert {name: params[name] for name in kept} == kept
    assert all(params[name] is None for name in lost)
    assert main(["info", str(path)]) == 0
    assert (loaded.anchor_, loaded.order_, loaded.branch_scores_) == (clf.anchor_, clf.order_, clf.branch_scores_)
    gap = ModalityGapClassifier(modalities, cv=StratifiedKFold(2), **FAST).fit(X, y)
    assert there_and_back(gap).cv == 3


def test_what_belongs_to_training_stays_behind(digits, there_and_back):
    X, y, modalities = digits
    clf = JointClassifier(modalities, balancer=OGM(), **FAST).fit(X, y)
    assert set(vars(clf)) - set(vars(there_and_back(clf))) == {"balancer_", "balance_history_", "history_"}


def test_a_loaded_model_goes_on_as_any_other(fitted, digits, there_and_back, tmp_path):
    X, y, _ = digits
    loaded = there_and_back(fitted)
    assert_array_equal(pickle.loads(pickle.dumps(loaded)).predict_proba(X), fitted.predict_proba(X))
    save(loaded, tmp_path / "again.mme")
    assert (tmp_path / "again.mme").read_bytes() == (tmp_path / "model.mme").read_bytes()
    assert_array_equal(loaded.fit(X, y).predict_proba(X), fitted.predict_proba(X))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_fitted_on_a_gpu(digits, there_and_back, precision):
    X, y, modalities = digits
    clf = JointClassifier(modalities, precision=precision, **FAST | {"device": "cuda"}).fit(X, y)
    assert_same_answers(there_and_back(clf, device="auto"), clf, X)
    on_cpu = there_and_back(clf, device="cpu")
    assert {parameter.device.type for parameter in on_cpu.module_.parameters()} == {"cpu"}
    np.testing.assert_allclose(
        on_cpu.predict_proba(X), clf.predict_proba(X), atol=1e-4 if precision == "float32" else 0.05
    )


def test_neither_way_touches_torch(fitted, path):
    before = torch.get_rng_state()
    save(fitted, path)
    load(path)
    assert torch.equal(before, torch.get_rng_state())


# Networks of the user's own -----------------------------------------------------------------------


class Own(nn.Module):
    """Its table is not in its state, and no sketch without memory can be made of it."""

    def __init__(self, input_shape, embedding_dim, scale=1.0):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(input_shape[0], embedding_dim), nn.BatchNorm1d(embedding_dim))
        self.register_buffer("table", torch.full((embedding_dim,), scale), persistent=False)
        if not np.isfinite(self.layer[0].weight.detach().numpy()).all():
            raise AssertionError

    def forward(self, x):
        return self.table * self.layer(x)


def make_own(input_shape, embedding_dim):
    return Own(input_shape, embedding_dim)


class OwnMethod(Balancer):
    def __init__(self, factor=0.5):
        self.factor = factor

    def build_head(self, sizes, n_classes):
        return balancers.MMCosine(20 * self.factor).build_head(sizes, n_classes)


@pytest.mark.parametrize(
    "encoder, name",
    [(Own, "Own"), (make_own, "make_own"), (functools.partial(Own, scale=3.0), "Own"), (Own((64,), 8), "Own")],
    ids=["class", "function", "partial", "instance"],
)
def test_own_encoders_are_named_on_load(encoder, name, digits, there_and_back, path):
    X, y, modalities = digits
    clf = LateFusionClassifier(modalities, encoder={"pixels": encoder, "fourier": "linear"}, **FAST).fit(X, y)
    assert_same_answers(there_and_back(clf, modules={name: encoder}), clf, X)
    with pytest.raises(ValueError, match=rf"model\.mme.*modules={{'{name}': \.\.\.}}"):
        load(path)
    with pytest.raises(ValueError, match="its tensors are not those of its parameters"):
        load(path, modules={name: nn.Linear(64, 8)})


def test_an_own_encoder_gets_no_size_that_the_file_does_not_have(fuzz_models, digits, path):
    X, y, modalities = digits
    save(LateFusionClassifier(modalities, encoder=Own, **FAST).fit(X, y), path)
    path.write_bytes(forged(fuzz_models, path.read_bytes(), with_parameters(embedding_dim=10**9)))
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path, modules={"Own": Own})


@pytest.mark.parametrize("failing", ["pixels", "fourier"])
def test_only_what_is_given_takes_memory_and_one_after_the_other(failing, digits, path, monkeypatch):
    X, y, modalities = digits
    encoder = dict.fromkeys(modalities, Own) | {failing: "mlp"}
    save(LateFusionClassifier(modalities, encoder=encoder, **FAST).fit(X, y), path)
    made = []

    def mlp(input_shape, embedding_dim):
        made.append(torch.empty(0).device.type)
        return encoders.MLPEncoder(input_shape, embedding_dim)

    def fails(input_shape):
        raise AssertionError

    monkeypatch.setitem(encoders.ENCODERS, "mlp", mlp)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path, modules={"Own": fails})
    assert set(made) <= {"meta"}
    made.clear()
    load(path, modules={"Own": Own})
    assert made == ["meta"]


def test_an_own_encoder_is_held_against_the_file_before_the_next_is_made(digits, path):
    X, y, modalities = digits
    save(LateFusionClassifier(modalities, encoder=Own, **FAST).fit(X, y), path)
    made = []

    def wider(input_shape, embedding_dim):
        if torch.empty(0).is_meta:
            raise AssertionError
        made.append(input_shape)
        return Own(input_shape, 2 * embedding_dim)

    with pytest.raises(ValueError, match="its tensors are not those of its parameters"):
        load(path, modules={"Own": wider})
    assert len(made) == 1


class Drifting(Own):
    """What it counts in training is in no state."""

    def forward(self, x):
        if self.training:
            self.table += 0.01
        return super().forward(x)


def test_what_no_file_would_hold_is_refused(digits, path):
    X, y, modalities = digits
    clf = LateFusionClassifier(modalities, encoder={"pixels": Drifting}, **FAST).fit(X, y)
    with pytest.raises(ValueError, match=r"encoder\.table' .* not persistent"):
        save(clf, path)
    clf.module_.branch("pixels").encoder.table.fill_(1.0)
    save(clf, path)
    assert_same_answers(load(path, device="cpu", modules={"Drifting": Drifting}), clf, X)


def test_own_encoders_of_one_name_are_told_apart(digits, there_and_back):
    X, y, modalities = digits
    encoder = {"pixels": nn.Sequential(nn.Linear(64, 5)), "fourier": nn.Sequential(nn.Linear(34, 3), nn.Tanh())}
    clf = LateFusionClassifier(modalities, encoder=encoder, **FAST).fit(X, y)
    modules = {f"{name}.Sequential": module for name, module in encoder.items()}
    assert_same_answers(there_and_back(clf, modules=modules), clf, X)
    shared = LateFusionClassifier(modalities, encoder=dict.fromkeys(modalities, Own), **FAST).fit(X, y)
    assert_same_answers(there_and_back(shared, modules={"Own": Own}), shared, X)


def test_own_balancers_are_named_on_load(digits, there_and_back, path):
    X, y, modalities = digits
    clf = JointClassifier(modalities, balancer=OwnMethod(0.25), **FAST).fit(X, y)
    loaded = there_and_back(clf, modules={"OwnMethod": OwnMethod})
    assert_same_answers(loaded, clf, X)
    assert loaded.balancer.factor == 0.25
    with pytest.raises(ValueError, match="'OwnMethod'"):
        load(path)
    with pytest.raises(ValueError, match="expected a subclass of"):
        load(path, modules={"OwnMethod": Own})
    with pytest.raises(ValueError, match="do not describe what was fitted"):
        save(clf.set_params(balancer=OwnMethod(0.5)), path)
    with pytest.raises(TypeError, match=r"factor=.*no data"):
        save(clf.set_params(balancer=OwnMethod(print)), path)


def test_an_encoder_without_a_name_is_refused(digits, path):
    X, y, modalities = digits
    clf = LateFusionClassifier(modalities, encoder=lambda input_shape: nn.Linear(input_shape[0], 4), **FAST).fit(X, y)
    with pytest.raises(TypeError, match=r"encoder holds <function .*def"):
        save(clf, path)
    assert not path.exists()


# What is refused when saving ----------------------------------------------------------------------


class Sub(JointClassifier):
    """Would come back as its parent."""


def test_other_objects_are_refused_with_a_way_out(fitted, digits, path):
    X, y, modalities = digits
    pipeline = make_pipeline(StandardScaler(), LateFusionClassifier(modalities, **FAST)).fit(X, y)
    search = GridSearchCV(LateFusionClassifier(modalities, **FAST), {"lr": [0.1]}, cv=2).fit(X, y)
    for wrong, way_out in [
        (pipeline, r"'standardscaler': 'StandardScaler', .*save\(pipeline\['latefusionclassifier'\]"),
        (search, "best_estimator_"),
        (Sub(modalities, **FAST).fit(X, y), "subclass of JointClassifier"),
        (LogisticRegression(), "joblib"),
        (JointClassifier, "joblib"),
        (fitted.module_, "joblib"),
    ]:
        with pytest.raises(TypeError, match=way_out):
            save(wrong, path)
    with pytest.raises(NotFittedError):
        save(JointClassifier(), path)
    assert not path.exists()
    save(search.best_estimator_, path)


@pytest.mark.parametrize(
    "changed",
    [
        {"embedding_dim": 9},
        {"fusion": "sum"},
        {"encoder": "linear"},
        {"lr": "x"},
        {"modalities": {"pixels": slice(0, 60), "fourier": slice(60, None)}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_parameters_changed_after_fit_are_refused(changed, fitted, path):
    other = pickle.loads(pickle.dumps(fitted)).set_params(**changed)
    with pytest.raises(ValueError, match="do not describe what was fitted"):
        save(other, path)


@pytest.mark.parametrize(
    "make, changed",
    [
        (functools.partial(LateFusionClassifier, fusion="sum"), {"fusion": "mean"}),
        (functools.partial(JointClassifier, balancer=balancers.MMCosine()), {"balancer__scale": 11.0}),
        (functools.partial(JointClassifier, balancer=balancers.QMF()), {"balancer__temperature": 9.0}),
        (functools.partial(JointClassifier, encoder={"pixels": Own}), {"fusion": "gated"}),
        (functools.partial(JointClassifier, encoder={"pixels": Own}), {"encoder": "linear"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_changes_that_no_tensor_shows_are_refused(make, changed, digits, path):
    X, y, modalities = digits
    clf = make(modalities, **FAST).fit(X, y)
    save(clf, path)
    path.unlink()
    with pytest.raises(ValueError, match="do not describe what was fitted"):
        save(clf.set_params(**changed), path)
    assert not path.exists()


def test_what_no_header_can_hold_is_refused(fitted, digits, path):
    X, y, _ = digits
    many = {f"{'long ' * 10}{n}": 1.0 for n in range(10**5)}
    with pytest.raises(ValueError, match=r"the header would have .*Shorten the parameters"):
        save(pickle.loads(pickle.dumps(fitted)).set_params(class_weight=many), path)
    complex_numbers = nn.Sequential(nn.Linear(98, 4))
    complex_numbers.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"phase' has torch.complex64"):
        save(LateFusionClassifier(encoder=complex_numbers, **FAST).fit(X, y), path)
    with pytest.raises(ValueError, match="classes_ is an array of"):
        save(LateFusionClassifier(**FAST).fit(X, (y % 2).astype(np.longdouble)), path)
    assert not path.exists()
    save(pickle.loads(pickle.dumps(fitted)).set_params(class_weight={(1, 2): 1.0}), path)
    assert load(path).class_weight is None


def test_a_place_where_no_file_can_be_is_named(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'[^']*none/model\.mme'$"):
        save(fitted, tmp_path / "none" / "model.mme")
    with pytest.raises(IsADirectoryError) as caught:
        save(fitted, tmp_path)
    assert caught.value.filename == str(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failure_half_way_leaves_the_old_file_whole(failure, fitted, path, monkeypatch):
    save(fitted, path)
    before = path.read_bytes()

    def fail(descriptor):
        raise failure

    monkeypatch.setattr(os, "fsync", fail)  # After the last byte, before the name.
    with pytest.raises(type(failure)):
        save(fitted.set_params(verbose=1), path)
    fitted.set_params(verbose=0)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_files_have_the_permissions_of_any_other(fitted, path):
    if os.name != "posix":
        pytest.skip("needs the permissions of POSIX")
    plain = path.with_name("plain")
    plain.touch()
    save(fitted, path)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o640)
    save(fitted, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    link = path.with_name("link.mme")
    link.symlink_to(path)
    save(fitted, link)
    assert link.is_symlink()


# What is refused when loading ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzz_models():
    pytest.importorskip("resource")
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("fuzz_models")
    sys.path.pop(0)
    sys.modules.pop("fuzz_models")


def test_mutants_are_refused_or_predict(fuzz_models, tmp_path):
    found, growth = fuzz_models.fuzz(100, 1, tmp_path)
    assert {how for _, how, _ in found} <= {"refused", "same", "another"}
    assert sum(how == "refused" for _, how, _ in found) > 80
    assert growth < 300


def forged(fuzz_models, blob, change):
    parts = fuzz_models.Parts(blob)
    change(parts)
    return parts.blob()


def with_facts(**facts):
    return lambda parts: parts.fields["facts"].update(facts)


def with_parameters(**parameters):
    return lambda parts: parts.fields["parameters"].update(parameters)


def with_column(value):
    def change(parts):
        place = parts.bytes_of("columns.pixels")
        parts.data[place.start : place.start + 8] = value.to_bytes(8, "little", signed=True)

    return change


WIDE = {"array": {"dtype": "U16777216", "shape": [1], "values": ["a"]}}


def with_odd_boolean(parts):
    parts.data[parts.bytes_of("module.branches.0.encoder.standardize.is_fitted")] = b"\x07"


def classes(*values):
    return with_facts(classes_={"array": {"dtype": "int64", "shape": [len(values)], "values": list(values)}})


@pytest.mark.parametrize(
    "change, message",
    [
        (with_parameters(embedding_dim=10**9), "its tensors are not those of its parameters"),
        (with_parameters(embedding_dim=10**18), "size"),
        (with_parameters(embedding_dim={"float": "nan"}), "embedding_dim"),
        (with_parameters(unimodal_weight=1.0), "its tensors are not those of its parameters"),
        (with_parameters(trust_me=True), "trust_me"),
        (with_parameters(class_weight=[WIDE] * 20), "arrays of text have 335544320 characters"),
        (with_parameters(class_weight={"array": {"dtype": "O", "shape": [9], "values": [WIDE] * 9}}), "arrays of text"),
        (with_parameters(class_weight={"dict": [[{"tuple": [1]}, 1.0]]}), "neither text nor a number"),
        (with_parameters(checkpoint="elsewhere"), r"sets \['checkpoint'\]"),
        (with_parameters(encoder={"module": "os.system"}), "modules"),
        (with_parameters(modalities={"dict": [["pixels", {"slice": [0, 10**18, None]}]]}), "past the last column"),
        (with_parameters(shapes={"dict": [["pixels", {"tuple": [8, 8]}]]}), "parameter shapes"),
        (with_column(98), "do not partition the columns"),
        (with_column(-1), "do not partition the columns"),
        (with_column(2**62), "do not partition the columns"),
        (with_odd_boolean, "neither 0 nor 1"),
        (classes(*range(9)), "its tensors are not those of its parameters"),
        (classes(0, 1, 2, 3, 4, 5, 6, 7, 8, 8), "occurs twice"),
        (classes(9, 8, 7, 6, 5, 4, 3, 2, 1, 0), "not sorted"),
        (with_facts(n_features_in_=97), "n_features_in_=97"),
        (with_facts(modalities_=["pixels", "pixels"]), "twice"),
        (with_facts(modalities_=["pixels"]), "n_features_in_"),
        (with_facts(feature_names_in_=["a"]), "feature_names_in_"),
        (with_facts(predict="print"), "predict"),
        (lambda parts: parts.fields.update({"class": "os.system"}), "none of"),
        (lambda parts: parts.fields.update({"class": "UDIClassifier"}), "UDIClassifier"),
    ],
)
def test_lies_are_refused_whatever_their_checksums(fuzz_models, fitted, path, change, message):
    save(fitted, path)
    path.write_bytes(forged(fuzz_models, path.read_bytes(), change))
    with pytest.raises(ValueError, match=rf"model\.mme' cannot be loaded: .*{message}"):
        load(path, device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        with_parameters(device={"device": "\x1b[31mEVIL\x07\n"}),
        with_parameters(balancer={"balancer": {"class": "OGM", "own": False, "parameters": {"\x1b[31m": 1}}}),
        with_parameters(**{f"parameter {n}": 0 for n in range(20_000)}),
    ],
    ids=["device", "name", "long"],
)
def test_errors_are_short_and_no_commands_to_a_terminal(fuzz_models, fitted, path, change):
    save(fitted, path)
    path.write_bytes(forged(fuzz_models, path.read_bytes(), change))
    with pytest.raises(ValueError, match="cannot be loaded") as caught:
        load(path)
    shown = "".join(traceback.format_exception(caught.value))
    assert not set(shown) & {"\x1b", "\x07"}
    assert len(str(caught.value)) < 1500


def test_torchs_defaults_do_not_matter(fitted, digits, path):
    X, *_ = digits
    expected = fitted.predict_proba(X)
    save(fitted, path)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        loaded = load(path, device="cpu")
        save(fitted, path)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert_array_equal(loaded.predict_proba(X), expected)


def test_modules_are_a_dict(fitted, path):
    save(fitted, path)
    for wrong in (Own, [Own]):
        with pytest.raises(TypeError, match=r"modules=.* must be a dict"):
            load(path, modules=wrong)


def test_other_files_are_refused_by_what_they_are(fitted, path, fuzz_models):
    save(fitted, path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 4
    plain = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    '
    for content, message in [
        (b"", "no mmestim model"),
        (pickle.dumps(fitted), "looks like a pickle"),
        (len(plain).to_bytes(8, "little") + plain + bytes(4), "no mmestim model"),
        (whole[:-1], "is truncated"),
        (whole[:100], "is truncated"),
        (whole + b"x", "is damaged"),
        (bytes(flipped), "data is damaged"),
        (whole.replace(b'"lr\\":0.01', b'"lr\\":0.02'), "header is damaged"),
        ((2**40).to_bytes(8, "little") + whole[8:], "are allowed"),
        (whole.replace(b'"format":"1"', b'"format":"7"'), r"written by mmestim '.*' in format 7.*up to 1: upgrade"),
        (fuzz_models.framed(b'{"__metadata__":{"mmestim":"9.1","format":"3"}}', b""), "mmestim '9.1' in format 3"),
        (
            fuzz_models.framed(
                b'{"__metadata__":{"mmestim":"0","format":"1","data_digest":"","fields":"{}"},'
                + b",".join(b'"%d":{}' % i for i in range(20_000))
                + b"}",
                b"",
            ),
            "20000 tensors",
        ),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"model\.mme' cannot be loaded: .*{message}"):
            load(path)
    torch.save(fitted.module_.state_dict(), path)
    with pytest.raises(ValueError, match="zip archive"):
        load(path)


def test_no_file_a_folder_and_a_pipe(path):
    with pytest.raises(FileNotFoundError):
        load(path)
    with pytest.raises(OSError, match=r"directory|denied"):
        load(path.parent)
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(ValueError, match="not a regular file"):
            load(path)
    with pytest.raises(ValueError, match="device='abacus'"):
        load(path, device="abacus")


# The file itself ----------------------------------------------------------------------------------


def test_a_file_of_the_first_version_opens():
    """The file was made by this code, from mmestim 0.1.0, and later versions must open it:

    digits = load_digit_views(views=["pixels", "fourier"])
    clf = JointClassifier(
        digits.modalities, balancer=OGM(alpha=0.5), shapes={"pixels": (8, 8)}, embedding_dim=8, max_epochs=10,
        encoder={"pixels": "mlp", "fourier": "linear"}, device="cpu", random_state=0,
        class_weight=dict.fromkeys([f"digit {n}" for n in range(10)], 1.0),
    ).fit(digits.data, np.array([f"digit {n}" for n in digits.target]))
    save(clf, "tests/data/model.mme")
    rows = np.linspace(0, 0.3, 5 * 98).reshape(5, 98)  # beside it as model.json, with what it predicts of them
    """
    expected = json.loads((DATA / "model.json").read_text())
    clf = load(DATA / "model.mme", device="cpu")
    rows = np.linspace(0, 0.3, 5 * 98).reshape(5, 98)
    np.testing.assert_allclose(clf.predict_proba(rows), expected["predict_proba"], atol=1e-5)
    assert clf.predict(rows).tolist() == expected["predict"]
    assert clf.balancer.get_params()["alpha"] == 0.5


def test_it_is_safetensors(fitted, path):
    numpy = pytest.importorskip("safetensors.numpy")
    save(fitted, path)
    tensors = numpy.load_file(path)
    for name, tensor in fitted.module_.state_dict().items():
        assert_array_equal(tensors[f"module.{name}"], tensor.numpy())


def test_info_tells_without_reading_the_tensors(digits, path, capsys):
    X, y, modalities = digits
    own = functools.partial(Own, scale=2.0)
    labels = np.array(["\x1b[31mred", "blue"])[y % 2]
    callbacks = [Callback()]
    clf = UDIClassifier(modalities, encoder={"pixels": own}, callbacks=callbacks, **FAST).fit(X, labels)
    save(clf, path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x05")
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    for said in (
        "UDIClassifier",
        "mmestim = '0.1.0'",
        "anchor_",
        "modules['Own']",
        "callbacks = 'list'",
        "float32 (2, 8)",
    ):
        assert said in out
    assert "\x1b" not in out
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["info", str(path)]) == 2
    assert main(["info", str(path.with_name("none.mme"))]) == 2
    assert capsys.readouterr().err.count("mmestim: ") == 2


def test_info_writes_to_any_encoding(digits, path, monkeypatch):
    X, y, _ = digits
    save(LateFusionClassifier({"é": slice(None)}, **FAST).fit(X, y), path)
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["info", str(path)]) == 0
    assert b"columns.\\xe9" in out.buffer.getvalue()


def test_the_command_line():
    run = subprocess.run(
        [sys.executable, "-m", "mmestim", "info", str(DATA / "model.mme")], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "OGM(" in run.stdout
    reader, writer = os.pipe()
    os.close(reader)  # As if head had left.
    run = subprocess.run(
        [sys.executable, "-m", "mmestim", "info", str(DATA / "model.mme")],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, "")
    with pytest.raises(SystemExit, match="2"):
        main(["open"])
