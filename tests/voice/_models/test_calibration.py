"""Calibration of scores, and thresholds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.metrics import f1_score

from mmestim.voice._models.calibration import ScoreFusion, UnalteredCalibrator, check_prior, reweigh, tune_thresholds


def test_fused_scores_are_calibrated():
    rng = np.random.default_rng(0)
    true_logits = rng.normal(size=4000)
    targets = (rng.random(4000) < expit(true_logits))[:, None]
    # An overconfident model, noise, and an anti-correlated model.
    logits = np.stack([3 * true_logits + 1, rng.normal(size=4000), -true_logits], axis=1)[:, :, None]
    fusion = ScoreFusion.fit(logits, targets, np.ones_like(targets))
    assert_allclose(fusion.weights[0], [1 / 3, 0, 0], atol=0.05)
    assert_allclose(expit(fusion.logits(logits)).mean(), targets.mean(), atol=0.01)
    constant = ScoreFusion.fit(logits, np.zeros_like(targets), np.ones_like(targets))
    assert constant.weights.tolist() == [[1 / 3] * 3]


def test_unaltered_is_calibrated():
    rng = np.random.default_rng(0)
    proba = rng.random((5000, 3)) ** 3
    is_unaltered = ~(rng.random((5000, 3)) < proba).any(axis=1)
    unaltered = UnalteredCalibrator.fit(proba, is_unaltered)
    assert_allclose(unaltered.proba(proba).mean(), is_unaltered.mean(), atol=0.01)
    assert_allclose(unaltered.weight, 1.0, atol=0.1)  # the labels are independent
    assert_allclose(unaltered.proba(np.array([[0.2, 0.5, 0.0]])), 0.4, atol=0.03)


def test_a_prior_replaces_the_base_rate():
    """As calibration on data with that share of unedited rows would."""
    rng = np.random.default_rng(0)
    is_unaltered = rng.random(20000) < 0.5
    proba = expit(rng.normal(size=(20000, 1)) - 1.5 * is_unaltered[:, None])
    balanced = UnalteredCalibrator.fit(proba, is_unaltered)
    assert balanced.base_rate == is_unaltered.mean()
    rows = is_unaltered | (rng.random(20000) < 1 / 9)  # nine of ten are unedited
    rare = UnalteredCalibrator.fit(proba[rows], is_unaltered[rows])
    reweighed = reweigh(balanced.proba(proba), balanced.base_rate, rare.base_rate)
    assert_allclose(reweighed, rare.proba(proba), atol=0.03)
    assert_allclose(reweigh(np.array([0.0, 0.5, 1.0]), 0.5, 0.9), [0, 0.9, 1])
    assert UnalteredCalibrator.fit(proba, is_unaltered | True).base_rate is None


@pytest.mark.parametrize(
    "prior, base_rate, error, message",
    [
        (0, 0.5, ValueError, "prior=0 must be above 0"),
        (1.0, 0.5, ValueError, "prior=1.0 must be below 1"),
        (float("nan"), 0.5, ValueError, "prior=nan"),
        ("0.5", 0.5, TypeError, "prior='0.5' must be a number"),
        (0.5, None, ValueError, "unknown: it was calibrated without"),
    ],
)
def test_impossible_priors_are_refused(prior, base_rate, error, message):
    with pytest.raises(error, match=message):
        check_prior(prior, base_rate)


def test_thresholds_limit_false_alarms():
    rng = np.random.default_rng(0)
    targets = rng.random((4000, 3)) < 0.2
    proba = expit(rng.normal(size=(4000, 3)) + 2.0 * targets - 1)
    is_unaltered = ~targets.any(axis=1)
    for max_rate in (0.2, 0.05, 0.0):
        thresholds = tune_thresholds(proba, targets, np.ones_like(targets), is_unaltered, max_rate)
        assert (proba[is_unaltered] >= thresholds).any(axis=1).mean() <= max_rate
    # Limits from few rows hold on others.
    few, others = np.arange(4000) < 2000, np.arange(4000) >= 2000
    thresholds = tune_thresholds(proba[few], targets[few], np.ones_like(targets[few]), is_unaltered[few], 0.05)
    assert (proba[others & is_unaltered] >= thresholds).any(axis=1).mean() <= 0.08
    # If unedited rows reach the highest probability too, the threshold is above it, also as float32.
    always = np.full((4000, 1), 0.9999)
    above = tune_thresholds(always, targets[:, :1], targets[:, :1] >= 0, is_unaltered, 0.05)
    assert np.float32(0.9999) < above.astype(np.float32)
    unlimited = tune_thresholds(proba, targets, np.ones_like(targets), is_unaltered, 1.0)
    # For a label that cannot be detected, the best F1 would flag all rows.
    constant = tune_thresholds(np.full((4000, 1), 0.1), targets[:, :1], targets[:, :1] >= 0, is_unaltered, 1.0)
    assert constant >= 0.25
    for label in range(3):
        candidates = [unlimited[label] - 0.05, unlimited[label], unlimited[label] + 0.05]
        f1 = [f1_score(targets[:, label], proba[:, label] >= threshold) for threshold in candidates]
        assert f1[1] >= max(f1) - 0.01
