"""Trimming of outer silence."""

import numpy as np
import pytest

from mmestim.voice import trim_silence

RATE = 16000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(RATE // 2)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_outer_silence_is_trimmed_to_the_margin(rate, sine):
    tone, hiss = sine(1.0, rate), np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32)
    clip = np.pad(tone, rate // 2) + 5e-4 * hiss + np.float32(0.05)
    trimmed, start = trim_silence(clip, rate)
    assert start == pytest.approx(0.45, abs=0.01)
    assert len(trimmed) / rate == pytest.approx(1.1, abs=0.02)
    first = round(start * rate)
    np.testing.assert_array_equal(trimmed, clip[first : first + len(trimmed)])
    assert trim_silence(clip, rate, margin=0)[1] == pytest.approx(0.5, abs=0.01)
    assert len(trim_silence(clip, rate, threshold_db=-80)[0]) == len(clip)


@pytest.mark.parametrize("clip", [np.zeros(5000), np.full(5000, 0.5), np.zeros(0), np.ones(1), NOISE])
def test_clips_without_outer_silence_are_unchanged(clip):
    trimmed, start = trim_silence(clip, RATE)
    assert (len(trimmed), start) == (len(clip), 0.0)


def test_invalid_parameters_are_reported(sine):
    with pytest.raises(ValueError, match="threshold_db=3 must be at least -inf and at most 0"):
        trim_silence(sine(), RATE, threshold_db=3)
    with pytest.raises(ValueError, match="margin=-1"):
        trim_silence(sine(), RATE, margin=-1)
