"""Trackers: segments from scores along a recording, in one piece or in many."""

from functools import partial

import numpy as np
import pytest
from scipy.signal import find_peaks

from mmestim.voice.localization import IntervalTracker, PointTracker

TIMES = np.arange(0.5, 10)  # frames of 1 s


def spans(tracker, scores, times=TIMES, duration=10.0):
    scores = np.asarray(scores, dtype=float)
    segments = tracker(times[: len(scores)], scores[:, None], duration)
    return [(segment.start, segment.end, segment.score) for segment in segments]


# Intervals -----------------------------------------------------------------------------------------


def test_an_interval_begins_and_ends_where_the_score_crosses():
    # The score crosses the threshold half-way between the frames at 0.5 and 1.5, and at 2.5 and 3.5.
    assert spans(IntervalTracker(["mix"]), [0, 1, 1, 0, 0]) == [(1.0, 3.0, 1.0)]
    assert spans(IntervalTracker(["mix"], onset=0.75, offset=0.25), [0, 1, 0.5, 0.5, 0]) == [(1.25, 4.0, 1.0)]


def test_a_score_between_the_thresholds_changes_nothing():
    tracker = IntervalTracker(["mix"], onset=0.75, offset=0.25)
    assert spans(tracker, [0.5] * 10) == []
    assert len(spans(tracker, [1] + [0.5] * 9)) == 1


def test_the_first_and_the_last_score_hold_to_the_ends():
    assert spans(IntervalTracker(["mix"]), [1] * 10, duration=10.5) == [(0.0, 10.5, 1.0)]
    assert spans(IntervalTracker(["mix"]), [], duration=10.5) == []


def test_short_gaps_are_filled_before_short_intervals_are_dropped():
    scores = [0, 1, 0, 1, 0, 0, 0, 0, 1, 0]  # 1 s, 1 s after a gap of 1 s, and 1 s alone
    assert len(spans(IntervalTracker(["mix"]), scores)) == 3
    assert spans(IntervalTracker(["mix"], min_duration_off=1.5), scores) == [(1, 4, 1), (8, 9, 1)]
    assert spans(IntervalTracker(["mix"], min_duration_on=1.5), scores) == []
    assert spans(IntervalTracker(["mix"], min_duration_on=1.5, min_duration_off=1.5), scores) == [(1, 4, 1)]
    assert len(spans(IntervalTracker(["mix"], min_duration_on=1, min_duration_off=1), scores)) == 3  # not shorter


def test_each_label_has_its_own_thresholds():
    scores = np.column_stack([[0, 0.6, 0.6, 0], [0, 0.6, 0.6, 0]])
    for onset in ({"mix": 0.5, "tts": 0.7}, [0.5, 0.7]):
        segments = IntervalTracker(["mix", "tts"], onset=onset)(TIMES[:4], scores, 4)
        assert [segment.label for segment in segments] == ["mix"]


def reference_intervals(times, scores, duration, onset, offset, min_duration_on, min_duration_off):
    """Compute the intervals of one label step by step."""
    regions, start = [], None
    for i, score in enumerate(scores):
        if start is None and score >= onset:
            start = 0.0 if i == 0 else np.interp(onset, scores[i - 1 : i + 1], times[i - 1 : i + 1])
        elif start is not None and score < offset:
            regions.append([start, np.interp(-offset, -scores[i - 1 : i + 1], times[i - 1 : i + 1])])
            start = None
    if start is not None:
        regions.append([start, duration])
    filled = []
    for region in regions:
        if filled and region[0] - filled[-1][1] < min_duration_off:
            filled[-1][1] = region[1]
        else:
            filled.append(region)
    return [region for region in filled if region[1] - region[0] >= max(min_duration_on, 1e-12)]


@pytest.mark.parametrize("seed", range(10))
def test_intervals_equal_a_step_by_step_reference(seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.1, 1, size=100))
    scores = rng.uniform(size=100)
    options = {"onset": 0.7, "offset": 0.4, "min_duration_on": 0.6, "min_duration_off": 0.5}
    intervals = spans(IntervalTracker(["mix"], **options), scores, times, 80)
    expected = reference_intervals(times, scores, 80, *options.values())
    np.testing.assert_allclose([interval[:2] for interval in intervals], expected)
    for start, end, score in intervals:
        assert score == scores[(times >= start) & (times <= end)].max()


# Points --------------------------------------------------------------------------------------------


def test_a_point_is_at_the_vertex_of_the_parabola():
    moment, depth = 3.8, 0.1
    ((start, end, score),) = spans(PointTracker(["cut"]), 0.9 - depth * (TIMES - moment) ** 2)
    assert start == pytest.approx(moment)
    assert end == start
    assert score == pytest.approx(0.9 - depth * 0.3**2)  # the score of the frame


def test_a_flat_top_is_one_point_in_its_middle():
    assert spans(PointTracker(["cut"]), [0, 0.8, 0.8, 0.8, 0.1]) == [(2.5, 2.5, 0.8)]
    assert spans(PointTracker(["cut"]), [0, 0.8, 0.8, 0.9, 0.1])[0][2] == 0.9


def test_the_ends_of_a_recording_can_be_points():
    assert spans(PointTracker(["cut"]), [0.9, 0.1, 0.1, 0.8]) == [(0.5, 0.5, 0.9), (3.5, 3.5, 0.8)]


def test_the_highest_of_close_points_stays():
    scores = [0, 0.7, 0, 0.9, 0, 0.8, 0]
    assert [score for *_, score in spans(PointTracker(["cut"], min_distance=2.5), scores)] == [0.9]
    assert len(spans(PointTracker(["cut"], min_distance=1.5), scores)) == 3
    # The first and the last point are far enough from each other once the middle one is dropped.
    assert [score for *_, score in spans(PointTracker(["cut"], min_distance=2.5), [0, 0.9, 0, 0.7, 0, 0.8, 0])] == [
        0.9,
        0.8,
    ]
    assert [start for start, *_ in spans(PointTracker(["cut"], min_distance=2.5), [0, 0.9, 0, 0.9, 0])] == [1.5]


@pytest.mark.parametrize("distance", [1, 2, 3, 7, 20])
def test_points_equal_the_peaks_of_scipy(distance):
    scores = np.random.default_rng(distance).uniform(size=1000)
    padded_peaks, _ = find_peaks(np.r_[-1, scores, -1], height=0.3, distance=distance)
    if distance == 1:
        # The vertex of a parabola is less than half a frame from its frame.
        tracker = PointTracker(["cut"], threshold=0.3, min_distance=distance - 0.5)
        points = tracker(np.arange(1000.0), scores[:, None], 1000)
        assert [round(point.start) for point in points] == (padded_peaks - 1).tolist()
        return
    flat_scores = np.repeat(scores, 2)  # a flat top is not interpolated
    tracker = PointTracker(["cut"], threshold=0.3, min_distance=distance)
    points = tracker(np.arange(2000) / 2, flat_scores[:, None], 1000)
    assert [point.start - 0.25 for point in points] == (padded_peaks - 1).tolist()


# In pieces -----------------------------------------------------------------------------------------

TRACKERS = {
    "intervals": partial(
        IntervalTracker,
        onset=[0.5, 0.7, 0.5],
        offset=[0.5, 0.3, 0.2],
        min_duration_on=[0, 0.3, 0.1],
        min_duration_off=[0, 0.4, 2],
    ),
    "points": partial(PointTracker, threshold=[0, 0.5, 0.8], min_distance=[0, 0.3, 2]),
}


@pytest.mark.parametrize("kind", TRACKERS)
@pytest.mark.parametrize("seed", range(10))
def test_segments_do_not_depend_on_the_pieces(kind, seed):
    rng = np.random.default_rng(seed)
    labels = ["cut", "paste", "mix"]
    n_frames = int(rng.integers(1, 300))
    times = np.cumsum(rng.uniform(0.01, 0.3, size=n_frames))
    scores = rng.uniform(size=(n_frames, 3)).astype(np.float32)
    if seed % 2:  # flat tops, and scores at the thresholds
        scores = np.repeat(scores.round(1), rng.integers(1, 5, size=n_frames), axis=0)[:n_frames]
    duration = times[-1] + rng.uniform(0, 1)
    tracker = TRACKERS[kind](labels)
    expected = tracker(times, scores, duration)
    assert expected or n_frames < 10
    for _ in range(5):
        cuts = np.sort(rng.integers(0, n_frames + 1, size=rng.integers(0, n_frames + 1)))
        segments = []
        for piece in np.split(np.arange(n_frames), cuts):
            segments += tracker.feed(times[piece], scores[piece])
        segments += tracker.finish(duration)
        assert sorted(segments, key=lambda s: (s.start, s.end, s.label)) == expected


@pytest.mark.parametrize("kind", TRACKERS)
def test_segments_are_returned_as_soon_as_they_are_final(kind):
    tracker = TRACKERS[kind](["cut", "paste", "mix"])
    times, scores = np.arange(1000.0), np.zeros((1000, 3))
    scores[100:103] = [[0.9] * 3, [1.0] * 3, [0.9] * 3]
    n_segments = [len(tracker.feed([time], [row])) for time, row in zip(times, scores, strict=True)]
    assert sum(n_segments[:110]) == 3
    assert tracker.finish(1000) == []


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times, scores, message",
    [
        ([0, 1], [[0.5], [0.5], [0.5]], r"shapes \(2,\) and \(3, 1\)"),
        ([0, 1], [0.5, 0.5], r"\(n_frames, 1\)"),
        ([1, 1], [[0.5], [0.5]], "increase"),
        ([-1, 1], [[0.5], [0.5]], "at least 0"),
        ([0, 1], [[0.5], [np.nan]], "finite"),
    ],
)
def test_invalid_frames_are_refused(times, scores, message):
    with pytest.raises(ValueError, match=message):
        PointTracker(["cut"]).feed(times, scores)


def test_times_must_increase_across_calls():
    tracker = IntervalTracker(["mix"])
    tracker.feed([0, 1], [[0], [0]])
    with pytest.raises(ValueError, match=r"the latest so far is 1\.0 s"):
        tracker.feed([1, 2], [[0], [0]])
    with pytest.raises(ValueError, match="duration"):
        tracker.finish(0.5)
    tracker.finish(1.5)
    assert tracker.feed([0, 1], [[0], [0]]) == []  # another recording


@pytest.mark.parametrize(
    "tracker, options, message",
    [
        (IntervalTracker, {"onset": 0.5, "offset": 0.6}, "offset=0.6 of 'cut'"),
        (IntervalTracker, {"onset": {"cut": 0.5}}, "onset has no number for 'mix'"),
        (IntervalTracker, {"onset": [0.5, 0.5, 0.5]}, r"shape \(3,\)"),
        (IntervalTracker, {"min_duration_off": -1}, "min_duration_off"),
        (PointTracker, {"min_distance": [0, -1]}, "min_distance"),
        (PointTracker, {"threshold": np.nan}, "finite"),
    ],
)
def test_invalid_parameters_are_named(tracker, options, message):
    with pytest.raises(ValueError, match=message):
        tracker(["cut", "mix"], **options)


def test_a_single_label_must_be_a_list():
    with pytest.raises(TypeError, match=r"\['cut'\]"):
        PointTracker("cut")
