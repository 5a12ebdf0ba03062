"""modality_contributions: Shapley values compared with their definition over all orders of the modalities."""

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
def data(draw_modalities):
    """Three modalities of increasing strength, of which two are absent from some rows."""
    X, y = draw_modalities(120, (0.0, 1.2, 3.0))
    X[:15, :4] = np.nan
    X[10:30, 4:8] = np.nan
    return X, np.array(["red", "green", "blue"])[y]


def by_definition(clf, X, y):
    """Return the value that each modality adds, averaged over all orders, by one prediction per row and set."""
    code = clf.classes_.tolist().index
    values = np.full((len(X), len(clf.modalities_)), np.nan)
    for row, label in enumerate(y):
        present = [name for name, columns in clf.modalities_.items() if not np.isnan(X[row, columns]).any()]

        def value(names, row=row, label=label):
            if not names:
                return 1 / len(clf.classes_)
            masked = np.full((1, X.shape[1]), np.nan, dtype=X.dtype)
            for name in names:
                masked[0, clf.modalities_[name]] = X[row, clf.modalities_[name]]
            return clf.predict_proba(masked)[0, code(label)]

        gains = {name: [] for name in present}
        for order in itertools.permutations(present):
            for position, name in enumerate(order):
                gains[name].append(value(order[: position + 1]) - value(order[:position]))
        for column, name in enumerate(clf.modalities_):
            if name in present:
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
def test_values_equal_the_definition(classifier, data):
    X, y = data
    clf = classifier.fit(X, y)
    result = modality_contributions(clf, X[:40], y[:40])
    assert result.modalities == ["text", "audio", "image"]
    np.testing.assert_allclose(result.contributions, by_definition(clf, X[:40], y[:40]), atol=1e-6)
    np.testing.assert_array_equal(np.isnan(result.contributions[:, 1]), np.isnan(X[:40, 0]))


def test_values_add_up(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, batch_size=16, **FAST).fit(X, y)
    result = modality_contributions(clf, X, y)
    probabilities = clf.predict_proba(X)[np.arange(120), np.searchsorted(clf.classes_, y)]
    np.testing.assert_allclose(np.nansum(result.contributions, axis=1), probabilities - 1 / 3, atol=1e-6)


def test_means_and_intervals_use_the_rows_with_the_modality(data):
    X, y = data
    result = modality_contributions(LateFusionClassifier(GROUPS, **FAST).fit(X, y), X, y, confidence_level=0.9)
    for column, name in enumerate(result.modalities):
        values = result.contributions[~np.isnan(result.contributions[:, column]), column]
        assert len(values) == {"text": 120, "audio": 105, "image": 100}[name]
        assert result.contributions_mean[column] == pytest.approx(values.mean())
        interval = t.interval(0.9, len(values) - 1, values.mean(), values.std(ddof=1) / len(values) ** 0.5)
        np.testing.assert_allclose(result.contributions_interval[column], interval)
    best = dict(zip(result.modalities, result.contributions_mean, strict=True))
    assert best["text"] > best["image"] > best["audio"]


def test_one_row_has_no_interval(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST).fit(X, y)
    result = modality_contributions(clf, X[20:21], y[20:21])
    np.testing.assert_array_equal(np.isnan(result.contributions_mean), [False, False, True])
    assert np.isnan(result.contributions_interval).all()


def test_single_modality_contributes_everything(data):
    X, y = np.nan_to_num(data[0]), data[1]
    clf = LateFusionClassifier(**FAST).fit(X, y)
    probabilities = clf.predict_proba(X)[np.arange(120), np.searchsorted(clf.classes_, y)]
    np.testing.assert_allclose(modality_contributions(clf, X, y).contributions[:, 0], probabilities - 1 / 3, atol=1e-6)


def test_pipelines_searches_and_dicts_are_accepted(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST)
    expected = modality_contributions(clf.fit(X, y), X, y).contributions
    pipeline = make_pipeline(FunctionTransformer(np.negative), LateFusionClassifier(GROUPS, **FAST)).fit(-X, y)
    np.testing.assert_array_equal(modality_contributions(pipeline, -X, y).contributions, expected)
    search = GridSearchCV(clf, {"lr": [0.002]}, cv=2).fit(X, y)
    np.testing.assert_array_equal(modality_contributions(search, pd.DataFrame(X).to_numpy(), y).contributions, expected)
    blocks = {name: X[:, columns] for name, columns in GROUPS.items()}
    np.testing.assert_allclose(
        modality_contributions(LateFusionClassifier(**FAST).fit(blocks, y), blocks, y).contributions, expected
    )


def test_invalid_input_raises(data):
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


def test_encoders_process_each_row_once(data):
    X, y = data
    clf = JointClassifier(GROUPS, **FAST).fit(X, y)
    seen = []
    clf.module_.branch("image").encoder.register_forward_hook(lambda encoder, x, features: seen.append(len(features)))
    modality_contributions(clf, X, y)
    assert sum(seen) == (~np.isnan(X[:, 4])).sum()
