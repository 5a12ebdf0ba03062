"""Windows of edited clips."""

import errno
import os

import numpy as np
import pytest

from mmestim.voice import EditPlan, EditRecord, TimeMap
from mmestim.voice._training_data.window_set import build_window_set, window_start

RATE = 16000


def record_with_cuts(moments, duration):
    labels = ["cut"] if moments else ["unaltered"]
    points = {"cut": moments} if moments else {}
    plan, time_map = EditPlan(duration, RATE), TimeMap.identity(duration)
    return EditRecord(labels, plan, {}, points, [], time_map, duration, RATE, 0.0)


def test_windows_contain_events_more_often_than_by_chance():
    record, rng = record_with_cuts([9.0], duration=30.0), np.random.default_rng(0)
    starts = np.array([window_start(rng, record, 4 * RATE, RATE) for _ in range(400)]) / RATE
    contains_event = ((starts < 9) & (starts + 4 > 9)).mean()
    assert 0.5 < contains_event < 0.7
    assert starts.min() >= 0
    assert starts.max() <= 26
    assert window_start(rng, record_with_cuts([], duration=1.0), 4 * RATE, RATE) == 0


def test_a_full_disk_is_reported_at_once(tmp_path, monkeypatch):
    def raise_no_space(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", raise_no_space, raising=False)
    with pytest.raises(OSError, match=r"160 MB for training windows .* allocated: No space left on device. Set TMPDIR"):
        build_window_set([], 10_000, 2, 8000, RATE, tmp_path / "windows")
