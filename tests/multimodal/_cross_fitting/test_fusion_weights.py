"""Weights of late fusion: the optimum, modalities without signal, absent modalities and warnings."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from mmestim import LateFusionClassifier, UDIClassifier

GROUPS = {"audio": slice(0, 4), "image": slice(4, 8), "text": slice(8, 12)}
FAST = {"max_epochs": 5, "random_state": 0, "device": "cpu", "cv": 3}


def fused(probabilities, weights):
    """Return the fused probabilities by the formula, over the modalities that a row has."""
    log_proba = sum(np.nan_to_num(weights[name] * np.log(p)) for name, p in probabilities.items())
    proba = np.exp(log_proba - log_proba.max(1, keepdims=True))
    return proba / proba.sum(1, keepdims=True)


@pytest.mark.parametrize("classifier", [LateFusionClassifier, UDIClassifier])
@pytest.mark.parametrize("n_rows", [40, None])
def test_weights_minimise_the_smoothed_cross_entropy_out_of_fold(classifier, n_rows, data):
    X, y = (part[:n_rows] for part in data)
    clf = classifier(GROUPS, store_oof=True, **FAST | {"max_epochs": 20}).fit(X, y)

    def objective(weights):
        proba, pull = fused(clf.oof_proba_, weights), sum((w - 1) ** 2 for w in weights.values())
        smoothing = 1 / (len(y) + 1)
        uniform = -np.log(proba).mean()
        return (1 - smoothing) * log_loss(y, proba) + smoothing * uniform + 1e-3 * pull

    best = objective(clf.fusion_weights_)
    for name, step in itertools.product(GROUPS, (-0.02, 0.02)):
        moved = clf.fusion_weights_ | {name: max(0.0, clf.fusion_weights_[name] + step)}
        assert objective(moved) >= best - 1e-9


def test_predictions_follow_the_weights_and_leave_absent_modalities_out(data):
    X, y = data[0].copy(), data[1]
    X[::3, :4] = np.nan
    X[1::5, 8:] = np.nan
    clf = LateFusionClassifier(GROUPS, **FAST).fit(X, y)
    expected = fused(clf.predict_proba_per_modality(X), clf.fusion_weights_)
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-5)


def test_a_modality_without_signal_gets_little_weight(draw_modalities):
    X, y = draw_modalities(300, (0.0, 3.0))
    groups = {"noise": slice(0, 4), "text": slice(4, 8)}
    settings = FAST | {"max_epochs": 60, "early_stopping": False, "lr": 0.1}
    weights = LateFusionClassifier(groups, **settings).fit(X, y).fusion_weights_
    assert weights["noise"] < 0.3 < weights["text"]


@pytest.mark.parametrize("classifier", [LateFusionClassifier, UDIClassifier])
def test_modality_that_is_never_held_out_neither_leads_nor_counts(classifier, draw_modalities):
    X, y = draw_modalities(120, (0.0, 1.5))
    site = np.arange(120) // 40
    X[site > 0, :4] = np.nan  # The folds are whole sites, so that all rows of the noise train.
    groups = {"noise": slice(0, 4), "text": slice(4, 8)}
    clf = classifier(groups, **FAST | {"max_epochs": 60, "lr": 0.1})
    with pytest.warns(UserWarning, match=r"no row with modality 'noise' is held out.*weight in the fused prediction"):
        clf.fit(X, y, groups=site)
    assert clf.fusion_weights_["noise"] == 0 < clf.fusion_weights_["text"]
    assert getattr(clf, "anchor_", "text") == "text"


def test_row_with_modalities_of_weight_zero_alone_is_predicted_by_them(data):
    X, y = data
    clf = LateFusionClassifier(GROUPS, **FAST).fit(X, y)
    only_image = X.copy()
    only_image[:, :4] = only_image[:, 8:] = np.nan
    with torch.no_grad():
        clf.module_.fusion_weights[:] = torch.tensor([1.0, 0.0, 1.0])
    per_modality = clf.predict_proba_per_modality(only_image)["image"]
    np.testing.assert_allclose(clf.predict_proba(only_image), per_modality, atol=1e-6)


def test_weights_of_rows_count(data):
    X, y = data
    weight = np.where(np.arange(len(y)) < 120, 1.0, 0.0)
    weighted = LateFusionClassifier(GROUPS, **FAST).fit(X, y, sample_weight=weight)
    plain = LateFusionClassifier(GROUPS, **FAST).fit(X[:120], y[:120])
    assert weighted.fusion_weights_ == pytest.approx(plain.fusion_weights_, rel=1e-4)


@pytest.mark.parametrize("fusion", ["sum", "mean"])
def test_weak_modalities_that_lower_the_fused_accuracy_are_reported(fusion, draw_modalities):
    X, y = draw_modalities(300, (0.0, 0.0, 0.0, 1.5))
    groups = {name: slice(4 * i, 4 * i + 4) for i, name in enumerate(["a", "b", "c", "text"])}
    X[:, :12] *= 100  # Their encoders standardise this, so the noise is memorised.
    settings = FAST | {"max_epochs": 60, "early_stopping": False, "lr": 0.1}
    with pytest.warns(UserWarning, match=r"fused accuracy on held-out rows is .* of modality 'text' alone.*'weighted'"):
        LateFusionClassifier(groups, fusion=fusion, **settings).fit(X, y)


def test_weights_without_held_out_rows_are_reported(data):
    settings = FAST | {"cv": None, "early_stopping": False}
    with pytest.warns(UserWarning, match=r"no held-out row.*Set cv=5"):
        clf = LateFusionClassifier(GROUPS, **settings).fit(*data)
    assert clf.fusion_weights_ == dict.fromkeys(GROUPS, 1.0)


@pytest.mark.parametrize("fusion", ["sum", "mean"])
def test_other_rules_have_equal_weights(fusion, data):
    pair = {"audio": slice(0, 8), "text": slice(8, 12)}
    assert LateFusionClassifier(pair, fusion=fusion, **FAST).fit(*data).fusion_weights_ == {"audio": 1.0, "text": 1.0}
