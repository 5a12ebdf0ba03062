"""Windows of recordings, and the pooling of their scores."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mmestim.voice._audio.resampling import resample
from mmestim.voice._audio.windowing import OverlapAverager, iter_windows, pool_window_logits, prepare
from mmestim.voice._constants import PAST_END_LOGIT


@pytest.mark.parametrize("n", [30, 100, 101, 150, 151, 333, 1000])
def test_windows_do_not_depend_on_the_blocks_of_a_recording(n):
    rng = np.random.default_rng(n)
    recording = rng.normal(scale=0.1, size=n).astype(np.float32)
    windows = list(iter_windows([recording], 100, 50, 8000))
    for _ in range(20):
        from_blocks = list(iter_windows(np.split(recording, np.sort(rng.integers(0, n, 6))), 100, 50, 8000))
        assert [(w.start, w.length) for w in from_blocks] == [(w.start, w.length) for w in windows]
        assert all((a.waveform == b.waveform).all() for a, b in zip(windows, from_blocks, strict=True))
    assert windows[-1].start + windows[-1].length == n
    is_covered = np.zeros(n, bool)
    for window in windows:
        part = recording[window.start : window.start + window.length]
        assert_allclose(window.waveform[: window.length], part - part.mean(), atol=0.51 / 32768)
        assert not window.waveform[window.length :].any()
        is_covered[window.start : window.start + window.length] = True
    assert is_covered.all()


@pytest.mark.parametrize("n_blocks", [1, 7])
def test_windows_stop_at_gaps(n_blocks):
    rate, gaps = 8000, [(0.0, 1.0), (3.0, 3.5), (3.6, 5.0)]
    recording = np.random.default_rng(0).normal(scale=0.1, size=8 * rate).astype(np.float32)
    windows = list(iter_windows(np.array_split(recording, n_blocks), rate, rate // 2, rate, gaps))
    spans = [(window.start / rate, (window.start + window.length) / rate) for window in windows]
    assert all(end <= first or start >= last for start, end in spans for first, last in gaps)
    # The part from 3.5 to 3.6 s is too short to be judged.
    assert (spans[0][0], spans[2][1], spans[3][0], spans[-1][1]) == pytest.approx((1.05, 2.95, 5.05, 8.0), abs=0.3)
    part = recording[windows[-1].start :]
    assert_allclose(windows[-1].waveform, part - part.mean(), atol=0.51 / 32768)
    assert list(iter_windows([recording[: 2 * rate]], rate, rate // 2, rate, [(0.2, 1.9)])) == []


@pytest.mark.parametrize("rate", [22050, 24000, 32000, 44100, 48000])
def test_windows_do_not_reveal_the_sample_rate(rate):
    """White noise that was read at 16 kHz and at another rate has the same spectrum above the common band."""
    rng = np.random.default_rng(0)
    direct = rng.normal(scale=0.1, size=64000).astype(np.float32)
    read = resample(rng.normal(scale=0.1, size=4 * rate).astype(np.float32), rate, 16000)
    levels = [10 * np.log10(_power_above(prepare(part + 0.1, 16000), 7400)) for part in (direct, read)]
    assert max(levels) < -110
    assert_allclose(*levels, atol=2)
    assert abs(prepare(direct[:6000] + 0.1, 16000).mean()) < 5 / 32768 / np.sqrt(12 * 6000)  # rounding errors


def _power_above(waveform, frequency):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) ** 2
    return spectrum[np.fft.rfftfreq(len(waveform), 1 / 16000) > frequency].sum() / len(waveform) ** 2


def test_overlapping_frames_are_averaged():
    averager = OverlapAverager(1)
    parts = [averager.add(0, np.full((1, 4), 1.0)), averager.add(2, np.full((1, 4), 3.0)), averager.finish()]
    assert [first for first, _ in parts] == [0, 0, 2]
    assert np.concatenate([frames[0] for _, frames in parts]).tolist() == [1, 1, 2, 2, 3, 3]
    first, frames = averager.add(8, np.full((1, 1), 4.0))
    assert (first, frames.tolist()) == (6, [[PAST_END_LOGIT] * 2])  # in no window


def test_pooling_averages_odds_or_log_odds():
    logits = np.array([[np.log(1), 1.0], [np.log(9), 3.0], [np.log(2), 5.0]])
    is_local = np.array([True, False])
    assert_allclose(pool_window_logits(logits, is_local), [np.log(4), 3.0])
    assert_allclose(pool_window_logits(logits[:1], is_local), [0.0, 1.0])


@pytest.mark.parametrize("n_windows", [3, 30, 1000])
def test_long_recordings_do_not_raise_more_false_alarms(n_windows):
    # Windows without a label, with calibrated odds: a prior of ten to one against, times a likelihood ratio.
    rng = np.random.default_rng(0)
    odds = rng.lognormal(-2, 2, size=(2000, n_windows, 1)) / 10
    is_detected = [pool_window_logits(np.log(recording), np.array([True]))[0] >= 0 for recording in odds]
    assert np.mean(is_detected) <= (rng.lognormal(-2, 2, size=100_000) / 10 >= 1).mean()
