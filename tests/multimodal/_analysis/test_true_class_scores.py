"""gap_scores: scores of the true class from our classifiers, those of scikit-learn, or probabilities."""

import threading
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from skorch.helper import SliceDict

from mmestim import JointClassifier, LateFusionClassifier, ModalityGapAnalyzer, UDIClassifier, gap_scores
from mmestim.multimodal._analysis.true_class_scores import true_class_scores

# Not in alphabetical order, so that the columns show which order they have.
GROUPS = {"image": slice(5, 8), "audio": slice(0, 5)}
FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu"}
NAMES = np.array(["red", "green", "blue"])


@pytest.fixture(scope="module")
def data():
    """Two modalities that depend on three classes."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = rng.normal(size=(90, 8)).astype(np.float32)
    X[:, :5] += 1.5 * y[:, None]
    X[:, 5:] -= y[:, None]
    order = rng.permutation(90)
    return X[order], NAMES[y[order]]


@pytest.fixture(scope="module")
def with_absent(data):
    """Rows of which some lack one modality."""
    X, y = data[0].copy(), data[1]
    X[::3, :5] = np.nan
    X[1::3, 5:] = np.nan
    return X, y


@pytest.fixture(scope="module")
def late(data):
    """Fitted late fusion."""
    return LateFusionClassifier(GROUPS, **FAST).fit(*data)


def blocks_of(X):
    return {"image": X[:, 5:], "audio": X[:, :5]}


def at_true_class(proba, classes, y):
    """Return the scores of the true class, one row and modality at a time."""
    classes = list(classes)
    return np.array([[shares[row, classes.index(label)] for shares in proba] for row, label in enumerate(y)])


def naive_bayes(X, y):
    """Return classifiers of both modalities, each fitted on the rows that have it."""
    fitted = {}
    for name, block in blocks_of(X).items():
        present = ~np.isnan(block[:, 0])
        fitted[name] = GaussianNB().fit(block[present], y[present])
    return fitted


# Our classifiers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classifier", [JointClassifier, LateFusionClassifier, UDIClassifier])
def test_scores_are_probabilities_of_the_true_class(classifier, with_absent):
    X, y = with_absent
    clf = classifier(GROUPS, **FAST).fit(X, y)
    scores = gap_scores(clf, X, y)
    proba = clf.predict_proba_per_modality(X)
    np.testing.assert_array_equal(scores, at_true_class([proba["image"], proba["audio"]], clf.classes_, y))
    np.testing.assert_array_equal(np.isnan(scores), np.isnan(X[:, [5, 0]]))
    assert ((scores >= 0) & (scores <= 1))[~np.isnan(scores)].all()


def test_analyzer_accepts_the_scores(late, data):
    scores = gap_scores(late, *data)
    gap = ModalityGapAnalyzer(min_variance=1e-6).fit(scores).gap(scores)
    np.testing.assert_allclose(gap, np.abs(scores[:, 0] - scores[:, 1]), rtol=1e-6)


def test_subset_of_rows_and_classes(late, data):
    X, y = data
    few = np.flatnonzero(y == "red")[:4]
    np.testing.assert_allclose(gap_scores(late, X[few], y[few]), gap_scores(late, X, y)[few], atol=1e-6)


def test_pipeline_transforms_the_rows_first(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), LateFusionClassifier(GROUPS, **FAST)).fit(X, y)
    expected = gap_scores(pipeline[-1], pipeline[0].transform(X), y)
    np.testing.assert_array_equal(gap_scores(pipeline, X, y), expected)
    assert not np.allclose(expected, gap_scores(pipeline[-1], X, y))
    alone = make_pipeline(LateFusionClassifier(GROUPS, **FAST)).fit(X, y)
    np.testing.assert_array_equal(gap_scores(alone, X, y), gap_scores(alone[-1], X, y))


def test_scores_during_training_equal_those_of_the_fitted_classifier(monkeypatch, with_absent):
    X, y = with_absent
    jobs = []
    original = LateFusionClassifier._fit_module
    monkeypatch.setattr(
        LateFusionClassifier, "_fit_module", lambda self, context: (jobs.append(context), original(self, context))[1]
    )
    clf = LateFusionClassifier(GROUPS, **FAST | {"cv": None}, batch_size=7).fit(X, y)
    train, options = jobs[0].train, jobs[0].options
    assert 7 < len(train) < len(X)
    shuffled = train.subset(np.random.default_rng(0).permutation(train.rows.numpy()))
    clf.module_.train()
    for rows in (train, shuffled):
        scores = true_class_scores(clf.module_, rows, options)
        assert not clf.module_.training
        expected = gap_scores(clf, X, y)[rows.rows.numpy()][:, [1, 0]]  # Names are sorted in the module.
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        assert np.isnan(scores).any()


# One scikit-learn classifier per modality ----------------------------------------------------------


def test_each_classifier_gets_the_rows_of_its_block(with_absent):
    X, y = with_absent
    fitted = naive_bayes(X, y)  # It rejects NaN.
    scores = gap_scores(fitted, blocks_of(X), y)
    for column, (name, block) in enumerate(blocks_of(X).items()):
        present = ~np.isnan(block[:, 0])
        proba = fitted[name].predict_proba(block[present])
        expected = at_true_class([proba], fitted[name].classes_, y[present])[:, 0]
        np.testing.assert_array_equal(scores[present, column], expected)
        assert np.isnan(scores[~present, column]).all()
    lists = {name: block.tolist() for name, block in blocks_of(X).items()}
    np.testing.assert_allclose(gap_scores(fitted, lists, y), scores, atol=1e-4)


def test_block_with_some_values_is_present(data):
    X, y = data
    holes = X.copy()
    holes[::2, 1] = np.nan
    holes[0, :5] = np.nan
    fitted = {"audio": make_pipeline(SimpleImputer(), GaussianNB()).fit(X[:, :5], y)}
    scores = gap_scores(fitted, {"audio": holes[:, :5]}, y)
    np.testing.assert_array_equal(np.isnan(scores[:, 0]), np.arange(90) == 0)


def test_columns_have_the_order_of_the_classifiers(data):
    X, y = data
    fitted, blocks = naive_bayes(X, y), blocks_of(X)
    reordered = {"audio": fitted["audio"], "image": fitted["image"]}
    blocks["smell"] = np.ones((90, 1))
    np.testing.assert_array_equal(gap_scores(reordered, blocks, y), gap_scores(fitted, blocks, y)[:, [1, 0]])


def test_modality_without_rows(data):
    X, y = data
    fitted, blocks = naive_bayes(X, y), blocks_of(X)
    complete = gap_scores(fitted, blocks, y)
    blocks["audio"] = np.full((90, 5), np.nan)
    scores = gap_scores(fitted, blocks, y)
    np.testing.assert_array_equal(scores[:, 0], complete[:, 0])
    assert np.isnan(scores[:, 1]).all()


def test_two_dimensional_x_is_passed_to_all_classifiers(data):
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    fitted = {"nb": GaussianNB().fit(frame, y), "lr": LogisticRegression().fit(frame, y)}
    expected = at_true_class([clf.predict_proba(frame) for clf in fitted.values()], NAMES[[2, 1, 0]], y)
    np.testing.assert_array_equal(gap_scores(fitted, frame, y), expected)


def test_classifiers_may_have_different_classes():
    x = np.arange(12.0)[:, None] % 5
    y = np.arange(12) % 2 + 1
    few = GaussianNB().fit(x, y)
    more = GaussianNB().fit(np.vstack([x, x + 9]), np.r_[y, np.zeros(12, int)])  # Its first class is 0.
    expected = np.column_stack([few.predict_proba(x)[range(12), y - 1], more.predict_proba(x)[range(12), y]])
    np.testing.assert_array_equal(gap_scores({"few": few, "more": more}, x, y), expected)


def test_classes_are_required_only_of_present_modalities():
    x = np.arange(12.0)[:, None] % 5
    y = np.arange(12) % 3
    block = np.where(y[:, None] == 2, np.nan, x)
    fitted = {"all": GaussianNB().fit(x, y), "two": GaussianNB().fit(x[y < 2], y[y < 2])}
    scores = gap_scores(fitted, {"all": x, "two": block}, y)
    np.testing.assert_array_equal(np.isnan(scores[:, 1]), y == 2)
    with pytest.raises(ValueError, match=r"class 2.*their classes are \[0, 1\]"):
        gap_scores(fitted, {"all": x, "two": x}, y)


def texts_of(y):
    """Return texts of different lengths that contain the class."""
    return ["very " * (row % 3) + label for row, label in enumerate(y)]


@pytest.mark.parametrize("kind", ["list", "array", "series", "tokens"])
@pytest.mark.parametrize("cv", [None, 2])
def test_blocks_of_text(kind, cv, data):
    X, y = data
    texts = texts_of(y)
    vectorizer = CountVectorizer()
    if kind == "tokens":
        texts = [text.split() for text in texts]
        vectorizer = CountVectorizer(analyzer=list)
    text_clf = make_pipeline(vectorizer, LogisticRegression()).fit(texts, y)
    fitted = {"text": text_clf, "image": GaussianNB().fit(X[:, 5:], y)}
    block = {"array": np.array, "series": pd.Series}.get(kind, list)(texts)
    scores = gap_scores(fitted, {"text": block, "image": X[:, 5:]}, y, cv=cv)
    if cv is None:
        expected = at_true_class([text_clf.predict_proba(texts)], text_clf.classes_, y)
        np.testing.assert_array_equal(scores[:, :1], expected)
    assert (scores[:, 0] > 0.5).all()
    assert not np.isnan(scores).any()


@pytest.mark.parametrize("cv", [None, 3])
def test_sparse_blocks(cv, data):
    X, y = data
    fitted = {name: LogisticRegression().fit(block, y) for name, block in blocks_of(X).items()}
    expected = gap_scores(fitted, blocks_of(X), y, cv=cv)
    sparse = {name: sp.csr_matrix(block) for name, block in blocks_of(X).items()}
    np.testing.assert_allclose(gap_scores(fitted, sparse, y, cv=cv), expected, atol=1e-3)


def test_one_long_text_does_not_pad_the_others(data):
    texts, y = texts_of(data[1]), data[1]
    clf = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, y)
    texts[0] += " red" * 25_000
    tracemalloc.start()
    try:
        gap_scores({"text": clf}, {"text": texts}, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # In a NumPy array of str, each of the 90 texts would take the length of the longest, 4 bytes per character.
    assert peak < 40 * 4 * len(texts[0])


def test_unfitted_classifiers_without_cv_raise(data):
    X, y = data
    with pytest.raises(NotFittedError):
        gap_scores({"a": GaussianNB()}, X, y)
    with pytest.raises(NotFittedError):
        gap_scores(LateFusionClassifier(GROUPS), X, y)


@pytest.mark.parametrize("cv", [None, 2])
def test_classifier_without_probabilities_raises(cv, data):
    X, y = data
    fitted = {"nb": GaussianNB().fit(X, y), "svm": LinearSVC().fit(X, y)}
    with pytest.raises(TypeError, match=r"'svm': LinearSVC has no predict_proba\. Wrap it in CalibratedClassifierCV"):
        gap_scores(fitted, X, y, cv=cv)


def test_missing_block_raises(data):
    X, y = data
    with pytest.raises(ValueError, match=r"no block 'audio'.*\['image'\]"):
        gap_scores(naive_bayes(X, y), {"image": X[:, 5:]}, y)


@pytest.mark.parametrize("estimator", [GaussianNB(), make_pipeline(StandardScaler(), GaussianNB()), "late", None])
def test_other_estimators_raise(estimator, data):
    X, y = data
    if hasattr(estimator, "fit"):
        estimator = clone(estimator).fit(X, y)
    with pytest.raises(TypeError, match="gives no scores per modality: pass a classifier of this package"):
        gap_scores(estimator, X, y)


# Probabilities -------------------------------------------------------------------------------------

PROBA = {
    "a": np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [np.nan, np.nan, np.nan], [0.25, 0.25, 0.5]]),
    "b": np.array([[0.4, 0.3, 0.3], [0.0, 0.0, 1.0], [0.2, 0.5, 0.3], [0.6, 0.2, 0.2]]),
}
Y = np.array(["blue", "green", "red", "blue"])


def test_given_probabilities_by_hand():
    expected = [[0.7, 0.4], [0.8, 0], [np.nan, 0.3], [0.25, 0.6]]
    np.testing.assert_array_equal(gap_scores(PROBA, None, Y), expected)
    np.testing.assert_array_equal(gap_scores(PROBA, None, Y.tolist()), expected)
    np.testing.assert_array_equal(gap_scores(PROBA, None, pd.Series(Y, index=[9, 8, 7, 6])), expected)
    frames = {name: pd.DataFrame(shares) for name, shares in PROBA.items()}
    np.testing.assert_array_equal(gap_scores(frames, None, Y), expected)


def test_labels_name_the_columns():
    labels = ["red", "blue", "green"]
    expected = [[0.2, 0.3], [0.1, 1], [np.nan, 0.2], [0.25, 0.2]]
    np.testing.assert_array_equal(gap_scores(PROBA, None, Y, labels=labels), expected)
    np.testing.assert_array_equal(gap_scores(PROBA, None, [2, 0, 0, 1], labels=[2, 1, 0])[:, 1], [0.4, 1, 0.3, 0.2])


def test_float16_probabilities():
    shares = np.random.default_rng(0).dirichlet(np.ones(50), 200).astype(np.float16)
    y = np.arange(200) % 50
    np.testing.assert_array_equal(gap_scores({"a": shares}, None, y)[:, 0], shares[range(200), y])


def changed(row, values):
    shares = PROBA["a"].copy()
    shares[row] = values
    return shares


@pytest.mark.parametrize(
    "shares, message",
    [
        (changed(1, [0.1, 0.8, 0.3]), r"'a' in row 1, \[0\.1, 0\.8, 0\.3\].*Pass the output of predict_proba"),
        (changed(3, [1.2, -0.1, -0.1]), "'a' in row 3.* not at least 0 with the sum 1"),
        (changed(0, [0.5, np.nan, 0.5]), "'a' in row 0"),
        (changed(0, [1.0, np.nan, np.nan]), "'a' in row 0"),
        (np.log(PROBA["a"]), "'a' in row 0"),
        (changed(0, [np.inf, 0, 0]), "infinity"),
        (PROBA["a"][:, :2], r"'a' have 2 columns for 3 classes.*Pass the class of each column as labels"),
        (PROBA["a"][:3], r"inconsistent numbers of samples: \[3, 4\]"),
        (PROBA["a"][:, 0], "2D array"),
    ],
)
def test_invalid_probabilities_raise(shares, message):
    with pytest.raises(ValueError, match=message):
        gap_scores({"b": PROBA["b"], "a": shares}, None, Y)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"labels": ["red", "blue", "red"]}, r"labels=\['red', 'blue', 'red'\] has a class twice"),
        ({"labels": ["red", "blue", "pink"]}, "y has the class 'green'.*'pink'"),
        ({"X": np.ones((4, 2))}, "need no X and no cv"),
        ({"cv": 2}, "need no X and no cv"),
    ],
)
def test_arguments_incompatible_with_probabilities_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        gap_scores(PROBA, **{"X": None, "y": Y} | arguments)


def test_empty_dict_raises():
    with pytest.raises(ValueError, match="empty dict"):
        gap_scores({}, None, Y)


def test_labels_with_classifiers_raise(late, data):
    with pytest.raises(ValueError, match=r"labels is for given probabilities: classifiers have their own classes_"):
        gap_scores(late, *data, labels=NAMES)


# Out of fold ---------------------------------------------------------------------------------------


def by_hand(estimator, X, y, splits):
    table = np.full((len(y), 2), np.inf)
    for train, test in splits:
        table[test] = gap_scores(clone(estimator).fit(X[train], y[train]), X[test], y[test])
    return table


def test_out_of_fold_scores_come_from_clones_without_the_row(data):
    X, y = data
    estimator = LateFusionClassifier(GROUPS, **FAST)
    scores = gap_scores(estimator, X, y, cv=3)
    np.testing.assert_array_equal(scores, by_hand(estimator, X, y, StratifiedKFold(3).split(X, y)))
    assert not hasattr(estimator, "module_")


def test_out_of_fold_does_not_change_a_fitted_estimator(late, data):
    before = late.predict_proba(data[0])
    gap_scores(late, *data, cv=2)
    np.testing.assert_array_equal(late.predict_proba(data[0]), before)


@pytest.mark.parametrize("container", ["dict", "SliceDict", "DataFrame"])
def test_out_of_fold_from_any_container(container, with_absent):
    X, y = with_absent
    expected = gap_scores(LateFusionClassifier(GROUPS, **FAST), X, y, cv=2)
    if container == "DataFrame":
        rows, groups = pd.DataFrame(X, index=np.arange(90) + 5), GROUPS
    else:
        rows, groups = {"dict": dict, "SliceDict": SliceDict}[container](**blocks_of(X)), None
    scores = gap_scores(LateFusionClassifier(groups, **FAST), rows, y, cv=2)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_out_of_fold_from_a_pipeline(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), LateFusionClassifier(GROUPS, **FAST))
    expected = by_hand(pipeline, X, y, StratifiedKFold(2).split(X, y))
    np.testing.assert_array_equal(gap_scores(pipeline, X, y, cv=2), expected)


def test_out_of_fold_from_a_dict_of_classifiers(with_absent):
    X, y = with_absent
    expected = np.empty((90, 2))
    for train, test in KFold(4, shuffle=True, random_state=0).split(X):
        expected[test] = gap_scores(naive_bayes(X[train], y[train]), blocks_of(X[test]), y[test])
    unfitted = {"image": GaussianNB(), "audio": GaussianNB()}
    cv = KFold(4, shuffle=True, random_state=0)
    np.testing.assert_array_equal(gap_scores(unfitted, blocks_of(X), y, cv=cv), expected)
    np.testing.assert_array_equal(gap_scores(unfitted, blocks_of(X), pd.Series(y[:90]), cv=list(cv.split(X))), expected)
    with pytest.raises(NotFittedError):
        gap_scores(unfitted, {name: block[:1] for name, block in blocks_of(X).items()}, y[:1])


def test_groups_reach_the_splitter(data):
    X, y = data
    groups = np.repeat(np.arange(15), 6)
    unfitted = {"nb": GaussianNB(), "lr": LogisticRegression()}
    expected = gap_scores(unfitted, X, y, cv=list(GroupKFold(3).split(X, y, groups)))
    np.testing.assert_array_equal(gap_scores(unfitted, X, y, cv=GroupKFold(3), groups=groups), expected)
    with pytest.raises(ValueError, match="groups"):
        gap_scores(unfitted, X, y, cv=GroupKFold(3))


@pytest.mark.parametrize("container", ["classifier", "Pipeline", "search"])
def test_groups_reach_the_folds_of_the_clones(container, data):
    X, y = data
    groups = np.repeat(np.arange(15), 6)
    by_groups = LateFusionClassifier(GROUPS, cv=GroupKFold(2), **FAST)  # raises without groups
    estimator, step = {
        "classifier": (by_groups, ""),
        "Pipeline": (make_pipeline(StandardScaler(), by_groups), "latefusionclassifier__"),
        "search": (GridSearchCV(LateFusionClassifier(GROUPS, **FAST), {"lr": [0.01]}, cv=GroupKFold(2)), ""),
    }[container]
    expected = np.empty((90, 2))
    for train, test in StratifiedGroupKFold(3).split(X, y, groups):
        clf = clone(estimator).fit(X[train], y[train], **{f"{step}groups": groups[train]})
        expected[test] = gap_scores(clf, X[test], y[test])
    np.testing.assert_array_equal(gap_scores(estimator, X, y, cv=3, groups=groups), expected)


def test_groups_without_splits_raise(late, data):
    with pytest.raises(ValueError, match=r"groups is for splits, but cv=None.*pass cv, or no groups"):
        gap_scores(late, *data, groups=data[1])


@pytest.mark.parametrize(
    "cv",
    [
        TimeSeriesSplit(3),
        ShuffleSplit(2, random_state=0),
        RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
        [(np.arange(45), np.arange(45, 90))],
        [(np.arange(45), np.arange(45, 90)), (np.arange(45, 90), [0, *range(44)])],
    ],
    ids=["some rows never", "some rows never, some twice", "each row twice", "one half", "as many, but one twice"],
)
def test_splits_must_score_each_row_once(cv, data):
    with pytest.raises(ValueError, match=r"must hold out every row once\. Use a number of folds, or a splitter like"):
        gap_scores({"nb": GaussianNB()}, *data, cv=cv)


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
def test_class_of_one_row_cannot_be_scored_out_of_fold(data):
    X, y = data[0], data[1].astype(object)
    y[7] = "pink"
    with pytest.raises(ValueError, match=r"class 'pink'.*With cv, each class needs rows in more than one fold"):
        gap_scores({"nb": GaussianNB()}, X, y, cv=3)


def test_jobs_do_not_change_the_scores(monkeypatch, data):
    X, y = data
    threads = []
    original = LateFusionClassifier.fit
    monkeypatch.setattr(
        LateFusionClassifier, "fit", lambda *args: (threads.append(threading.get_ident()), original(*args))[1]
    )
    estimator = LateFusionClassifier(GROUPS, **FAST)
    with joblib.parallel_config("threading"):  # Processes would take seconds to import torch.
        scores = gap_scores(estimator, X, y, cv=3, n_jobs=2)
    assert len(threads) == 3
    assert threading.get_ident() not in threads
    np.testing.assert_array_equal(scores, gap_scores(estimator, X, y, cv=3))


# y -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["late", "dict", "proba"])
def test_y_is_checked(source, late, data):
    X, y = data
    if source == "proba":
        estimator, X = {"a": np.full((90, 3), 1 / 3)}, None
    else:
        estimator = late if source == "late" else naive_bayes(X, y)
        X = X if source == "late" else blocks_of(X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        gap_scores(estimator, X, y[:80])
    with pytest.raises(ValueError, match="1d array"):
        gap_scores(estimator, X, np.column_stack([y, y]))
    unknown = np.where(np.arange(90) == 3, "pink", y)
    labels = {"labels": ["blue", "green", "red"]} if source == "proba" else {}
    with pytest.raises(ValueError, match=r"y has the class 'pink'.*their classes are \['blue', 'green', 'red'\]"):
        gap_scores(estimator, X, unknown, **labels)


def test_unequal_blocks(data):
    X, y = data
    with pytest.raises(ValueError, match="differ in length"):
        gap_scores(naive_bayes(X, y), blocks_of(X) | {"audio": X[:80, :5]}, y)


def test_search_is_scored_by_its_best_estimator(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST)
    search = GridSearchCV(clf, {"lr": [0.002]}, cv=2).fit(X, y)
    np.testing.assert_array_equal(gap_scores(search, X, y), gap_scores(search.best_estimator_, X, y))
    np.testing.assert_array_equal(gap_scores(search, X, y, cv=2), gap_scores(clf, X, y, cv=2))


def test_dict_of_classifiers_and_arrays_raises(data):
    X, y = data
    with pytest.raises(TypeError, match="either classifiers or probabilities"):
        gap_scores({"audio": LogisticRegression().fit(X, y), "image": np.full((len(y), 3), 1 / 3)}, X, y)
