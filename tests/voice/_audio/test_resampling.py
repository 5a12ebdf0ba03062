"""Resampling of whole waveforms and of blocks."""

import numpy as np
import pytest
from scipy.signal import firwin, kaiserord, resample_poly

from mmestim.voice import AudioCorpus
from mmestim.voice._audio.resampling import rate_ratio, resample, resample_blocks

RATE = 16000


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 44056])
@pytest.mark.parametrize("frequency", [100.0, 440.0, 3100.0])
def test_resampled_sine_equals_a_sine_at_the_new_rate(rate, frequency, sine, decibels):
    corpus = AudioCorpus([sine(1.0, rate, frequency)], source_rate=rate)
    resampled = corpus[0]
    assert len(resampled) == RATE
    assert resampled.dtype == np.float32
    np.testing.assert_array_equal(corpus[0], resampled)
    middle = slice(1000, -1000)
    assert decibels((resampled - sine(1.0, RATE, frequency))[middle]) - decibels(sine()) < -60


@pytest.mark.parametrize("frequency", [8900.0, 12000.0, 21000.0])
def test_frequencies_above_the_new_nyquist_frequency_do_not_alias(frequency, sine, decibels):
    tone, high_tone = sine(1.0, 44100), sine(1.0, 44100, frequency)
    both_tones, low_tone = AudioCorpus([tone + high_tone, tone], source_rate=44100)
    assert decibels((both_tones - low_tone)[1000:-1000]) - decibels(high_tone) < -80


@pytest.mark.parametrize("n_samples", [7, 441, 44099, 44101])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_resampled_length_is_the_rounded_duration(n_samples, rate, sine):
    assert len(AudioCorpus([sine(3.0)[:n_samples]], source_rate=rate)[0]) == round(n_samples * RATE / rate)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 47999])
def test_blocks_are_resampled_like_the_whole_waveform(rate, noise):
    waveform = noise((3 * rate + 1) / RATE)
    for sizes in ([rate // 3], [7, 20_000], [len(waveform)]):
        ends = np.cumsum(np.resize(sizes, 2 + 2 * len(waveform) // sum(sizes)))
        blocks = np.split(waveform, ends[ends < len(waveform)])
        resampled_blocks = list(resample_blocks(blocks, rate, RATE))
        expected = resample(waveform, rate, RATE)
        atol = 0 if rate in (RATE, 47999) else 1e-6  # Products of other shapes differ by rounding errors.
        np.testing.assert_allclose(np.concatenate(resampled_blocks), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "rates", [(44100, RATE), (RATE, 8000), (8000, RATE), (11025, RATE), (RATE, 44100), (192000, RATE)]
)
@pytest.mark.parametrize("n_samples", [1, 7, 441, 30_001])
def test_samples_are_those_of_the_filter(rates, n_samples, noise):
    waveform, (up, down) = noise(n_samples / RATE), rate_ratio(*rates)
    n_taps, beta = kaiserord(80, 0.15 / max(up, down))
    taps = firwin(n_taps | 1, 0.925 / max(up, down), window=("kaiser", beta))
    expected = resample_poly(waveform.astype(float), up, down, window=taps)
    np.testing.assert_allclose(resample(waveform, *rates), expected, rtol=0, atol=1e-6)


def test_empty_waveform_remains_empty():
    assert resample(np.zeros(0, np.float32), 44100, RATE).shape == (0,)
