"""modality_contributions: Shapley values against their definition, over all orders of the modalities."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mmestim import JointClassifier, LateFusionClassifier, modality_contributions
from mmestim.balancers import MLA, QMF

GROUPS = {"text": slice(8, 12), "audio": slice(0, 4), "image": slice(4, 8)}
FAST = {"max_epochs": 4, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    means = np.repeat(np.eye(3)[y], [2, 1, 1], axis=1)
    X = np.hstack([scale * means + rng.normal(size=(120, 4)) for scale in (0.0, 1.2, 3.0)])
    X[:15, :4] = np.nan
    X[10:30, 4:8] = np.nan
    return X.astype(np.float32), np.array(["red", "green", "blue"])[y]


def by_definition(clf, X, y):
    """What each modality adds, averaged over all orders, one row and one prediction at a time."""
    code = clf.classes_.tolist().index
    values = np.full((len(X), len(clf.modalities_)), np.nan)
    for row, label in enumerate(y):
        here = [name for name, columns in clf.modalities_.items() if not np.isnan(X[row, columns]).any()]

        def value(names, row=row, label=label):
            if not names:
                return 1 / len(clf.classes_)
            masked = np.full((1, X.shape[1]), np.nan, dtype=X.dtype)
            for name in names:
                masked[0, clf.modalities_[name]] = X[row, clf.modalities_[name]]
            return clf.predict_proba(masked)[0, code(label)]

        gains = {name: [] for name in here}
        for order in itertools.permutations(here):
            for place, name in enumerate(order):
                gains[name].append(value(order[: place + 1]) - value(order[:place]))
        for column, name in enumerate(clf.modalities_):
            if name in here:
                values[row, column] = np.mean(gains[name])
    return values


@pytest.mark.parametrize(
    "classifier",
    [
        LateFusionClassifier(GROUPS, **FAST),
        LateFusionClassifier(GROUPS, fusion="mean", **FAST),
        JointClassifier(GROUPS, unimodal_weight=1.0, **FAST),
        JointClassifier(GROUPS, balancer=MLA(), **FAST),
        JointClassifier(GROUPS, balancer=QMF(), **FAST),
    ],
)
def test_values_are_those_of_the_definition(classifier, data):
    X, y = data
    clf = classifier.fit(X, y)
    found = modality_contributions(clf, X[:40], y[:40])
    assert found.modalities == ["text", "audio", "image"]
    np.testing.assert_allclose(found.contributions, by_definition(clf, X[:40], y[:40]), atol=1e-6)
    np.testing.assert_array_equal(np.isnan(found.contributions[:, 1]), np.isnan(X[:40, 0]))


def test_values_add_up(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, batch_size=16, **FAST).fit(X, y)
    found = modality_contributions(clf, X, y)
    share = clf.predict_proba(X)[np.arange(120), np.searchsorted(clf.classes_, y)]
    np.testing.assert_allclose(np.nansum(found.contributions, axis=1), share - 1 / 3, atol=1e-6)


def test_means_and_intervals_are_those_of_the_rows_that_have_the_modality(data):
    X, y = data
    found = modality_contributions(LateFusionClassifier(GROUPS, **FAST).fit(X, y), X, y, confidence_level=0.9)
    for column, name in enumerate(found.modalities):
        values = found.contributions[~np.isnan(found.contributions[:, column]), column]
        assert len(values) == {"text": 120, "audio": 105, "image": 100}[name]
        assert found.contributions_mean[column] == pytest.approx(values.mean())
        interval = t.interval(0.9, len(values) - 1, values.mean(), values.std(ddof=1) / len(values) ** 0.5)
        np.testing.assert_allclose(found.contributions_interval[column], interval)
    best = dict(zip(found.modalities, found.contributions_mean, strict=True))
    assert best["text"] > best["image"] > best["audio"]


def test_one_row_has_no_interval(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST).fit(X, y)
    found = modality_contributions(clf, X[20:21], y[20:21])
    np.testing.assert_array_equal(np.isnan(found.contributions_mean), [False, False, True])
    assert np.isnan(found.contributions_interval).all()


def test_one_modality_contributes_everything(data):
    X, y = np.nan_to_num(data[0]), data[1]
    clf = LateFusionClassifier(**FAST).fit(X, y)
    share = clf.predict_proba(X)[np.arange(120), np.searchsorted(clf.classes_, y)]
    np.testing.assert_allclose(modality_contributions(clf, X, y).contributions[:, 0], share - 1 / 3, atol=1e-6)


def test_what_wraps_a_classifier_stands_for_it(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST)
    expected = modality_contributions(clf.fit(X, y), X, y).contributions
    pipeline = make_pipeline(FunctionTransformer(np.negative), LateFusionClassifier(GROUPS, **FAST)).fit(-X, y)
    np.testing.assert_array_equal(modality_contributions(pipeline, -X, y).contributions, expected)
    search = GridSearchCV(clf, {"lr": [0.01]}, cv=2).fit(X, y)
    np.testing.assert_array_equal(modality_contributions(search, pd.DataFrame(X).to_numpy(), y).contributions, expected)
    blocks = {name: X[:, columns] for name, columns in GROUPS.items()}
    np.testing.assert_allclose(
        modality_contributions(LateFusionClassifier(**FAST).fit(blocks, y), blocks, y).contributions, expected
    )


def test_bad_input(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST).fit(X, y)
    with pytest.raises(TypeError, match="cannot leave modalities out"):
        modality_contributions(LogisticRegression().fit(np.nan_to_num(X), y), X, y)
    with pytest.raises(ValueError, match="class 'black'"):
        modality_contributions(clf, X[:1], ["black"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        modality_contributions(clf, X, y[1:])
    with pytest.raises(ValueError, match=r"confidence_level=1\.0"):
        modality_contributions(clf, X, y, confidence_level=1.0)
    seven = {f"m{i}": [i] for i in range(6)} | {"m6": slice(6, 12)}
    with pytest.raises(ValueError, match="7 modalities: contributions are exact for up to six"):
        modality_contributions(LateFusionClassifier(seven, max_epochs=1).fit(np.nan_to_num(X), y), X, y)


def test_encoders_see_each_row_once(data):
    X, y = data
    clf = JointClassifier(GROUPS, **FAST).fit(X, y)
    seen = []
    clf.module_.branch("image").encoder.register_forward_hook(lambda encoder, x, features: seen.append(len(features)))
    modality_contributions(clf, X, y)
    assert sum(seen) == (~np.isnan(X[:, 4])).sum()
