"""What detectors are made of: windows and their truth, trees, calibration, recordings from windows."""

import errno
import os

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score

from mmestim._data.batches import Batch
from mmestim.voice import AudioCorpus, EditPlan, EditRecord, EditSimulator, TimeMap
from mmestim.voice._audio.windowing import OverlapAverager, iter_windows, pool_window_logits
from mmestim.voice._models.boosted_trees import BoostedTrees
from mmestim.voice._models.calibration import ScoreFusion, UnalteredCalibrator, tune_thresholds
from mmestim.voice._models.losses import FrameLoss
from mmestim.voice._training_data.sources import held_out_windows, simulated_windows
from mmestim.voice._training_data.window_set import build_window_set, window_start
from mmestim.voice._window_labels import LABEL_UNKNOWN, SPLICED_LABELS, clip_truth, frames_in, window_truth
from mmestim.voice.localization.locator import SegmentLocator

RATE = 16000
LABELS = ["cut", "paste", "mix", "mp3", "low_pass", "echo"]


def record(intervals=None, points=None, inaudible=(), duration=10.0):
    labels = [label for label in LABELS if label in {**(intervals or {}), **(points or {})}]
    return EditRecord(
        labels or ["unaltered"],
        EditPlan(duration, RATE),
        intervals or {},
        points or {},
        list(inaudible),
        TimeMap.identity(duration),
        duration,
        RATE,
        0.0,
    )


def truth(own, start=2.0, seconds=4.0):
    targets, frames = window_truth(own, LABELS, start, seconds, frames_in(round(seconds * RATE), RATE))
    return dict(zip(LABELS, targets.tolist(), strict=True)), frames


@pytest.mark.parametrize(
    "own, expected",
    [
        (record(), {}),
        (record(points={"cut": [3.0]}), {"cut": 1}),
        (record(points={"cut": [2.02]}), {"cut": LABEL_UNKNOWN}),  # right at the start of the window
        (record(points={"cut": [1.0, 6.5]}), {}),
        (record({"mix": [(1.0, 2.4)]}), {"mix": 1}),
        (record({"mix": [(1.0, 2.2)]}), {"mix": LABEL_UNKNOWN}),  # 0.2 s of it
        (record({"mix": [(0.0, 2.0)]}), {"mix": LABEL_UNKNOWN}),  # its border may be heard
        (record({"mix": [(0.0, 1.9)]}), {}),
        (record({"paste": [(3.0, 7.0)]}), {"paste": 1}),
        (record({"paste": [(1.0, 7.0)]}), {"paste": LABEL_UNKNOWN}),  # no border of it is inside
        (record({"mp3": [(0.0, 10.0)]}), {"mp3": 1}),
        (record({"low_pass": [(2.0, 6.0)], "echo": [(6.5, 8.0)]}), {"low_pass": 1}),
        (record(inaudible=["echo"]), {"echo": LABEL_UNKNOWN}),
    ],
)
def test_what_a_window_has(own, expected):
    assert truth(own)[0] == dict.fromkeys(LABELS, 0) | expected


def test_what_frames_have():
    _, frames = truth(record({"mix": [(3.0, 3.5)], "mp3": [(0.0, 10.0)]}, {"cut": [4.0]}, ["echo"]))
    assert frames.shape == (len(SPLICED_LABELS) + len(LABELS), 401)
    cut, paste, mix = frames[:3]
    assert np.flatnonzero(cut).tolist() == [199, 200, 201]
    assert not paste.any()
    assert np.flatnonzero(mix).tolist() == [99, 100, 101, 149, 150, 151]
    inside = dict(zip(LABELS, frames[3:], strict=True))
    assert np.flatnonzero(inside["mix"]).tolist() == list(range(100, 151))
    assert (inside["mp3"] == 1).all()
    assert (inside["echo"] == LABEL_UNKNOWN).all()
    assert not inside["low_pass"].any()


def test_what_is_known_of_frames_where_only_labels_are():
    frames = clip_truth(np.array([1, 0, 0, 1, 1, 0], np.uint8), LABELS, 5)
    assert (frames[0] == LABEL_UNKNOWN).all()  # cuts are somewhere
    assert not frames[1:3].any()
    assert [row[0] for row in frames[3:]] == [LABEL_UNKNOWN, 0, 0, 1, LABEL_UNKNOWN, 0]  # an MP3 is one everywhere


def test_windows_meet_events_more_often_than_by_chance():
    own, rng = record(points={"cut": [9.0]}, duration=30.0), np.random.default_rng(0)
    starts = np.array([window_start(rng, own, 4 * RATE, RATE) for _ in range(400)]) / RATE
    inside = ((starts < 9) & (starts + 4 > 9)).mean()
    assert 0.5 < inside < 0.7
    assert starts.min() >= 0
    assert starts.max() <= 26
    assert window_start(rng, record(duration=1.0), 4 * RATE, RATE) == 0


@pytest.mark.parametrize("add_splices", [False, True])
def test_simulated_windows(tmp_path, add_splices):
    rng = np.random.default_rng(0)
    clips = [rng.normal(scale=0.1, size=48000 + 8000 * number) for number in range(5)]
    simulator = EditSimulator(["cut", "paste", "low_pass"], random_state=3)
    windows = simulated_windows(
        simulator,
        AudioCorpus(clips),
        12,
        ["cut", "paste", "low_pass"],
        2 * RATE,
        0,
        None,
        tmp_path,
        add_splices=add_splices,
    )
    assert simulator.random_state == 3
    assert len(windows) == 12 if add_splices else 12 <= len(windows) <= 15
    assert windows.waveforms.shape[1] == 2 * RATE
    assert set(windows.clips) <= set(range(5))
    assert_array_equal(windows.floats(slice(2)), windows.waveforms[:2] / np.float32(32768))
    if add_splices:
        assert (windows.targets[:, :2] == 1).any(axis=1).mean() > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_speakers_are_held_out_whole(seed):
    speakers, clips = np.repeat(np.arange(10), [2, 1, 3, 3, 2, 2, 1, 2, 2, 2]), np.arange(60) % 20
    held_out = held_out_windows(clips, speakers, seed)
    assert all(len(set(held_out[speakers[clips] == speaker])) == 1 for speaker in range(10))
    assert 0.25 <= held_out.mean() <= 0.4
    by_clip = held_out_windows(clips, np.zeros(20, int), seed)  # of one speaker
    assert all(len(set(by_clip[clips == clip])) == 1 for clip in range(20))
    assert 0.25 <= by_clip.mean() <= 0.35
    assert 0.25 <= held_out_windows(np.zeros(60, int), np.zeros(1, int), seed).mean() <= 0.35  # of one clip
    assert sorted(held_out_windows(np.arange(2), np.arange(2), seed)) == [False, True]
    assert not held_out_windows(np.zeros(1, int), np.zeros(1, int), seed).any()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sizes", [[999, 1], [900, 50, 50], [1, 1, 1], [60, 40]])
def test_neither_few_nor_most_are_held_out(sizes, seed):
    speakers = np.repeat(np.arange(len(sizes)), sizes)
    assert 0.1 <= held_out_windows(np.arange(len(speakers)), speakers, seed).mean() <= 0.5
    # Of few clips that were drawn some are held out, whoever speaks.
    assert sorted(held_out_windows(np.array([0, 2]), np.arange(20), seed)) == [False, True]


def test_a_disk_without_room_is_told_at_once(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"160 MB for windows .* cannot be had: No space left on device. Set TMPDIR"):
        build_window_set([], 10_000, 2, 8000, RATE, tmp_path / "windows")


# Recordings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [30, 100, 101, 150, 151, 333, 1000])
def test_windows_do_not_depend_on_the_pieces_of_a_recording(n):
    rng = np.random.default_rng(n)
    recording = rng.normal(size=n).astype(np.float32)
    whole = list(iter_windows([recording], 100, 50))
    for _ in range(20):
        pieces = list(iter_windows(np.split(recording, np.sort(rng.integers(0, n, 6))), 100, 50))
        assert [(w.start, w.length) for w in pieces] == [(w.start, w.length) for w in whole]
        assert all((a.waveform == b.waveform).all() for a, b in zip(whole, pieces, strict=True))
    assert whole[-1].start + whole[-1].length == n
    covered = np.zeros(n, bool)
    for window in whole:
        part = recording[window.start : window.start + window.length]
        assert_allclose(window.waveform[: window.length], part - part.mean(), atol=1e-6)
        assert not window.waveform[window.length :].any()
        covered[window.start : window.start + window.length] = True
    assert covered.all()


def test_overlapping_frames_are_means():
    stitcher = OverlapAverager(1)
    parts = [stitcher.add(0, np.full((1, 4), 1.0)), stitcher.add(2, np.full((1, 4), 3.0)), stitcher.finish()]
    assert [first for first, _ in parts] == [0, 0, 2]
    assert np.concatenate([done[0] for _, done in parts]).tolist() == [1, 1, 2, 2, 3, 3]


def test_clips_from_windows():
    logits = np.array([[np.log(1), 1.0], [np.log(9), 3.0], [np.log(2), 5.0]])
    assert_allclose(
        pool_window_logits(logits, np.array([True, False])), [np.log(4), 3.0]
    )  # means of odds, and of log-odds
    assert_allclose(pool_window_logits(logits[:1], np.array([True, False])), [0.0, 1.0])


@pytest.mark.parametrize("n_windows", [3, 30, 1000])
def test_long_recordings_do_not_raise_more_false_alarms(n_windows):
    # Windows without a label, whose odds mean what they say: ten to one against, times a likelihood ratio.
    rng = np.random.default_rng(0)
    odds = rng.lognormal(-2, 2, size=(2000, n_windows, 1)) / 10
    found = [pool_window_logits(np.log(recording), np.array([True]))[0] >= 0 for recording in odds]
    assert np.mean(found) <= (rng.lognormal(-2, 2, size=100_000) / 10 >= 1).mean()


def test_places_from_frames():
    locator = SegmentLocator(["cut", "echo"], np.full(2, 0.5), np.full(5, 0.5), RATE)
    frames = np.full((5, 401), -4.0)
    frames[0, [99, 100, 101]] = [1.0, 3.0, 1.0]
    frames[4, 200:301] = 3.0
    windows = next(iter_windows([np.zeros(4 * RATE, np.float32)], 4 * RATE, 2 * RATE))
    locator.add(windows, np.array([1.0, 1.0]), frames)
    cut, echo = locator.finish(4.0, ["cut", "echo"], np.array([0.7, 0.8]))
    assert (cut.label, cut.start, cut.score) == ("cut", pytest.approx(1.0), pytest.approx(expit(3.0)))
    assert (echo.start, echo.end) == (pytest.approx(2.0, abs=0.011), pytest.approx(3.0, abs=0.011))


def test_a_passage_lies_between_its_seams():
    """Whatever is heard inside; seams that are too far apart are not of one."""
    locator = SegmentLocator(["cut", "paste"], np.full(2, 0.5), np.full(5, 0.5), RATE)
    frames = np.full((5, 801), -4.0)
    frames[4] = 3.0  # of all frames
    frames[1, [50, 400, 460, 700, 740]] = [3.0, 1.0, 2.0, 3.0, 1.0]
    for window in iter_windows([np.zeros(8 * RATE, np.float32)], 2 * RATE, RATE):
        first = window.start // 160
        locator.add(window, np.zeros(2), frames[:, first : first + 201])
    segments = locator.finish(8.0, ["paste"], np.array([0.1, 0.8]))
    assert_allclose([[s.start, s.end] for s in segments], [[4.0, 4.6], [7.0, 7.4]], atol=0.011)
    assert_allclose([segment.score for segment in segments], expit([2.0, 3.0]))


def test_what_is_found_but_nowhere_is_where_it_was_likeliest():
    locator = SegmentLocator(["cut", "echo"], np.full(2, 0.5), None, RATE)
    silence = np.zeros(6 * RATE, np.float32)
    for window, logit in zip(iter_windows([silence], 2 * RATE, RATE), [-2, -1, -2, -3, -2], strict=True):
        locator.add(window, np.array([logit, -5.0]), None)
    segments = locator.finish(6.0, ["cut", "echo"], np.array([0.6, 0.7]))
    places = {segment.label: (segment.start, segment.end) for segment in segments}
    assert places == {"cut": (1.0, 3.0), "echo": (0.0, 6.0)}


# Trees and probabilities ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forest():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8)).astype(np.float32)
    targets = np.column_stack([X[:, 0] > 0, X[:, 1] * X[:, 2] > 0, np.zeros(300, bool), np.ones(300, bool)])
    is_labelled = np.ones_like(targets)
    is_labelled[::3, 0] = False
    return X, targets, is_labelled, BoostedTrees.fit(X, targets, is_labelled, 5, max_iter=12, max_leaf_nodes=7)


def test_trees_answer_as_scikit_learns_do(forest):
    X, targets, is_labelled, trees = forest
    logits = trees.decision_function(X)
    for label in (0, 1):
        rows = is_labelled[:, label]
        model = HistGradientBoostingClassifier(
            max_iter=12, max_leaf_nodes=7, early_stopping=False, random_state=5 + label
        ).fit(X[rows], targets[rows, label])
        assert_allclose(logits[:, label], model.decision_function(X), atol=1e-5)
    assert (logits[:, 2] < -5).all()
    assert (logits[:, 3] > 5).all()


def test_trees_come_back_from_arrays(forest):
    X, _, _, trees = forest
    again = BoostedTrees.from_arrays(trees.arrays(), 4, 8)
    assert_array_equal(again.decision_function(X), trees.decision_function(X))


@pytest.mark.parametrize(
    "name, spoil",
    [
        ("left", lambda a: np.maximum(a - 1, 0)),  # a child before its parent: paths without end
        ("left", lambda a: a + len(a)),
        ("right", lambda a: a[:-1]),
        ("feature", lambda a: a + 8),
        ("feature", lambda a: a.astype(np.int64)),
        ("value", lambda a: a * np.nan),
        ("roots", lambda a: a - 1),
        ("labels", lambda a: a[::-1].copy()),
        ("baseline", lambda a: a[:-1]),
    ],
)
def test_arrays_that_are_no_trees(forest, name, spoil):
    arrays = forest[3].arrays()
    arrays[f"trees.{name}"] = spoil(arrays[f"trees.{name}"])
    with pytest.raises(ValueError, match="its trees"):
        BoostedTrees.from_arrays(arrays, 4, 8)


def test_combinations_are_calibrated():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4000)
    targets = (rng.random(4000) < expit(truth))[:, None]
    # Too sure of itself; noise; one that says the contrary.
    logits = np.stack([3 * truth + 1, rng.normal(size=4000), -truth], axis=1)[:, :, None]
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


def test_thresholds_hold_false_alarms_down():
    rng = np.random.default_rng(0)
    targets = rng.random((4000, 3)) < 0.2
    proba = expit(rng.normal(size=(4000, 3)) + 2.0 * targets - 1)
    clean = ~targets.any(axis=1)
    for most in (0.2, 0.05, 0.0):
        thresholds = tune_thresholds(proba, targets, np.ones_like(targets), clean, most)
        assert (proba[clean] >= thresholds).any(axis=1).mean() <= most
    # What is as sure as can be is found of clean rows too, and predictions are float32.
    sure = tune_thresholds(np.full((4000, 1), 0.9999), targets[:, :1], targets[:, :1] >= 0, clean, 0.05)
    assert np.float32(0.9999) < sure.astype(np.float32)
    free = tune_thresholds(proba, targets, np.ones_like(targets), clean, 1.0)
    # Of a label that cannot be told all would be found.
    constant = tune_thresholds(np.full((4000, 1), 0.1), targets[:, :1], targets[:, :1] >= 0, clean, 1.0)
    assert constant >= 0.25
    for label in range(3):
        near = [free[label] - 0.05, free[label], free[label] + 0.05]
        f1 = [f1_score(targets[:, label], proba[:, label] >= threshold) for threshold in near]
        assert f1[1] >= max(f1) - 0.01


def test_loss_of_frames_by_hand():
    logits = torch.zeros(1, 2, 4)
    logits[..., 3] = -30.0  # behind the end of the clip
    y = torch.tensor([[[1, 0, LABEL_UNKNOWN, 0], [0, 1, 1, 1]]])
    loss = FrameLoss(2.0, [1.0, 5.0]).loss(None, (logits,), Batch({}, {}, 1, y, None, None))
    # Every known frame costs log 2, twice where it has what its map is of; the second map counts five times.
    expected = np.log(2) * ((2 + 1) + 5 * (1 + 2 + 2)) / (2 + 5 * 3)
    assert_allclose(loss.item(), expected, rtol=1e-6)
