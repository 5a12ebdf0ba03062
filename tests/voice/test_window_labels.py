"""Labels of windows and of their frames."""

import numpy as np
import pytest

from mmestim.voice import EditPlan, EditRecord, TimeMap
from mmestim.voice._window_labels import LABEL_UNKNOWN, clip_truth, frames_in, window_truth
from mmestim.voice.taxonomy import SPLICED_LABELS

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


def labels_of_window(clip_record, start=2.0, seconds=4.0):
    targets, frames = window_truth(clip_record, LABELS, start, seconds, frames_in(round(seconds * RATE), RATE))
    return dict(zip(LABELS, targets.tolist(), strict=True)), frames


@pytest.mark.parametrize(
    "clip_record, expected",
    [
        (record(), {}),
        (record(points={"cut": [3.0]}), {"cut": 1}),
        (record(points={"cut": [2.02]}), {"cut": LABEL_UNKNOWN}),  # right at the start of the window
        (record(points={"cut": [1.0, 6.5]}), {}),
        (record({"mix": [(1.0, 2.4)]}), {"mix": 1}),
        (record({"mix": [(1.0, 2.2)]}), {"mix": LABEL_UNKNOWN}),  # only 0.2 s are inside
        (record({"mix": [(0.0, 2.0)]}), {"mix": LABEL_UNKNOWN}),  # the border may be audible
        (record({"mix": [(0.0, 1.9)]}), {}),
        (record({"paste": [(3.0, 7.0)]}), {"paste": 1}),
        (record({"paste": [(1.0, 7.0)]}), {"paste": LABEL_UNKNOWN}),  # no border is inside
        (record({"mp3": [(0.0, 10.0)]}), {"mp3": 1}),
        (record({"low_pass": [(2.0, 6.0)], "echo": [(6.5, 8.0)]}), {"low_pass": 1}),
        (record(inaudible=["echo"]), {"echo": LABEL_UNKNOWN}),
    ],
)
def test_targets_of_a_window(clip_record, expected):
    assert labels_of_window(clip_record)[0] == dict.fromkeys(LABELS, 0) | expected


def test_frames_of_a_window():
    _, frames = labels_of_window(record({"mix": [(3.0, 3.5)], "mp3": [(0.0, 10.0)]}, {"cut": [4.0]}, ["echo"]))
    assert frames.shape == (len(SPLICED_LABELS) + len(LABELS), 401)
    cut, paste, mix = frames[:3]
    assert np.flatnonzero(cut).tolist() == [199, 200, 201]
    assert not paste.any()
    assert np.flatnonzero(mix).tolist() == [99, 100, 101, 149, 150, 151]
    content = dict(zip(LABELS, frames[3:], strict=True))
    assert np.flatnonzero(content["mix"]).tolist() == list(range(100, 151))
    assert (content["mp3"] == 1).all()
    assert (content["echo"] == LABEL_UNKNOWN).all()
    assert not content["low_pass"].any()


def test_frames_where_only_clip_labels_are_known():
    frames = clip_truth(np.array([1, 0, 0, 1, 1, 0], np.uint8), LABELS, 5)
    assert (frames[0] == LABEL_UNKNOWN).all()  # the cuts may be anywhere
    assert not frames[1:3].any()
    # MP3 always covers the whole clip.
    assert [row[0] for row in frames[3:]] == [LABEL_UNKNOWN, 0, 0, 1, LABEL_UNKNOWN, 0]
