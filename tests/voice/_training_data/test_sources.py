"""Sources of training windows, and the windows that are held out."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mmestim.voice import AudioCorpus, EditSimulator
from mmestim.voice._training_data.sources import held_out_windows, simulated_windows

RATE = 16000


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
        assert (windows.targets[:, :2] == 1).any(axis=1).mean() > 0.5  # short windows may have no splice


@pytest.mark.parametrize("seed", range(5))
def test_whole_speakers_are_held_out(seed):
    speakers, clips = np.repeat(np.arange(10), [2, 1, 3, 3, 2, 2, 1, 2, 2, 2]), np.arange(60) % 20
    held_out = held_out_windows(clips, speakers, seed)
    assert all(len(set(held_out[speakers[clips] == speaker])) == 1 for speaker in range(10))
    assert 0.25 <= held_out.mean() <= 0.4
    by_clip = held_out_windows(clips, np.zeros(20, int), seed)  # one speaker
    assert all(len(set(by_clip[clips == clip])) == 1 for clip in range(20))
    assert 0.25 <= by_clip.mean() <= 0.35
    assert 0.25 <= held_out_windows(np.zeros(60, int), np.zeros(1, int), seed).mean() <= 0.35  # one clip
    assert sorted(held_out_windows(np.arange(2), np.arange(2), seed)) == [False, True]
    assert not held_out_windows(np.zeros(1, int), np.zeros(1, int), seed).any()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sizes", [[999, 1], [900, 50, 50], [1, 1, 1], [60, 40]])
def test_neither_few_nor_most_windows_are_held_out(sizes, seed):
    speakers = np.repeat(np.arange(len(sizes)), sizes)
    assert 0.1 <= held_out_windows(np.arange(len(speakers)), speakers, seed).mean() <= 0.5
    # If few clips were sampled, some of them are held out, whoever speaks.
    assert sorted(held_out_windows(np.array([0, 2]), np.arange(20), seed)) == [False, True]
