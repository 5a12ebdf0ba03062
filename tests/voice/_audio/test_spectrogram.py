"""Spectrograms that are computed in blocks, and their PNG images."""

import numpy as np
import pytest

from mmestim.voice._audio.spectrogram import Spectrogram, compute_spectrogram, encode_png


@pytest.mark.parametrize("n_samples", [1, 300, 511, 513, 20_000, 400_000])
def test_spectrogram_does_not_depend_on_the_blocks(png_pixels, n_samples):
    waveform = np.random.default_rng(0).normal(size=n_samples).astype(np.float32)
    from_one_block = compute_spectrogram([waveform], n_samples)
    from_many_blocks = Spectrogram(n_samples)
    for block in np.array_split(waveform, 7):
        from_many_blocks.add(block)
    np.testing.assert_allclose(from_many_blocks.decibels(), from_one_block, atol=1e-4)
    assert from_one_block.shape[0] == 128
    assert 1 <= from_one_block.shape[1] <= 1000
    assert from_one_block.max() == 0
    assert from_one_block.max(axis=0).min() > -20  # Each column contains a frame.
    assert png_pixels(encode_png(from_one_block)).shape == from_one_block.shape
