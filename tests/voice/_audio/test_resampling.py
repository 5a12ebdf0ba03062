"""Resampling of waveforms, as a whole and in blocks."""

import numpy as np
import pytest

from mmestim.voice import AudioCorpus
from mmestim.voice._audio.resampling import resample, resample_blocks

RATE = 16000


def sine(seconds=1.0, rate=RATE, frequency=440.0, amplitude=0.5):
    """A sine from phase 0."""
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds=1.0, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def decibels(x):
    return 20 * np.log10(np.sqrt(np.mean(np.square(x, dtype=np.float64))) + 1e-12)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 44056])
@pytest.mark.parametrize("frequency", [100.0, 440.0, 3100.0])
def test_resampling_keeps_a_sine(rate, frequency):
    corpus = AudioCorpus([sine(1.0, rate, frequency)], source_rate=rate)
    read = corpus[0]
    assert len(read) == RATE
    assert read.dtype == np.float32
    np.testing.assert_array_equal(corpus[0], read)
    middle = slice(1000, -1000)
    assert decibels((read - sine(1.0, RATE, frequency))[middle]) - decibels(sine()) < -60


@pytest.mark.parametrize("frequency", [8900.0, 12000.0, 21000.0])
def test_resampling_lets_nothing_fold_back(frequency):
    loud, folded = sine(1.0, 44100), sine(1.0, 44100, frequency)
    both, alone = AudioCorpus([loud + folded, loud], source_rate=44100)
    assert decibels((both - alone)[1000:-1000]) - decibels(folded) < -80


@pytest.mark.parametrize("n_samples", [7, 441, 44099, 44101])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_length_after_resampling(n_samples, rate):
    assert len(AudioCorpus([sine(3.0)[:n_samples]], source_rate=rate)[0]) == round(n_samples * RATE / rate)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 47999])
def test_pieces_are_resampled_as_the_whole(rate):
    whole = noise((3 * rate + 1) / RATE)
    for sizes in ([rate // 3], [7, 20_000], [len(whole)]):
        ends = np.cumsum(np.resize(sizes, 2 + 2 * len(whole) // sum(sizes)))
        blocks = np.split(whole, ends[ends < len(whole)])
        pieces = list(resample_blocks(blocks, rate, RATE))
        np.testing.assert_array_equal(np.concatenate(pieces), resample(whole, rate, RATE))
