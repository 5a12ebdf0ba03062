"""The tools that scikit-learn's users put around an estimator, each with two modalities."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, HalvingGridSearchCV, cross_validate, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.helper import SliceDict

from mmestim import JointClassifier, LateFusionClassifier, UDIClassifier

CLASSIFIERS = [JointClassifier, LateFusionClassifier, UDIClassifier]
CONTAINERS = ["array", "frame", "named"]
AUDIO, IMAGE = ["a0", "a1", "a2"], ["v0", "v1", "v2", "v3"]
SLICES = {"audio": slice(0, 3), "image": slice(3, 7)}
WEIGHT = np.random.default_rng(1).uniform(0.1, 3, 90)
GROUPS = np.repeat([f"speaker{i}" for i in range(15)], 6)


def make_problem(container="array", absent=False):
    """Three classes that both modalities show; columns v2 and v3 are noise."""
    codes = np.arange(90) % 3
    X = np.random.default_rng(0).normal(size=(90, 7))
    X[:, :3] += 4 * np.eye(3)[codes]
    X[:, 3:5] += 4 * np.eye(3)[codes][:, :2]
    if absent:
        X[::5, :3] = X[1::10, 3:] = np.nan
    y = np.array(["low", "mid", "high"])[codes]
    if container == "array":
        return X, y, SLICES
    index = np.arange(90)[::-1]  # rows found by their labels would be the wrong ones
    X, y = pd.DataFrame(X, index, AUDIO + IMAGE), pd.Series(y, index)
    if container == "frame":
        return X, y, SLICES
    return X[["v0", "a0", "v1", "a1", "v2", "a2", "v3"]], y, {"audio": AUDIO, "image": IMAGE}


def make(classifier, modalities, **params):
    settings = {"max_epochs": 4, "batch_size": 15, "optimizer": "adamw", "lr": 0.05, "embedding_dim": 8}
    return classifier(modalities, **settings | {"random_state": 0} | params)


@pytest.fixture(params=CLASSIFIERS)
def classifier(request):
    return request.param


# Every classifier meets every container, and both meet present and absent blocks.
@pytest.fixture(
    params=[(i, j, bool((i + j) % 2)) for i in range(3) for j in range(3)],
    ids=lambda p: f"{CLASSIFIERS[p[0]].__name__}-{CONTAINERS[p[1]]}-{'absent' if p[2] else 'present'}",
)
def case(request):
    """A classifier, X, y, the container's name, and whether blocks are absent."""
    i, j, absent = request.param
    X, y, modalities = make_problem(CONTAINERS[j], absent)
    return make(CLASSIFIERS[i], modalities), X, y, CONTAINERS[j], absent


@pytest.mark.parametrize("absent", [False, True])
def test_every_container_gives_the_same_model(classifier, absent):
    outputs = []
    for X, y, modalities in (make_problem(container, absent) for container in CONTAINERS):
        clf = make(classifier, modalities).fit(X, y)
        outputs.append(clf.predict_proba(X))
        assert_array_equal(clf.classes_, ["high", "low", "mid"])
        assert clf.score(X, y) > 0.8
    assert_array_equal(outputs[0], outputs[1])
    assert_array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize("absent", [False, True])
def test_read_only_input(classifier, absent):
    X, y, modalities = make_problem("array", absent)
    weight, groups, before = WEIGHT.copy(), GROUPS.copy(), X.copy()
    expected = make(classifier, modalities).fit(X, y, weight, groups).predict_proba(X)
    for array in (X, y, weight, groups):
        array.setflags(write=False)
    for rows, columns in ((X, modalities), (SliceDict(audio=X[:, :3], image=X[:, 3:]), None)):
        assert_array_equal(make(classifier, columns).fit(rows, y, weight, groups).predict_proba(rows), expected)
    assert_array_equal(X, before)


def test_clone_pickle_and_joblib(case):
    clf, X, y, *_ = case
    proba = clf.fit(X, y).predict_proba(X)
    assert repr(clone(clf).get_params()) == repr(clf.get_params())
    with pytest.raises(NotFittedError):
        clone(clf).predict(X)
    joblib.dump(clf, file := io.BytesIO())
    file.seek(0)
    for copy in (pickle.loads(pickle.dumps(clf)), joblib.load(file), clone(clf).fit(X, y)):
        assert_array_equal(copy.predict_proba(X), proba)
        assert_array_equal(copy.predict(X), clf.predict(X))


def test_cross_validate_with_several_scorers(case):
    clf, X, y, *_ = case
    got = cross_validate(clf, X, y, cv=2, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    assert got["test_accuracy"].min() > 0.7
    assert got["test_neg_log_loss"].min() > -0.8  # chance has -1.1
    assert got["test_roc_auc_ovr"].min() > 0.85


@pytest.mark.parametrize("search", [GridSearchCV, HalvingGridSearchCV])
def test_searches_agree_for_any_number_of_jobs(case, search):
    clf, X, y, *_ = case
    kwargs = {"factor": 2, "min_resources": "exhaust", "random_state": 0} if search is HalvingGridSearchCV else {}
    one, two = (search(clf, {"lr": [1e-6, 0.05]}, cv=2, n_jobs=n, **kwargs).fit(X, y) for n in (1, 2))
    assert one.best_params_ == {"lr": 0.05}
    assert one.best_score_ > 0.7
    for key in ("params", "split0_test_score", "split1_test_score", "rank_test_score"):
        assert_array_equal(one.cv_results_[key], two.cv_results_[key])
    assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_fits_in_threads_repeat_exactly(classifier):
    # joblib runs a parallel tool inside another one in threads.
    X, y, modalities = make_problem()
    search = GridSearchCV(make(classifier, modalities), {"lr": [0.02, 0.03, 0.04, 0.05]}, cv=2, scoring="neg_log_loss")
    expected, state = search.fit(X, y).cv_results_["mean_test_score"], torch.get_rng_state()
    with joblib.parallel_config("threading", n_jobs=2):
        assert_array_equal(search.fit(X, y).cv_results_["mean_test_score"], expected)
    assert_array_equal(torch.get_rng_state(), state)


def test_searches_take_the_scalars_of_numpy_arrays():
    X, y, modalities = make_problem()
    values = {"lr": [0.01], "max_epochs": [3], "batch_size": [20], "early_stopping": [False]}
    grid = {name: np.array(value) for name, value in values.items()}
    one, two = (GridSearchCV(make(LateFusionClassifier, modalities), g, cv=2).fit(X, y) for g in (values, grid))
    assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_nested_parameters_are_searched_through_a_pipeline():
    X, y, modalities = make_problem(absent=True)
    pipeline = make_pipeline(StandardScaler(), make(UDIClassifier, modalities))
    guidance = [None, "aligned", "dynamic", (1.0, 0.0)]
    search = GridSearchCV(pipeline, {"udiclassifier__guidance": guidance}, cv=2, scoring="neg_log_loss").fit(X, y)
    assert search.cv_results_["param_udiclassifier__guidance"].tolist() == guidance
    assert search.best_estimator_[-1].guidance == guidance[search.best_index_]
    scores = search.cv_results_["mean_test_score"]
    assert len(np.unique(scores)) == 4
    late = make_pipeline(StandardScaler(), make(LateFusionClassifier, modalities))
    assert scores[0] == cross_validate(late, X, y, cv=2, scoring="neg_log_loss")["test_score"].mean()


@pytest.mark.parametrize("columns", [False, True], ids=["StandardScaler", "ColumnTransformer"])
def test_pipelines_fit_what_the_scaler_makes(case, columns):
    clf, X, y, container, _ = case
    audio, image = SLICES.values() if container == "array" else (AUDIO, IMAGE)
    parts = [("audio", StandardScaler(), audio), ("image", MinMaxScaler(), image)]
    scaler = ColumnTransformer(parts, verbose_feature_names_out=False) if columns else StandardScaler()
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
    assert_array_equal(calibrated.classes_, ["high", "low", "mid"])
    assert calibrated.score(X, y) > 0.75
    own = np.mean([member.estimator.predict_proba(X) for member in calibrated.calibrated_classifiers_], axis=0)
    assert np.corrcoef(own.ravel(), calibrated.predict_proba(X).ravel())[0, 1] > 0.8


def test_bagging(case):
    clf, X, y, container, _ = case
    bag = BaggingClassifier(clf, n_estimators=2, max_samples=0.8, random_state=0)
    if container == "named":
        with pytest.raises(ValueError, match="column names, but X has none"):  # the tool drops them
            bag.fit(X, y)
        return
    assert bag.fit(X, y).score(X, y) > 0.8
    one, two = (member.predict_proba(np.asarray(X)) for member in bag.estimators_)
    assert not np.array_equal(one, two)
    assert_allclose(bag.predict_proba(X), (one + two) / 2, atol=1e-6)


def test_stacking(case):
    clf, X, y, *_ = case
    stack = StackingClassifier([("one", clf), ("other", clone(clf))], LogisticRegression(), cv=2).fit(X, y)
    assert stack.score(X, y) > 0.8
    columns = stack.set_output(transform="pandas").transform(X)
    assert list(columns) == [f"stackingclassifier_{name}{i}" for name in ("one", "other") for i in range(3)]
    assert_array_equal(columns.iloc[:, :3], clf.fit(X, y).predict_proba(X))


def test_permutation_importance(case):
    clf, X, y, _, absent = case
    clf.fit(X, y)
    if absent:  # permuting one column leaves half a block
        with pytest.raises(ValueError, match=r"modality '(audio|image)' in row \d"):
            permutation_importance(clf, X, y, n_repeats=1, random_state=0)
        return
    found = permutation_importance(clf, X, y, n_repeats=3, random_state=0, scoring="neg_log_loss").importances_mean
    importance = dict(zip(getattr(X, "columns", AUDIO + IMAGE), found, strict=True))
    noise = max(importance.pop("v2"), importance.pop("v3"))
    assert min(importance.values()) > noise


def test_learning_curve(case):
    clf, X, y, *_ = case
    sizes, _, scores = learning_curve(clf, X, y, cv=2, train_sizes=[6, 45], shuffle=True, random_state=0)
    assert_array_equal(sizes, [6, 45])
    assert scores[1].min() > 0.7
    assert scores[1].mean() > scores[0].mean()


def test_set_output_names_the_embeddings(case):
    clf, X, y, *_ = case
    plain = clf.fit(X, y).transform(X)
    framed = clf.set_output(transform="pandas").transform(X)
    assert list(framed) == [f"{name}{i}" for name in ("audio", "image") for i in range(8)]
    assert_array_equal(framed, plain)
    assert_array_equal(framed.index, getattr(X, "index", np.arange(90)))
    probe = make_pipeline(clone(clf), LogisticRegression()).fit(X, y)
    assert probe.score(X, y) > 0.8
    assert_array_equal(probe[-1].feature_names_in_, framed.columns)


@pytest.fixture
def weighted(classifier):
    X, y, modalities = make_problem(absent=True)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = make(classifier, modalities).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        yield clf, X, y, {"sample_weight": WEIGHT, "groups": GROUPS}


def check_metadata_arrived(fitted, clf, X, y, rows=slice(None)):
    """`fitted` is what weights and groups together make of the rows, and neither alone."""
    metadata = {"sample_weight": WEIGHT[rows], "groups": GROUPS[rows]}
    proba = fitted.predict_proba(X)
    assert_array_equal(proba, clone(clf).fit(X[rows], y[rows], **metadata).predict_proba(X))
    for name in metadata:
        other = clone(clf).fit(X[rows], y[rows], **metadata | {name: None})
        assert not np.array_equal(proba, other.predict_proba(X))


def test_grid_search_routes_metadata(weighted):
    clf, X, y, metadata = weighted
    search = GridSearchCV(clf, {"lr": [0.05]}, cv=GroupKFold(2)).fit(X, y, **metadata)
    check_metadata_arrived(search.best_estimator_, clf, X, y)


def test_cross_validate_routes_metadata(weighted):
    clf, X, y, metadata = weighted
    got = cross_validate(clf, X, y, cv=GroupKFold(2), params=metadata, return_estimator=True, return_indices=True)
    for fitted, rows in zip(got["estimator"], got["indices"]["train"], strict=True):
        check_metadata_arrived(fitted, clf, X, y, rows)


def test_pipeline_routes_metadata(weighted):
    clf, X, y, metadata = weighted
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipeline = make_pipeline(scaler, clf).fit(X, y, **metadata)
    check_metadata_arrived(pipeline[-1], clf, scaler.transform(X), y)


def test_groups_are_routed_unasked_and_weights_are_not(weighted):
    asked, X, y, metadata = weighted
    clf = type(asked)(**asked.get_params())
    one, two = (clone(make_pipeline(clf)).fit(X, y, **m).predict_proba(X) for m in ({"groups": GROUPS}, {}))
    assert not np.array_equal(one, two)
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        make_pipeline(clf).fit(X, y, **metadata)


def as_slice_dict(absent):
    X, y, _ = make_problem(absent=absent)
    return SliceDict(audio=np.stack([X[:45, :3]] * 2, axis=2), image=X[:45, 3:]), y[:45]


def test_grid_search_over_a_slice_dict_needs_no_other_argument():
    X, y = as_slice_dict(absent=False)
    search = GridSearchCV(UDIClassifier(), {"lr": [0.03, 0.1]}).fit(X, y)
    assert search.best_score_ > 0.6
    assert search.best_estimator_.shapes_ == {"audio": (3, 2)}
    assert list(search.best_estimator_.modalities_) == ["audio", "image"]
    assert search.score(X, y) > 0.7


def test_cross_validate_over_a_slice_dict_needs_no_other_argument():
    X, y = as_slice_dict(absent=True)
    got = cross_validate(UDIClassifier(max_epochs=15), X, y, scoring=["accuracy", "neg_log_loss"])
    assert got["test_accuracy"].mean() > 0.6
    assert got["test_neg_log_loss"].mean() > -1.1
