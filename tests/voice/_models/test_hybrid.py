"""Features of frames that overlapping windows share."""

import numpy as np
import torch

from mmestim.voice._audio.windowing import iter_windows
from mmestim.voice._models.base import stack_windows
from mmestim.voice._models.hybrid import HybridModel

RATE, FRAME = 16000, 160
WINDOW = 2 * RATE


def test_a_frame_of_overlapping_windows_is_that_of_one_of_them():
    torch.manual_seed(0)
    model = HybridModel(RATE)
    model.networks = model.new_networks(["cut", "low_pass"])
    model.to(torch.device("cpu"), "float32")
    recording = np.random.default_rng(0).normal(scale=0.1, size=round(8.303 * RATE)).astype(np.float32)
    recording *= np.linspace(1, 3, len(recording), dtype=np.float32)  # windows differ in level
    windows = list(iter_windows([recording], WINDOW, WINDOW // 2, RATE, gaps=[(4.0, 4.4)]))
    waveforms, lengths = stack_windows(windows)
    starts = [window.start for window in windows]
    shared = model._overlapping_local_features(starts, waveforms, lengths)
    alone = model._local_features(waveforms, lengths)
    n_frames, n_reused = alone.shape[2], 0
    for row in range(len(windows)):
        is_own = np.isclose(shared[row], alone[row], rtol=0, atol=1e-4).all(axis=0)
        shift = n_frames if row == 0 else min(n_frames, round((starts[row] - starts[row - 1]) / FRAME))
        is_earlier = (shared[row, :, : n_frames - shift] == shared[row - 1, :, shift:]).all(axis=0)
        assert (is_own | np.pad(is_earlier, (0, shift))).all()
        assert is_own[max(0, n_frames - shift - 18) :].all()  # also where the window before ended
        n_reused += np.count_nonzero(~is_own)
    assert n_reused > n_frames
