"""Windows of edited clips."""

import errno
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmestim.voice import EditPlan, EditRecord, TimeMap
from mmestim.voice._simulation.plan_sampling import PlanSampler, resolve_ranges
from mmestim.voice._training_data.window_set import LabelledWindow, build_window_set, window_size, window_start
from mmestim.voice._window_labels import frames_in
from mmestim.voice.edits import EDITS
from mmestim.voice.edits.base import AudioPool
from mmestim.voice.taxonomy import EDIT_LABELS, SPLICED_LABELS

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
    with pytest.raises(OSError, match=r"160 MB for training windows .* allocated: No space left on device. Set temp_f"):
        build_window_set([], 10_000, 2, 8000, RATE, tmp_path / "windows")


def test_windows_in_files_cross_processes_by_their_paths(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.ones((len(SPLICED_LABELS) + 2, frames_in(8000, RATE)))
    given = [LabelledWindow(rng.uniform(-1, 1, 8000), np.array([0, 1]), frames, clip) for clip in range(4)]
    windows = build_window_set(given, 6, 2, 8000, RATE, tmp_path / "windows")
    windows.flush()
    content = pickle.dumps(windows)
    assert windows.waveforms.nbytes > 50 * len(content)
    other = pickle.loads(content)
    for name in ("waveforms", "lengths", "targets", "frames", "clips"):
        np.testing.assert_array_equal(getattr(other, name), getattr(windows, name))
    for rows in (slice(None), slice(2, 6), np.array([3, 0]), 1):  # The file has room for six windows.
        expected = windows.waveforms[rows] / np.float32(32768)
        np.testing.assert_array_equal(windows.floats(rows), expected)
        np.testing.assert_array_equal(other.floats(rows), expected)
    (tmp_path / "windows").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="temp_folder must be a folder that all workers share"):
        pickle.loads(content)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory of the process from /proc")
def test_windows_that_were_read_do_not_count_as_memory_of_the_process(tmp_path):
    n_windows, n_samples = 512, 64_800
    n_maps, nothing = len(SPLICED_LABELS) + 1, np.zeros(1)
    blank = LabelledWindow(np.zeros(1), nothing, np.zeros((n_maps, frames_in(n_samples, RATE))), 0)
    windows = pickle.loads(pickle.dumps(build_window_set([blank] * n_windows, n_windows, 1, n_samples, RATE, tmp_path)))

    def megabytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    before = megabytes()
    for start in range(0, n_windows, 16):
        windows.floats(slice(start, start + 16))
    assert windows.waveforms.nbytes > 60e6
    assert megabytes() - before < 30


@pytest.mark.parametrize("label", [label for label in EDIT_LABELS if not EDITS[label].needs])
def test_length_of_a_window_does_not_reveal_an_edit(label):
    lengths = [window_lengths(label, n_edits) for n_edits in (0, 1)]
    auc = roc_auc_score(np.repeat([0, 1], len(lengths[0])), np.concatenate(lengths))
    assert 0.45 < auc < 0.55
    assert min(map(min, lengths)) < 0.5 * RATE


def window_lengths(label, n_edits, n_windows=2000):
    """Return the lengths of windows of clips with no edit or one, which need not be applied."""
    sampler = PlanSampler(resolve_ranges([label]), (n_edits, n_edits), "canonical", RATE)
    rng, lengths = np.random.default_rng(n_edits), []
    for _ in range(n_windows):
        plan = sampler.sample(rng, rng.uniform(6, 10), AudioPool())
        duration = plan.duration
        for step in plan.steps:
            parameters = {name: value for name, value in step.items() if name != "edit"}
            duration = EDITS[label].duration_after(duration, **parameters)
        record = EditRecord([label], plan, {}, {}, [], TimeMap.identity(duration), duration, RATE, 0.0)
        lengths.append(min(window_size(rng, record, 4 * RATE, RATE), round((duration - sum(plan.crop)) * RATE)))
    return lengths
