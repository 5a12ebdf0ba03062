"""scikit-learn's tools around an estimator, each with two modalities."""

import pickle
from itertools import product

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, HalvingGridSearchCV, cross_validate, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.helper import SliceDict

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier

CLASSIFIERS = [JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier]
CONTAINERS = ["array", "frame", "named"]
NAMES = {"audio": ["a0", "a1", "a2"], "image": ["v0", "v1", "v2", "v3"]}
COLUMNS = [*NAMES["audio"], *NAMES["image"]]
SLICES = {"audio": slice(0, 3), "image": slice(3, 7)}
METADATA = {"sample_weight": np.random.default_rng(1).uniform(0.1, 3, 90), "groups": np.repeat([*"abcdefghi"], 10)}


def make_problem(container="array", absent=False):
    """Return three classes that both modalities depend on; columns v2 and v3 are noise."""
    codes = np.arange(90) % 3
    X, y = np.random.default_rng(0).normal(size=(90, 7)).astype("f"), np.array(["low", "mid", "high"])[codes]
    X[:, :5] += 4 * np.eye(3)[codes][:, [0, 1, 2, 0, 1]]
    if absent:
        X[::5, :3] = X[1::10, 3:] = np.nan
    if container == "array":
        return X, y, SLICES
    index = np.arange(90)[::-1]  # Looking rows up by label would give the wrong rows.
    X, y = pd.DataFrame(X, index, COLUMNS), pd.Series(y, index)
    return (X, y, SLICES) if container == "frame" else (X[["v0", "a0", "v1", "a1", "v2", "a2", "v3"]], y, NAMES)


def make(classifier, modalities):
    settings = {"max_epochs": 3, "batch_size": 15, "optimizer": "adamw", "lr": 0.1, "embedding_dim": 8, "cv": 2}
    return classifier(modalities, **settings, random_state=0)


@pytest.fixture(params=product(CLASSIFIERS, CONTAINERS), ids=lambda pair: f"{pair[0].__name__}-{pair[1]}")
def case(request):
    """Every classifier with every container, with and without absent blocks."""
    classifier, container = request.param
    absent = (CLASSIFIERS.index(classifier) + CONTAINERS.index(container)) % 2 == 1
    X, y, modalities = make_problem(container, absent)
    return make(classifier, modalities), X, y, container, absent


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("absent", [False, True])
def test_all_containers_give_the_same_model_even_if_read_only(classifier, absent):
    X, y, modalities = make_problem("array", absent)
    clf = make(classifier, modalities).fit(X, y, **METADATA)
    assert_array_equal(clf.classes_, ["high", "low", "mid"])
    assert clf.score(X, y) > 0.8
    expected, before = clf.predict_proba(X), X.copy()
    blocks = SliceDict(audio=X[:, :3].copy(), image=X[:, 3:].copy())
    for array in (X, y, *blocks.values(), *METADATA.values()):
        array.setflags(write=False)
    frames = [make_problem(container, absent) for container in ("frame", "named")]
    for rows, labels, columns in [(X, y, modalities), (blocks, y, None), *frames]:
        assert_array_equal(make(classifier, columns).fit(rows, labels, **METADATA).predict_proba(rows), expected)
    assert_array_equal(X, before)


def test_clone_pickle_and_joblib(case, tmp_path):
    clf, X, y, *_ = case
    fresh, proba = clone(clf), clf.fit(X, y).predict_proba(X)
    assert repr(clone(clf)) == repr(fresh)
    [path] = joblib.dump(clf, tmp_path / "clf.joblib")
    for copy in (pickle.loads(pickle.dumps(clf)), joblib.load(path), clone(clf).fit(X, y)):
        assert_array_equal(copy.predict_proba(X), proba)


def test_cross_validate_with_several_scorers(case):
    clf, X, y, *_ = case
    result = cross_validate(clf, X, y, cv=2, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    assert result["test_accuracy"].min() > 0.7
    assert result["test_neg_log_loss"].min() > -0.8  # Chance is -1.1.
    assert result["test_roc_auc_ovr"].min() > 0.85


def test_searches_do_not_depend_on_the_number_of_jobs(case):
    # Every other container has absent blocks, and every classifier meets both searches.
    clf, X, y, _, absent = case
    search, kwargs = GridSearchCV, {}
    if absent:
        search, kwargs = HalvingGridSearchCV, {"factor": 2, "min_resources": "exhaust", "random_state": 0}
    one, two = (search(clf, {"lr": [1e-6, 0.1]}, cv=2, n_jobs=n, refit=n == 1, **kwargs).fit(X, y) for n in (1, 2))
    assert min(one.best_score_, one.score(X, y)) > 0.7
    for key in ("split0_test_score", "split1_test_score", "rank_test_score"):
        assert_array_equal(one.cv_results_[key], two.cv_results_[key])


def test_fits_in_threads_repeat_exactly():
    # joblib runs nested parallel tools in threads.
    X, y, modalities = make_problem()
    search = GridSearchCV(make(UDIClassifier, modalities), {"lr": [0.1, 0.2, 0.3, 0.4]}, cv=2, scoring="neg_log_loss")
    expected, state = search.fit(X, y).cv_results_["mean_test_score"], torch.get_rng_state()
    with joblib.parallel_config("threading", n_jobs=2):
        assert_array_equal(search.fit(X, y).cv_results_["mean_test_score"], expected)
    assert_array_equal(torch.get_rng_state(), state)


def test_searches_accept_numpy_scalars():
    X, y, modalities = make_problem()
    plain = {"lr": [0.01], "max_epochs": [2], "batch_size": [20], "early_stopping": [False]}
    grids = plain, {name: np.array(values) for name, values in plain.items()}
    one, two = (GridSearchCV(make(LateFusionClassifier, modalities), grid, cv=2).fit(X, y) for grid in grids)
    assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_parameters_can_be_searched_through_a_pipeline():
    X, y, modalities = make_problem(absent=True)
    pipeline = make_pipeline(StandardScaler(), make(UDIClassifier, modalities))
    guidance = [None, "aligned", "dynamic", (1.0, 0.0)]
    search = GridSearchCV(pipeline, {"udiclassifier__guidance": guidance}, cv=2, scoring="neg_log_loss").fit(X, y)
    assert search.cv_results_["param_udiclassifier__guidance"].tolist() == guidance
    assert search.best_estimator_[-1].guidance == guidance[search.best_index_]
    late = make_pipeline(StandardScaler(), make(LateFusionClassifier, modalities))
    expected = cross_validate(late, X, y, cv=2, scoring="neg_log_loss")["test_score"].mean()
    assert search.cv_results_["mean_test_score"][0] == expected
    assert len(np.unique(search.cv_results_["mean_test_score"])) == 4


@pytest.mark.parametrize("columns", [False, True], ids=["StandardScaler", "ColumnTransformer"])
def test_pipelines_fit_scaled_columns(case, columns):
    clf, X, y, container, _ = case
    picks = SLICES if container == "array" else NAMES
    parts = zip(("one", "two"), (StandardScaler(), MinMaxScaler()), picks.values(), strict=True)
    scaler = ColumnTransformer([*parts], verbose_feature_names_out=False) if columns else StandardScaler()
    if container == "named":
        with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\)"):
            make_pipeline(clone(scaler), clf).fit(X, y)
        scaler.set_output(transform="pandas")
    pipeline = make_pipeline(scaler, clone(clf)).fit(X, y)
    assert pipeline.score(X, y) > 0.8
    scaled = scaler.transform(X)
    assert_array_equal(pipeline.predict_proba(X), clf.fit(scaled, y).predict_proba(scaled))


def test_calibration(case):
    clf, X, y, *_ = case
    calibrated = CalibratedClassifierCV(clf, cv=2).fit(X, y)
    assert calibrated.score(X, y) > 0.75
    mean_probabilities = np.mean(
        [member.estimator.predict_proba(X) for member in calibrated.calibrated_classifiers_], axis=0
    )
    assert np.corrcoef(mean_probabilities.ravel(), calibrated.predict_proba(X).ravel())[0, 1] > 0.8


def test_bagging(case):
    clf, X, y, container, _ = case
    bag = BaggingClassifier(clf, n_estimators=2, max_samples=0.8, random_state=0)
    if container == "named":
        with pytest.raises(ValueError, match="column names, but X has none"):  # BaggingClassifier drops them.
            bag.fit(X, y)
        return
    assert bag.fit(X, y).score(X, y) > 0.8
    one, two = (member.predict_proba(np.asarray(X)) for member in bag.estimators_)
    assert not np.array_equal(one, two)
    assert_allclose(bag.predict_proba(X), (one + two) / 2, atol=1e-6)


def test_stacking(case):
    clf, X, y, *_ = case
    stack = StackingClassifier([("one", clf), ("two", DummyClassifier())], LogisticRegression(), cv=2).fit(X, y)
    assert stack.score(X, y) > 0.8
    columns = stack.set_output(transform="pandas").transform(X)
    assert list(columns) == [f"stackingclassifier_{name}{i}" for name in ("one", "two") for i in range(3)]
    assert_array_equal(columns.iloc[:, :3], clf.fit(X, y).predict_proba(X))


def test_permutation_importance(case):
    clf, X, y, _, absent = case
    clf.fit(X, y)
    if absent:  # Permuting one column leaves half a block.
        with pytest.raises(ValueError, match=r"modality '(audio|image)' in row \d"):
            permutation_importance(clf, X, y, n_repeats=1, random_state=0)
        return
    importances = permutation_importance(
        clf, X, y, n_repeats=3, random_state=0, scoring="neg_log_loss"
    ).importances_mean
    is_noise = np.isin(getattr(X, "columns", COLUMNS), ["v2", "v3"])
    assert importances[~is_noise].min() > importances[is_noise].max()


def test_learning_curve(case):
    clf, X, y, *_ = case
    _, _, scores = learning_curve(clf, X, y, cv=2, train_sizes=[6, 45], shuffle=True, random_state=0)
    assert scores[1].min() > max(0.7, scores[0].mean())


def test_set_output_names_the_embeddings(case):
    clf, X, y, *_ = case
    framed = clf.fit(X, y).set_output(transform="pandas").transform(X)
    n_features = 8 * clf.n_networks_
    assert list(framed) == [f"{name}{i}" for name in ("audio", "image") for i in range(n_features)]
    assert_array_equal(framed.index, getattr(X, "index", np.arange(90)))
    probe = make_pipeline(clone(clf), LogisticRegression()).fit(X, y)
    assert probe.score(X, y) > 0.8
    assert_array_equal(probe[-1].feature_names_in_, framed.columns)
    assert_array_equal(framed, clf.set_output(transform="default").transform(X))


def check_metadata_arrived(fitted, clf, X, y, rows=slice(None)):
    """Check that `fitted` was trained with both weights and groups, and not with one of them."""
    proba = fitted.predict_proba(X)
    for left_out in (None, *METADATA):
        metadata = {name: values[rows] for name, values in METADATA.items() if name != left_out}
        other = clone(clf).fit(X[rows], y[rows], **metadata).predict_proba(X)
        assert np.array_equal(proba, other) == (left_out is None)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@sklearn.config_context(enable_metadata_routing=True)
def test_groups_are_routed_by_default_and_weights_on_request(classifier):
    X, y, modalities = make_problem(absent=True)
    clf = make(classifier, modalities)
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        cross_validate(clf, X, y, params=METADATA)
    clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
    search = GridSearchCV(clf, {"lr": [0.1]}, cv=GroupKFold(2)).fit(X, y, **METADATA)
    check_metadata_arrived(search.best_estimator_, clf, X, y)
    result = cross_validate(clf, X, y, cv=GroupKFold(2), params=METADATA, return_estimator=True, return_indices=True)
    for fitted, rows in zip(result["estimator"], result["indices"]["train"], strict=True):
        check_metadata_arrived(fitted, clf, X, y, rows)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipeline = make_pipeline(scaler, clf).fit(X, y, **METADATA)
    check_metadata_arrived(pipeline[-1], clf, scaler.transform(X), y)


@pytest.mark.parametrize("absent", [False, True])
def test_tools_accept_a_slice_dict(absent):
    X, y, _ = make_problem(absent=absent)
    rows, y = SliceDict(audio=np.stack([X[:30, :3]] * 2, axis=2), image=X[:30, 3:]), y[:30]
    clf = UDIClassifier(max_epochs=10, cv=2, lr=0.02, random_state=0)
    assert cross_validate(clf, rows, y, cv=3)["test_score"].mean() > 0.7
    if not absent:
        search = GridSearchCV(clf, {"lr": [1e-6, 0.02]}, cv=2).fit(rows, y)
        assert search.best_score_ > 0.8
        assert search.best_estimator_.shapes_ == {"audio": (3, 2)}
