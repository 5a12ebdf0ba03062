"""Metrics of detection: by hand, and against scikit-learn and other ways to compute them."""

import json

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score, roc_curve

from mmestim.voice.metrics import detection_report, equal_error_rate, expected_calibration_error, per_label_scores

# Equal error rate ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y_true, y_score, expected",
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], 1),
        ([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8], 0.5),
        ([0, 1], [0.5, 0.5], 0.5),  # equal scores: ties are broken at random
        ([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.7, 0.6, 0.8, 0.9], 1 / 3),
        # Threshold 0.4: 1 of 4 is missed, and 1 of 2 is a false alarm. Above it: 2 are missed, without a false alarm.
        ([1, 1, 1, 1, 0, 0], [0.9, 0.8, 0.4, 0.2, 0.4, 0.1], 1 / 3),
        ([1, 1], [0.2, 0.4], np.nan),
    ],
)
def test_equal_error_rate_by_hand(y_true, y_score, expected):
    np.testing.assert_allclose(equal_error_rate(y_true, y_score), expected)


@pytest.mark.parametrize("seed", range(10))
def test_equal_error_rate_is_the_crossing_of_the_roc_curve(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.random(100) < 0.3].astype(int)
    score = (y + rng.normal(size=102)).round(1 if seed % 2 else 9)  # with and without equal scores
    false_alarm_rates, hit_rates, _ = roc_curve(y, score)
    reference = brentq(lambda x: 1 - x - interp1d(false_alarm_rates, hit_rates)(x), 0, 1)
    assert equal_error_rate(y, score) == pytest.approx(reference, abs=1e-6)
    assert equal_error_rate(1 - y, -score) == pytest.approx(reference, abs=1e-6)


# Calibration ---------------------------------------------------------------------------------------


def test_calibration_error_by_hand():
    # Two clips are in the bin from 0 to 0.1, one at its edge: mean 0.05, frequency 1/2. Two are in the bin from 0.9
    # to 1: mean 0.95, frequency 1.
    assert expected_calibration_error([0, 1, 1, 1], [0, 0.1, 0.95, 0.95]) == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)
    assert expected_calibration_error([0, 1, 0, 1], [0.5] * 4) == 0
    assert expected_calibration_error([0, 1], [0.0, 1.0], n_bins=1) == 0


@pytest.mark.parametrize("n_bins", [2, 5, 10, 15])
def test_calibration_error_agrees_with_the_curve_of_scikit_learn(n_bins):
    rng = np.random.default_rng(0)
    p = rng.random(500).round(2)
    y = (rng.random(500) < p**2).astype(int)
    frequency, mean = calibration_curve(y, p, n_bins=n_bins)
    weights = np.bincount(np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], p), minlength=n_bins)
    reference = np.average(np.abs(frequency - mean), weights=weights[weights > 0])
    assert expected_calibration_error(y, p, n_bins=n_bins) == pytest.approx(reference)


# Detection report ---------------------------------------------------------------------------------

LABELS = ["unaltered", "cut", "paste", "mp3", "reverb"]


@pytest.fixture
def clips():
    """True labels and probabilities of 300 clips."""
    rng = np.random.default_rng(0)
    y = (rng.random((300, 5)) < 0.3).astype(float)
    y[:, 0] = ~y[:, 1:].any(axis=1)
    return y, np.clip(0.3 * y + 0.7 * rng.random((300, 5)), 0, 1)


def test_the_report_agrees_with_scikit_learn(clips):
    y, p = clips
    thresholds = {"unaltered": 0.9, "cut": 0.4, "paste": 0.5, "mp3": 0.6, "reverb": 0.7}
    report = detection_report(y, p, LABELS, thresholds)
    for k, label in enumerate(LABELS):
        row = report["labels"][label]
        assert (row["n_positive"], row["n_negative"]) == (y[:, k].sum(), (1 - y[:, k]).sum())
        assert row["average_precision"] == average_precision_score(y[:, k], p[:, k])
        assert row["roc_auc"] == roc_auc_score(y[:, k], p[:, k])
        assert row["f1"] == f1_score(y[:, k], p[:, k] >= thresholds[label])
        assert row["eer"] == equal_error_rate(y[:, k], p[:, k])
        assert row["ece"] == expected_calibration_error(y[:, k], p[:, k])
    predicted = p >= list(thresholds.values())
    assert report["categories"] == {
        "temporal": f1_score(y[:, 1:3].any(axis=1), predicted[:, 1:3].any(axis=1)),
        "encoding": f1_score(y[:, 3], predicted[:, 3]),
        "spatial": f1_score(y[:, 4], predicted[:, 4]),
    }
    assert report["macro"]["roc_auc"] == pytest.approx(roc_auc_score(y[:, 1:], p[:, 1:]))
    assert report["macro"]["category_f1"] == pytest.approx(np.mean(list(report["categories"].values())))
    assert report["undefined"] == []
    json.dumps(report)  # fails for NumPy numbers


def test_false_alarms_are_counted_on_unedited_clips():
    y = [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    p = [[0.9, 0.6, 0.6], [0.9, 0.6, 0.1], [0.9, 0.1, 0.1], [0.9, 0.1, 0.1], [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]]
    report = detection_report(y, p, ["unaltered", "cut", "mp3"])
    assert report["n_unedited"] == 4
    assert report["false_alarm_rate"] == 0.5
    assert report["labels"]["cut"]["false_alarm_rate"] == 0.5
    assert report["labels"]["mp3"]["false_alarm_rate"] == 0.25
    assert np.isnan(report["labels"]["unaltered"]["false_alarm_rate"])
    without_unaltered = detection_report(np.array(y)[:, 1:], np.array(p)[:, 1:], ["cut", "mp3"])
    assert without_unaltered["false_alarm_rate"] == 0.5


def test_undefined_labels_are_named(clips):
    y, p = clips
    y[:, 3], y[:, 4] = 0, 1  # none, and all
    y[:, 0] = 0
    report = detection_report(y, p, LABELS)
    assert report["undefined"] == ["unaltered", "mp3", "reverb"]
    for row in (report["labels"]["mp3"], report["labels"]["reverb"]):
        assert np.isnan([row[name] for name in ("roc_auc", "average_precision", "eer", "f1", "ece")]).all()
    defined = [report["labels"][label]["roc_auc"] for label in ("cut", "paste")]
    assert report["macro"]["roc_auc"] == pytest.approx(np.mean(defined))
    assert np.isnan(report["categories"]["spatial"])
    assert np.isnan(report["false_alarm_rate"])
    assert report["n_unedited"] == 0


def test_unknown_labels_are_ignored(clips):
    y, p = clips
    partly_labelled = y.copy()
    partly_labelled[:50, 1] = np.nan
    report, full_report = detection_report(partly_labelled, p, LABELS), detection_report(y, p, LABELS)
    assert report["labels"]["cut"]["roc_auc"] == roc_auc_score(y[50:, 1], p[50:, 1])
    assert report["labels"]["mp3"] == full_report["labels"]["mp3"]
    # The category is known if another of its labels is positive.
    is_labelled = (y[:, 2] == 1) | (np.arange(300) >= 50)
    is_temporal, is_predicted = y[:, 1:3].any(axis=1), (p[:, 1:3] >= 0.5).any(axis=1)
    assert report["categories"]["temporal"] == f1_score(is_temporal[is_labelled], is_predicted[is_labelled])


def test_custom_labels_have_no_category(clips):
    y, p = clips
    report = detection_report(y, p, ["unaltered", "a", "b", "c", "d"])
    assert report["categories"] == {}
    assert report["macro"]["f1"] > 0


def test_per_label_scores_take_any_metric(clips):
    y, p = clips
    np.testing.assert_array_equal(
        per_label_scores(accuracy_score, y, p > 0.5), [accuracy_score(y[:, k], p[:, k] > 0.5) for k in range(5)]
    )


@pytest.mark.parametrize(
    "y, p, message",
    [
        ([[0, 1]], [[0.5, 1.5]], "predict_proba"),
        ([[0, 2]], [[0.5, 0.5]], "0, 1, or NaN"),
        ([[0, 1]], [[0.5, np.nan]], "finite"),
        ([[0, 1]], [[0.5]], r"\(1, 2\) and \(1, 1\)"),
        ([[0]], [[0.5]], "2 names, but y_true has 1 columns"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "at least one clip and one label"),
    ],
)
def test_invalid_tables_are_refused(y, p, message):
    with pytest.raises(ValueError, match=message):
        detection_report(y, p, ["cut", "mix"])


def test_metrics_of_one_label_refuse_tables():
    with pytest.raises(ValueError, match="per_label_scores"):
        equal_error_rate([[0], [1]], [[0.1], [0.2]])
    with pytest.raises(ValueError, match="NaN"):
        equal_error_rate([0, 1, np.nan], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="shapes"):
        equal_error_rate([0, 1], [0.1, 0.2, 0.3])
