"""Metrics of detection and of localisation: by hand, and against other ways to compute them."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score, roc_curve

from mmestim.voice import EditPlan, EditSimulator
from mmestim.voice.localization import EditSegment
from mmestim.voice.metrics import (
    bootstrap_interval,
    boundary_scores,
    detection_report,
    equal_error_rate,
    expected_calibration_error,
    localization_report,
    per_label_scores,
    segment_average_precision,
    segment_average_recall,
    segment_f1,
)


def mix(*spans):
    """Segments from (start, end) or (start, end, score)."""
    return [EditSegment("mix", "temporal", *span) for span in spans]


def cuts(*moments):
    return [EditSegment.from_label("cut", moment) for moment in moments]


def random_clips(seed, n_clips=6):
    """References and predictions that often, but not always, match."""
    rng = np.random.default_rng(seed)
    references, predictions = [], []
    for _ in range(n_clips):
        starts = rng.uniform(0, 8, size=rng.integers(0, 4))
        there = [EditSegment.from_label("mix", start, start + rng.uniform(0.5, 3)) for start in starts]
        found = [
            EditSegment.from_label(
                "mix", max(0, s.start + rng.normal(0, 0.4)), s.end + abs(rng.normal(0, 0.4)), rng.uniform()
            )
            for s in there + there[: rng.integers(0, 3)]
        ]
        references.append(there)
        predictions.append(found + [EditSegment.from_label("mix", 9, 10, rng.uniform())] * int(rng.integers(0, 2)))
    return references, predictions


def iou(a, b):
    shared = max(0, min(a.end, b.end) - max(a.start, b.start))
    return shared / (a.duration + b.duration - shared)


# Equal error rate ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y_true, y_score, expected",
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], 1),
        ([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8], 0.5),
        ([0, 1], [0.5, 0.5], 0.5),  # all the same: by lot
        ([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.7, 0.6, 0.8, 0.9], 1 / 3),
        # Of 4, 1 is missed and of 2, 1 is falsely found by 0.4; by any higher threshold none is, and 2 are missed.
        ([1, 1, 1, 1, 0, 0], [0.9, 0.8, 0.4, 0.2, 0.4, 0.1], 1 / 3),
        ([1, 1], [0.2, 0.4], np.nan),
    ],
)
def test_equal_error_rate_by_hand(y_true, y_score, expected):
    np.testing.assert_allclose(equal_error_rate(y_true, y_score), expected)


@pytest.mark.parametrize("seed", range(10))
def test_equal_error_rate_as_the_field_computes_it(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.random(100) < 0.3].astype(int)
    score = (y + rng.normal(size=102)).round(1 if seed % 2 else 9)  # with and without equal scores
    false_alarms, hits, _ = roc_curve(y, score)
    reference = brentq(lambda x: 1 - x - interp1d(false_alarms, hits)(x), 0, 1)
    assert equal_error_rate(y, score) == pytest.approx(reference, abs=1e-6)
    assert equal_error_rate(1 - y, -score) == pytest.approx(reference, abs=1e-6)


# Calibration ---------------------------------------------------------------------------------------


def test_calibration_error_by_hand():
    # Two clips from 0 to 0.1, an edge in the lower bin: mean 0.05, share 1/2. Two from 0.9 to 1: mean 0.95, share 1.
    assert expected_calibration_error([0, 1, 1, 1], [0, 0.1, 0.95, 0.95]) == pytest.approx((2 * 0.45 + 2 * 0.05) / 4)
    assert expected_calibration_error([0, 1, 0, 1], [0.5] * 4) == 0
    assert expected_calibration_error([0, 1], [0.0, 1.0], n_bins=1) == 0


@pytest.mark.parametrize("n_bins", [2, 5, 10, 15])
def test_calibration_error_of_scikit_learns_curve(n_bins):
    rng = np.random.default_rng(0)
    p = rng.random(500).round(2)
    y = (rng.random(500) < p**2).astype(int)
    share, mean = calibration_curve(y, p, n_bins=n_bins)
    weights = np.bincount(np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], p), minlength=n_bins)
    reference = np.average(np.abs(share - mean), weights=weights[weights > 0])
    assert expected_calibration_error(y, p, n_bins=n_bins) == pytest.approx(reference)


# The report of detection ---------------------------------------------------------------------------

LABELS = ["unaltered", "cut", "paste", "mp3", "reverb"]


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    y = (rng.random((300, 5)) < 0.3).astype(float)
    y[:, 0] = ~y[:, 1:].any(axis=1)
    return y, np.clip(0.3 * y + 0.7 * rng.random((300, 5)), 0, 1)


def test_the_report_is_scikit_learns(clips):
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
    found = p >= list(thresholds.values())
    assert report["categories"] == {
        "temporal": f1_score(y[:, 1:3].any(axis=1), found[:, 1:3].any(axis=1)),
        "encoding": f1_score(y[:, 3], found[:, 3]),
        "spatial": f1_score(y[:, 4], found[:, 4]),
    }
    assert report["macro"]["roc_auc"] == pytest.approx(roc_auc_score(y[:, 1:], p[:, 1:]))
    assert report["macro"]["category_f1"] == pytest.approx(np.mean(list(report["categories"].values())))
    assert report["undefined"] == []
    json.dumps(report)  # plain numbers


def test_false_alarms_are_counted_on_unedited_clips():
    y = [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    p = [[0.9, 0.6, 0.6], [0.9, 0.6, 0.1], [0.9, 0.1, 0.1], [0.9, 0.1, 0.1], [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]]
    report = detection_report(y, p, ["unaltered", "cut", "mp3"])
    assert report["n_unedited"] == 4
    assert report["false_alarm_rate"] == 0.5
    assert report["labels"]["cut"]["false_alarm_rate"] == 0.5
    assert report["labels"]["mp3"]["false_alarm_rate"] == 0.25
    assert np.isnan(report["labels"]["unaltered"]["false_alarm_rate"])
    without = detection_report(np.array(y)[:, 1:], np.array(p)[:, 1:], ["cut", "mp3"])
    assert without["false_alarm_rate"] == 0.5


def test_what_is_not_defined_is_named(clips):
    y, p = clips
    y[:, 3], y[:, 4] = 0, 1  # none, and all
    y[:, 0] = 0
    report = detection_report(y, p, LABELS)
    assert report["undefined"] == ["unaltered", "mp3", "reverb"]
    for row in (report["labels"]["mp3"], report["labels"]["reverb"]):
        assert np.isnan([row[name] for name in ("roc_auc", "average_precision", "eer", "f1", "ece")]).all()
    two = [report["labels"][label]["roc_auc"] for label in ("cut", "paste")]
    assert report["macro"]["roc_auc"] == pytest.approx(np.mean(two))
    assert np.isnan(report["categories"]["spatial"])
    assert np.isnan(report["false_alarm_rate"])
    assert report["n_unedited"] == 0


def test_what_is_not_known_is_left_out_of_its_label(clips):
    y, p = clips
    unknown = y.copy()
    unknown[:50, 1] = np.nan
    report, all_known = detection_report(unknown, p, LABELS), detection_report(y, p, LABELS)
    assert report["labels"]["cut"]["roc_auc"] == roc_auc_score(y[50:, 1], p[50:, 1])
    assert report["labels"]["mp3"] == all_known["labels"]["mp3"]
    # The category is known where another of its labels is there.
    known = (y[:, 2] == 1) | (np.arange(300) >= 50)
    truth, found = y[:, 1:3].any(axis=1), (p[:, 1:3] >= 0.5).any(axis=1)
    assert report["categories"]["temporal"] == f1_score(truth[known], found[known])


def test_labels_of_ones_own_have_no_category(clips):
    y, p = clips
    report = detection_report(y, p, ["unaltered", "a", "b", "c", "d"])
    assert report["categories"] == {}
    assert report["macro"]["f1"] > 0


def test_any_metric_per_label(clips):
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
def test_bad_tables_are_refused(y, p, message):
    with pytest.raises(ValueError, match=message):
        detection_report(y, p, ["cut", "mix"])


def test_one_label_is_no_table():
    with pytest.raises(ValueError, match="per_label_scores"):
        equal_error_rate([[0], [1]], [[0.1], [0.2]])
    with pytest.raises(ValueError, match="NaN"):
        equal_error_rate([0, 1, np.nan], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="shapes"):
        equal_error_rate([0, 1], [0.1, 0.2, 0.3])


# Intervals -----------------------------------------------------------------------------------------


def test_segment_f1_by_hand():
    # IoU 1.5 / 2, then 1 / 3; one is missed and one false.
    there, found = [mix((0, 2), (4, 6), (8, 9))], [mix((0.5, 2), (5, 7), (20, 21))]
    assert segment_f1(there, found, iou=0.3) == pytest.approx(2 * 2 / 6)
    assert segment_f1(there, found, iou=0.5) == pytest.approx(2 * 1 / 6)
    assert segment_f1(there, found, iou=0.75) == pytest.approx(2 * 1 / 6)
    assert segment_f1(there, found, iou=0.76) == 0
    assert segment_f1([mix((0, 0.3))], [mix((0, 0.1))], iou=1 / 3) == 1  # but for rounding


def test_as_many_as_possible_are_matched():
    # The best pair first, 0.9 of (0, 1), would leave the second without a partner.
    there, found = [mix((0, 1), (0.4, 1.4))], [mix((0, 0.9), (-0.0, 0.5))]
    assert segment_f1(there, found, iou=0.3) == 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_no_other_matching_is_larger(seed, threshold):
    references, predictions = random_clips(seed)
    matched = 0
    for there, found in zip(references, predictions, strict=True):
        slots = [*found, *[None] * len(there)]
        matched += max(
            sum(other is not None and iou(one, other) >= threshold for one, other in zip(there, chosen, strict=True))
            for chosen in itertools.permutations(slots, len(there))
        )
    total = sum(map(len, references)) + sum(map(len, predictions))
    assert segment_f1(references, predictions, iou=threshold) == pytest.approx(2 * matched / total)


def test_average_precision_by_hand():
    # Ranked: found, false, found, found again (false); the third of the references is missed.
    there = [mix((0, 1), (2, 3)), mix((0, 1))]
    found = [mix((0, 1, 0.9), (5, 6, 0.8), (2, 3, 0.7), (2, 3, 0.6)), []]
    assert segment_average_precision(there, found) == pytest.approx((1 + 2 / 3) / 3)
    # A later rise of the precision counts for the lower recalls too.
    found = [mix((5, 6, 0.9), (0, 1, 0.8), (2, 3, 0.7)), mix((0, 1, 0.6))]
    assert segment_average_precision(there, found) == pytest.approx(3 / 4)
    assert segment_average_precision(there, [[], []]) == 0
    assert np.isnan(segment_average_precision([[], []], found))


@pytest.mark.parametrize("seed", range(10))
def test_average_precision_from_its_definition(seed):
    references, predictions = random_clips(seed)
    ranked = sorted(((s.score, i, s) for i, found in enumerate(predictions) for s in found), key=lambda row: -row[0])
    taken, true = set(), []
    for _, i, segment in ranked:
        overlaps = [(iou(segment, other), j) for j, other in enumerate(references[i]) if (i, j) not in taken]
        best = max(overlaps, default=(0, 0))
        true.append(best[0] >= 0.5)
        taken |= {(i, best[1])} if true[-1] else set()
    hits = np.cumsum(true)
    precision, recall = hits / np.arange(1, len(true) + 1), hits / sum(map(len, references))
    grid = (np.arange(10_000) + 0.5) / 10_000
    area = np.mean([precision[recall >= r].max(initial=0) for r in grid])
    assert segment_average_precision(references, predictions) == pytest.approx(area, abs=1e-3)


def test_average_recall_by_hand():
    there = [mix((0, 4), (10, 20))]
    # IoU .75 reaches 6 of the 10 thresholds, 1 all of them.
    assert segment_average_recall(there, [mix((0, 3), (10, 20))]) == pytest.approx((0.6 + 1) / 2)
    # The better one is not among the first.
    found = [mix((0, 3, 0.9), (0, 4, 0.5))]
    assert segment_average_recall(there, found, n_proposals=1) == pytest.approx(0.6 / 2)
    assert segment_average_recall(there, found, n_proposals=2) == pytest.approx(1 / 2)
    assert segment_average_recall(there, [[]]) == 0
    assert np.isnan(segment_average_recall([[]], found))


@pytest.mark.parametrize("metric", [segment_f1, segment_average_precision, segment_average_recall])
def test_labels_and_clips_do_not_mix(metric):
    there = [mix((0, 1)), []]
    assert metric(there, there) == 1
    assert metric(there, [[], mix((0, 1))]) == 0
    assert metric(there, [[EditSegment.from_label("tts", 0, 1)], []]) == 0
    # The mean over labels: one found, the other not.
    both = [[*mix((0, 1)), EditSegment.from_label("tts", 0, 1)], []]
    assert metric(both, there) == 0.5
    # Points are another matter.
    assert metric([[*mix((0, 1)), *cuts(2)], []], [mix((0, 1)), cuts(3)]) == 1
    with pytest.raises(ValueError, match="1 clips, but predictions has 2"):
        metric([[]], [[], []])


@pytest.mark.parametrize("bad", [0, 1.1, -0.5])
def test_an_overlap_is_a_share(bad):
    with pytest.raises(ValueError, match="iou"):
        segment_f1([[]], [[]], iou=bad)


# Points --------------------------------------------------------------------------------------------


def test_boundaries_by_hand():
    scores = boundary_scores([cuts(1, 2, 3, 4)], [cuts(1.01, 2.03, 3.2, 9)])
    assert scores["hit_rate"] == scores["precision"] == scores["f1"] == 0.5
    assert scores["mean_error"] == pytest.approx(0.02)
    three = boundary_scores([cuts(1, 2, 3)], [cuts(1.01, 2.02, 3.06, 7)], tolerance=0.06)
    assert (three["hit_rate"], three["precision"], three["f1"]) == (1, 0.75, 6 / 7)
    assert three["median_error"] == pytest.approx(0.02)
    assert boundary_scores([cuts(1)], [cuts(1.05)])["hit_rate"] == 1  # but for rounding


def test_as_many_points_as_possible_are_matched():
    # The closest pair first, 1.0 and 1.01, would leave one of each.
    scores = boundary_scores([cuts(1.0, 1.04)], [cuts(0.96, 1.01)])
    assert scores["hit_rate"] == 1
    assert scores["mean_error"] == pytest.approx(0.035)


@pytest.mark.parametrize("seed", range(10))
def test_no_other_points_are_better_matched(seed):
    rng = np.random.default_rng(seed)
    there, found = rng.uniform(0, 0.5, size=4), rng.uniform(0, 0.5, size=6)
    best = max(
        (len(errors), -sum(errors))
        for chosen in itertools.permutations([*found, *[np.inf] * 4], 4)
        for errors in [[abs(a - b) for a, b in zip(there, chosen, strict=True) if abs(a - b) <= 0.05]]
    )
    scores = boundary_scores([cuts(*there)], [cuts(*found)])
    assert scores["hit_rate"] == best[0] / 4
    assert not best[0] or scores["mean_error"] == pytest.approx(-best[1] / best[0])


def test_without_points_nothing_is_known():
    none = boundary_scores([[]], [mix((0, 1))])
    assert all(np.isnan(value) for value in none.values())
    missed = boundary_scores([cuts(1)], [[]])
    assert (missed["hit_rate"], missed["f1"]) == (0, 0)
    assert np.isnan([missed["precision"], missed["mean_error"]]).all()


# The report of localisation ------------------------------------------------------------------------


def test_the_report_has_all_metrics_of_each_label():
    references, predictions = random_clips(0)
    tts = [EditSegment.from_label("tts", 0, 1)]
    report = localization_report([[*cuts(1, 2), *tts], *references], [[*cuts(1.01), *tts], *predictions])
    assert list(report["intervals"]) == ["tts", "mix"]  # as in the taxonomy
    assert list(report["points"]) == ["cut"]
    row = report["intervals"]["mix"]
    for share in (0.3, 0.5, 0.7):
        assert row[f"segment_f1@{share}"] == segment_f1(references, predictions, iou=share)
    for share in (0.5, 0.75, 0.95):
        assert row[f"average_precision@{share}"] == segment_average_precision(references, predictions, iou=share)
    assert row["average_recall@20"] == segment_average_recall(references, predictions)
    assert report["macro"]["segment_f1@0.5"] == pytest.approx((1 + row["segment_f1@0.5"]) / 2)
    assert report["points"]["cut"]["n_references"] == 2
    assert report["points"]["cut"]["hit_rate"] == 0.5
    json.dumps(report)


def test_labels_that_are_nowhere_are_named():
    report = localization_report([mix((0, 1))], [[EditSegment.from_label("tts", 0, 1)]], labels=["tts", "mix", "vc"])
    assert report["undefined"] == ["tts", "vc"]
    assert report["intervals"]["tts"]["segment_f1@0.5"] == 0
    assert np.isnan(report["intervals"]["tts"]["average_precision@0.5"])
    nothing = localization_report([[]], [[]])
    assert nothing["intervals"] == nothing["points"] == {}
    assert all(np.isnan(value) for value in nothing["macro"].values())


def test_records_are_references_but_for_what_is_inaudible():
    clip = np.random.default_rng(0).normal(scale=0.1, size=32000)
    low_pass = {"edit": "low_pass", "cutoff": 2000.0, "slope": 24, "family": "butterworth"}
    _, record = EditSimulator().apply(clip, EditPlan(2.0, 16000, [low_pass]))
    record = replace(record, inaudible=["distortion"])
    found = [EditSegment.from_label("low_pass", 0, 2)]
    assert segment_f1([record], [found]) == 1
    assert segment_f1([record], [[*found, EditSegment.from_label("distortion", 0, 2)]]) == 1
    assert segment_f1([record], [[*found, EditSegment.from_label("reverb", 0, 2)]]) == 0.5


# Intervals of confidence ---------------------------------------------------------------------------


def test_groups_of_one_are_the_usual_bootstrap():
    x = np.random.default_rng(0).normal(size=80)
    ours = bootstrap_interval(np.mean, range(80), x, n_resamples=4000, random_state=0)
    np.testing.assert_allclose(ours, x.mean() + norm.ppf([0.025, 0.975]) * x.std() / 80**0.5, atol=0.02)
    narrower = bootstrap_interval(np.mean, range(80), x, confidence_level=0.5, random_state=0)
    np.testing.assert_allclose(narrower, x.mean() + norm.ppf([0.25, 0.75]) * x.std() / 80**0.5, atol=0.02)


def test_copies_of_a_clip_in_its_group_add_nothing():
    x = np.random.default_rng(0).normal(size=20)
    once = bootstrap_interval(np.mean, range(20), x, random_state=0)
    tenfold = bootstrap_interval(np.mean, np.repeat(range(20), 10), np.repeat(x, 10), random_state=0)
    np.testing.assert_allclose(once, tenfold)


def test_data_of_any_kind_and_several_metrics_at_once():
    references, predictions = random_clips(0, n_clips=12)
    speakers = list("aaabbbcccddd")

    def metrics(there, found):
        return [segment_f1(there, found, iou=0.3), segment_f1(there, found, iou=0.7)]

    low, high = bootstrap_interval(metrics, speakers, references, predictions, n_resamples=100, random_state=0)
    value = metrics(references, predictions)
    assert low.shape == high.shape == (2,)
    assert (low <= value).all()
    assert (value <= high).all()
    assert low[1] < high[1]


def test_draws_without_a_value_are_left_out():
    y, score = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.8, 0.3])
    assert bootstrap_interval(equal_error_rate, list("abcd"), y, score, random_state=0) == (0, 0)
    assert np.isnan(bootstrap_interval(equal_error_rate, list("abcd"), y * 0, score, random_state=0)).all()


@pytest.mark.parametrize(
    "groups, message",
    [(["a", "a"], "at least 2"), (["a", None], "no value for row 1"), (["a", np.nan], "row 1"), (["a"], "2 rows")],
)
def test_bad_groups_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(np.mean, groups, np.zeros(2))
