"""Metrics of localization: by hand, against mir_eval, and against brute force."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from mir_eval import onset, transcription

from mmestim.voice import EditPlan, EditSimulator
from mmestim.voice.localization import EditSegment
from mmestim.voice.metrics import (
    boundary_scores,
    localization_report,
    segment_average_precision,
    segment_average_recall,
    segment_f1,
)


def mix(*spans):
    """Return segments from (start, end) or (start, end, score)."""
    return [EditSegment("mix", "temporal", *span) for span in spans]


def cuts(*times):
    return [EditSegment.from_label("cut", time) for time in times]


def iou(a, b):
    intersection = max(0, min(a.end, b.end) - max(a.start, b.start))
    return intersection / (a.duration + b.duration - intersection)


# Intervals -----------------------------------------------------------------------------------------


def test_segment_f1_by_hand():
    # The overlaps are 1.5 / 2 and 1 / 3; one reference is missed, and one prediction is false.
    references, predictions = [mix((0, 2), (4, 6), (8, 9))], [mix((0.5, 2), (5, 7), (20, 21))]
    assert segment_f1(references, predictions, iou=0.3) == pytest.approx(2 * 2 / 6)
    assert segment_f1(references, predictions, iou=0.5) == pytest.approx(2 * 1 / 6)
    assert segment_f1(references, predictions, iou=0.75) == pytest.approx(2 * 1 / 6)
    assert segment_f1(references, predictions, iou=0.76) == 0
    assert segment_f1([mix((0, 0.3))], [mix((0, 0.1))], iou=1 / 3) == 1  # despite rounding


def test_as_many_intervals_as_possible_are_matched():
    # To match the best pair first, 0.9 of (0, 1), would leave the second reference without a partner.
    references, predictions = [mix((0, 1), (0.4, 1.4))], [mix((0, 0.9), (-0.0, 0.5))]
    assert segment_f1(references, predictions, iou=0.3) == 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_no_other_matching_is_larger(seed, threshold, random_clips):
    references, predictions = random_clips(seed)
    n_matched = 0
    for reference, predicted in zip(references, predictions, strict=True):
        slots = [*predicted, *[None] * len(reference)]
        n_matched += max(
            sum(b is not None and iou(a, b) >= threshold for a, b in zip(reference, partners, strict=True))
            for partners in itertools.permutations(slots, len(reference))
        )
    total = sum(map(len, references)) + sum(map(len, predictions))
    assert segment_f1(references, predictions, iou=threshold) == pytest.approx(2 * n_matched / total)


@pytest.mark.parametrize("seed", range(10))
def test_overlaps_agree_with_mir_eval(seed):
    rng = np.random.default_rng(seed)
    start, end = np.sort(rng.uniform(0, 1, size=2)), np.sort(rng.uniform(1, 2, size=2))
    reference, predicted = (start[0], end[0]), (start[1], end[1])
    overlap = transcription.average_overlap_ratio(np.array([reference]), np.array([predicted]), [(0, 0)])
    assert segment_f1([mix(reference)], [mix(predicted)], iou=overlap * (1 - 1e-6)) == 1
    assert segment_f1([mix(reference)], [mix(predicted)], iou=overlap * (1 + 1e-6)) == 0


def test_average_precision_by_hand():
    # The ranking is: correct, false, correct, a duplicate (false). The third reference is missed.
    references = [mix((0, 1), (2, 3)), mix((0, 1))]
    predictions = [mix((0, 1, 0.9), (5, 6, 0.8), (2, 3, 0.7), (2, 3, 0.6)), []]
    assert segment_average_precision(references, predictions) == pytest.approx((1 + 2 / 3) / 3)
    # A later rise of the precision also counts for lower recalls.
    predictions = [mix((5, 6, 0.9), (0, 1, 0.8), (2, 3, 0.7)), mix((0, 1, 0.6))]
    assert segment_average_precision(references, predictions) == pytest.approx(3 / 4)
    assert segment_average_precision(references, [[], []]) == 0
    assert np.isnan(segment_average_precision([[], []], predictions))


@pytest.mark.parametrize("seed", range(10))
def test_average_precision_agrees_with_its_definition(seed, random_clips):
    references, predictions = random_clips(seed)
    ranking = sorted(((s.score, i, s) for i, clip in enumerate(predictions) for s in clip), key=lambda row: -row[0])
    matched, is_correct = set(), []
    for _, i, segment in ranking:
        overlaps = [(iou(segment, other), j) for j, other in enumerate(references[i]) if (i, j) not in matched]
        best = max(overlaps, default=(0, 0))
        is_correct.append(best[0] >= 0.5)
        matched |= {(i, best[1])} if is_correct[-1] else set()
    n_correct = np.cumsum(is_correct)
    precision = n_correct / np.arange(1, len(is_correct) + 1)
    recall = n_correct / sum(map(len, references))
    grid = (np.arange(10_000) + 0.5) / 10_000
    area = np.mean([precision[recall >= r].max(initial=0) for r in grid])
    assert segment_average_precision(references, predictions) == pytest.approx(area, abs=1e-3)


def test_average_recall_by_hand():
    references = [mix((0, 4), (10, 20))]
    # An overlap of .75 reaches 6 of the 10 thresholds, and 1 reaches all of them.
    assert segment_average_recall(references, [mix((0, 3), (10, 20))]) == pytest.approx((0.6 + 1) / 2)
    # The better prediction has the lower score.
    predictions = [mix((0, 3, 0.9), (0, 4, 0.5))]
    assert segment_average_recall(references, predictions, n_proposals=1) == pytest.approx(0.6 / 2)
    assert segment_average_recall(references, predictions, n_proposals=2) == pytest.approx(1 / 2)
    assert segment_average_recall(references, [[]]) == 0
    assert np.isnan(segment_average_recall([[]], predictions))


@pytest.mark.parametrize("metric", [segment_f1, segment_average_precision, segment_average_recall])
def test_labels_and_clips_do_not_mix(metric):
    references = [mix((0, 1)), []]
    assert metric(references, references) == 1
    assert metric(references, [[], mix((0, 1))]) == 0
    assert metric(references, [[EditSegment.from_label("tts", 0, 1)], []]) == 0
    # The metric is a mean over labels: one is detected, the other is not.
    two_labels = [[*mix((0, 1)), EditSegment.from_label("tts", 0, 1)], []]
    assert metric(two_labels, references) == 0.5
    # Points are ignored.
    assert metric([[*mix((0, 1)), *cuts(2)], []], [mix((0, 1)), cuts(3)]) == 1
    with pytest.raises(ValueError, match="1 clips, but predictions has 2"):
        metric([[]], [[], []])


@pytest.mark.parametrize("overlap", [0, 1.1, -0.5])
def test_an_overlap_must_be_a_fraction(overlap):
    with pytest.raises(ValueError, match="iou"):
        segment_f1([[]], [[]], iou=overlap)


# Points --------------------------------------------------------------------------------------------


def test_boundary_scores_by_hand():
    scores = boundary_scores([cuts(1, 2, 3, 4)], [cuts(1.01, 2.03, 3.2, 9)])
    assert scores["hit_rate"] == scores["precision"] == scores["f1"] == 0.5
    assert scores["mean_error"] == pytest.approx(0.02)
    all_matched = boundary_scores([cuts(1, 2, 3)], [cuts(1.01, 2.02, 3.06, 7)], tolerance=0.06)
    assert (all_matched["hit_rate"], all_matched["precision"], all_matched["f1"]) == (1, 0.75, 6 / 7)
    assert all_matched["median_error"] == pytest.approx(0.02)
    assert boundary_scores([cuts(1)], [cuts(1.05)])["hit_rate"] == 1  # despite rounding


def test_as_many_points_as_possible_are_matched():
    # To match the closest pair first, 1.0 and 1.01, would leave one point on each side.
    scores = boundary_scores([cuts(1.0, 1.04)], [cuts(0.96, 1.01)])
    assert scores["hit_rate"] == 1
    assert scores["mean_error"] == pytest.approx(0.035)


@pytest.mark.parametrize("seed", range(10))
def test_no_other_matching_of_points_is_better(seed):
    rng = np.random.default_rng(seed)
    references, predictions = rng.uniform(0, 0.5, size=4), rng.uniform(0, 0.5, size=6)
    best = max(
        (len(errors), -sum(errors))
        for partners in itertools.permutations([*predictions, *[np.inf] * 4], 4)
        for errors in [[abs(a - b) for a, b in zip(references, partners, strict=True) if abs(a - b) <= 0.05]]
    )
    scores = boundary_scores([cuts(*references)], [cuts(*predictions)])
    assert scores["hit_rate"] == best[0] / 4
    assert not best[0] or scores["mean_error"] == pytest.approx(-best[1] / best[0])


def test_scores_without_points_are_undefined():
    undefined = boundary_scores([[]], [mix((0, 1))])
    assert all(np.isnan(value) for value in undefined.values())
    missed = boundary_scores([cuts(1)], [[]])
    assert (missed["hit_rate"], missed["f1"]) == (0, 0)
    assert np.isnan([missed["precision"], missed["mean_error"]]).all()


@pytest.mark.parametrize("seed", range(10))
def test_boundary_scores_agree_with_mir_eval(seed):
    rng = np.random.default_rng(seed)
    references, predictions = np.sort(rng.uniform(0, 3, size=30)), np.sort(rng.uniform(0, 3, size=40))
    for tolerance in (0.02, 0.05, 0.2):
        f1, precision, recall = onset.f_measure(references, predictions, window=tolerance)
        scores = boundary_scores([cuts(*references)], [cuts(*predictions)], tolerance=tolerance)
        assert (scores["f1"], scores["precision"], scores["hit_rate"]) == pytest.approx((f1, precision, recall))


# Localization report -------------------------------------------------------------------------------


def test_the_report_has_all_metrics_of_each_label(random_clips):
    references, predictions = random_clips(0)
    tts = [EditSegment.from_label("tts", 0, 1)]
    report = localization_report([[*cuts(1, 2), *tts], *references], [[*cuts(1.01), *tts], *predictions])
    assert list(report["intervals"]) == ["tts", "mix"]  # in the order of the taxonomy
    assert list(report["points"]) == ["cut"]
    row = report["intervals"]["mix"]
    for overlap in (0.3, 0.5, 0.7):
        assert row[f"segment_f1@{overlap}"] == segment_f1(references, predictions, iou=overlap)
    for overlap in (0.5, 0.75, 0.95):
        assert row[f"average_precision@{overlap}"] == segment_average_precision(references, predictions, iou=overlap)
    assert row["average_recall@20"] == segment_average_recall(references, predictions)
    assert report["macro"]["segment_f1@0.5"] == pytest.approx((1 + row["segment_f1@0.5"]) / 2)
    assert report["points"]["cut"]["n_references"] == 2
    assert report["points"]["cut"]["hit_rate"] == 0.5
    json.dumps(report)


def test_labels_without_references_are_named():
    report = localization_report([mix((0, 1))], [[EditSegment.from_label("tts", 0, 1)]], labels=["tts", "mix", "vc"])
    assert report["undefined"] == ["tts", "vc"]
    assert report["intervals"]["tts"]["segment_f1@0.5"] == 0
    assert np.isnan(report["intervals"]["tts"]["average_precision@0.5"])
    empty = localization_report([[]], [[]])
    assert empty["intervals"] == empty["points"] == {}
    assert all(np.isnan(value) for value in empty["macro"].values())


def test_inaudible_labels_of_records_are_ignored():
    clip = np.random.default_rng(0).normal(scale=0.1, size=32000)
    low_pass = {"edit": "low_pass", "cutoff": 2000.0, "slope": 24, "family": "butterworth"}
    _, record = EditSimulator().apply(clip, EditPlan(2.0, 16000, [low_pass]))
    record = replace(record, inaudible=["distortion"])
    segments = [EditSegment.from_label("low_pass", 0, 2)]
    assert segment_f1([record], [segments]) == 1
    assert segment_f1([record], [[*segments, EditSegment.from_label("distortion", 0, 2)]]) == 1
    assert segment_f1([record], [[*segments, EditSegment.from_label("reverb", 0, 2)]]) == 0.5
