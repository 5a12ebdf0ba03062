"""The tools that scikit-learn's users put around an estimator, each with two modalities."""

import io
import pickle
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.helper import SliceDict

from mmestim import JointClassifier, LateFusionClassifier, UDIClassifier

AUDIO, IMAGE = ["a0", "a1", "a2"], ["v0", "v1", "v2", "v3"]
SLICES = {"audio": slice(0, 3), "image": slice(3, 7)}
NAMES = {"audio": AUDIO, "image": IMAGE}
INTERLEAVED = ["v0", "a0", "v1", "a1", "v2", "a2", "v3"]
CODES = np.arange(90) % 3
SCORES = ["split0_test_score", "split1_test_score", "params", "rank_test_score"]


class Problem(NamedTuple):
    X: Any
    y: Any
    modalities: dict


def make_problem(container, absent):
    """Three classes that both modalities show; columns v2 and v3 are noise."""
    X = np.random.default_rng(0).normal(size=(90, 7))
    X[:, :3] += 4 * np.eye(3)[CODES]
    X[:, 3:5] += 4 * np.eye(3)[CODES][:, :2]
    if absent:
        X[::5, SLICES["audio"]] = X[1::10, SLICES["image"]] = np.nan
    y = np.array(["low", "mid", "high"])[CODES]
    if container == "array":
        return Problem(X, y, SLICES)
    index = np.arange(90)[::-1] + 1000  # no tool or estimator may look rows up by their labels
    X, y = pd.DataFrame(X, index, AUDIO + IMAGE), pd.Series(y, index)
    return Problem(X, y, SLICES) if container == "frame" else Problem(X[INTERLEAVED], y, NAMES)


def make(classifier, modalities, **params):
    settings = {"max_epochs": 4, "batch_size": 15, "optimizer": "adamw", "lr": 0.05, "embedding_dim": 8, "random_state": 0}
    return classifier(modalities, **settings | params)


@pytest.fixture(params=[JointClassifier, LateFusionClassifier, UDIClassifier])
def classifier(request):
    return request.param


@pytest.fixture(params=["array", "frame", "named"])
def container(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["present", "absent"])
def absent(request):
    return request.param


@pytest.fixture
def problem(container, absent):
    return make_problem(container, absent)


@pytest.fixture
def clf(classifier, problem):
    return make(classifier, problem.modalities)


def test_every_container_gives_the_same_model(classifier, absent):
    outputs = []
    for container in ("array", "frame", "named"):
        X, y, modalities = make_problem(container, absent)
        clf = make(classifier, modalities).fit(X, y)
        outputs.append(clf.predict_proba(X))
        assert_array_equal(clf.classes_, ["high", "low", "mid"])
        assert clf.score(X, y) > 0.8
    assert_array_equal(outputs[0], outputs[1])
    assert_array_equal(outputs[0], outputs[2])


def test_cross_validate_with_several_scorers(clf, problem):
    X, y, _ = problem
    got = cross_validate(clf, X, y, cv=2, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    assert got["test_accuracy"].min() > 0.7
    assert got["test_neg_log_loss"].min() > -0.8  # chance: -1.1
    assert got["test_roc_auc_ovr"].min() > 0.85


@pytest.mark.parametrize("search", ["grid", "halving"])
def test_searches_agree_for_any_number_of_jobs(clf, problem, search):
    X, y, _ = problem
    results = []
    for n_jobs in (1, 2):
        if search == "grid":
            search_cv = GridSearchCV(clf, {"lr": [1e-6, 0.05]}, cv=2, n_jobs=n_jobs)
        else:
            search_cv = HalvingGridSearchCV(
                clf, {"lr": [1e-6, 0.05]}, cv=2, n_jobs=n_jobs, factor=2, resource="max_epochs", min_resources=2,
                max_resources=4, random_state=0,
            )  # fmt: skip
        search_cv.fit(X, y)
        assert search_cv.best_params_["lr"] == 0.05
        assert search_cv.best_score_ > 0.7
        assert search_cv.best_estimator_.n_iter_ >= 4
        results.append(search_cv.cv_results_)
    for key in SCORES:
        assert_array_equal(results[0][key], results[1][key])


@pytest.mark.parametrize("scaler", ["standard", "columns"])
def test_pipelines_fit_what_the_scaler_makes(clf, problem, container, scaler):
    X, y, _ = problem
    if scaler == "standard":
        step = StandardScaler()
    else:
        audio, image = (AUDIO, IMAGE) if container != "array" else SLICES.values()
        parts = [("a", StandardScaler(), audio), ("v", MinMaxScaler(), image)]
        step = ColumnTransformer(parts, verbose_feature_names_out=False)
    pipeline = make_pipeline(step, clf)
    if container == "named":
        with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\)"):
            clone(pipeline).fit(X, y)
        pipeline[0].set_output(transform="pandas")
    proba = pipeline.fit(X, y).predict_proba(X)
    scaled = step.transform(X)
    assert pipeline.score(X, y) > 0.8
    assert_array_equal(proba, clone(clf).fit(scaled, y).predict_proba(scaled))
    assert pipeline[-1].n_features_in_ == 7


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_heals_overconfidence(problem, classifier, method):
    X, y, modalities = problem
    clf = make(classifier, modalities, max_epochs=5)
    calibrated = CalibratedClassifierCV(clf, method=method, cv=2).fit(X, y)
    proba = calibrated.predict_proba(X)
    assert len(calibrated.calibrated_classifiers_) == 2
    assert_array_equal(calibrated.classes_, ["high", "low", "mid"])
    assert calibrated.score(X, y) > 0.75
    assert log_loss(y, proba) < 0.8


def test_bagging(clf, problem, container):
    X, y, _ = problem
    bag = BaggingClassifier(clf, n_estimators=2, max_samples=0.8, random_state=0)
    if container == "named":
        with pytest.raises(ValueError, match="X has none"):
            bag.fit(X, y)
        return
    bag.fit(X, y)
    assert bag.score(X, y) > 0.8
    one, two = (member.predict_proba(np.asarray(X)) for member in bag.estimators_)
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(bag.predict_proba(X), (one + two) / 2)


def test_stacking(clf, problem):
    X, y, _ = problem
    other = make(LateFusionClassifier, clf.modalities, random_state=1)
    stack = StackingClassifier([("one", clf), ("two", other)], LogisticRegression(), cv=2)
    stack.set_output(transform="pandas").fit(X, y)
    assert stack.score(X, y) > 0.8
    assert list(stack.transform(X)) == [f"{name}{i}" for name in ("one", "two") for i in range(3)]
    assert_array_equal(stack.transform(X).iloc[:, :3], clone(clf).fit(X, y).predict_proba(X))


def test_permutation_importance(clf, problem, absent):
    X, y, _ = problem
    clf.fit(X, y)
    if absent:
        with pytest.raises(ValueError, match=r"modality '\w+' in row \d+ has NaN in \d of \d values"):
            permutation_importance(clf, X, y, n_repeats=1, random_state=0)
        return
    found = permutation_importance(clf, X, y, n_repeats=5, random_state=0, scoring="neg_log_loss").importances_mean
    importance = dict(zip(getattr(X, "columns", AUDIO + IMAGE), found, strict=True))
    assert max(importance["v2"], importance["v3"]) + 0.02 < min(importance["a0"], importance["v0"])


def test_learning_curve(clf, problem):
    X, y, _ = problem
    sizes, train, test = learning_curve(clf, X, y, cv=2, train_sizes=[6, 45], shuffle=True, random_state=0)
    assert_array_equal(sizes, [6, 45])
    assert train.shape == test.shape == (2, 2)
    assert test[1].mean() > max(0.7, test[0].mean())


def test_set_output_names_the_embeddings(clf, problem):
    X, y, _ = problem
    plain = clone(clf).fit(X, y).transform(X)
    framed = clf.set_output(transform="pandas").fit(X, y).transform(X)
    assert list(framed) == [f"{name}{i}" for name in ("audio", "image") for i in range(8)]
    assert_array_equal(framed, plain)
    assert_array_equal(framed.index, getattr(X, "index", np.arange(90)))
    probe = make_pipeline(clf, LogisticRegression()).fit(X, y)
    assert probe.score(X, y) > 0.8
    assert_array_equal(probe[-1].feature_names_in_, framed.columns)


def test_clone_pickle_and_joblib(clf, problem):
    X, y, _ = problem
    given = repr(clf.get_params())
    proba = clf.fit(X, y).predict_proba(X)
    assert repr(clone(clf).get_params()) == given
    with pytest.raises(NotFittedError):
        clone(clf).predict(X)
    buffer = io.BytesIO()
    joblib.dump(clf, buffer)
    buffer.seek(0)
    for copy in (pickle.loads(pickle.dumps(clf)), joblib.load(buffer), clone(clf).fit(X, y)):
        assert_array_equal(copy.predict_proba(X), proba)
        assert_array_equal(copy.predict(X), clf.predict(X))


def test_read_only_input(classifier, absent):
    X, y, modalities = make_problem("array", absent)
    weight, groups = np.linspace(1, 2, 90), np.arange(90) // 6
    expected = make(classifier, modalities).fit(X, y, weight, groups).predict_proba(X)
    before = X.copy()
    for array in (X, y, weight, groups):
        array.setflags(write=False)
    got = make(classifier, modalities).fit(X, y, weight, groups).predict_proba(X)
    assert_array_equal(got, expected)
    assert_array_equal(X, before)
    blocks = SliceDict(audio=X[:, :3], image=X[:, 3:])
    assert_array_equal(make(classifier, None).fit(blocks, y, weight, groups).predict_proba(blocks), expected)
