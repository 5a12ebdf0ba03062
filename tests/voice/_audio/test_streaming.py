"""Streaming of files in blocks: the same samples as AudioCorpus at every rate, in constant memory."""

import tracemalloc

import numpy as np
import pytest
import soundfile

import mmestim.voice._files.decoding as decoding
from mmestim.voice import AudioCorpus
from mmestim.voice._audio.streaming import AudioStream
from mmestim.voice._files.paths import AudioError

RATE = 16000


def noise(n_samples, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=n_samples).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("n_samples", [60, 100_001])
def test_stream_yields_the_samples_of_a_corpus(tmp_path, monkeypatch, rate, n_samples):
    monkeypatch.setattr(decoding, "_BLOCK_SIZE", 30_000)
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(2 * n_samples).reshape(-1, 2), rate)
    stream = AudioStream(path, RATE)
    assert stream.duration == n_samples / rate
    for _ in range(2):
        atol = 0 if rate == RATE else 1e-6  # rounding errors of resampling
        np.testing.assert_allclose(np.concatenate(list(stream)), AudioCorpus([path])[0], rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.mp3"])
def test_compressed_files_are_decoded_without_gaps(tmp_path, monkeypatch, name):
    monkeypatch.setattr(decoding, "_BLOCK_SIZE", 30_000)
    with soundfile.SoundFile(tmp_path / name, "w", 44100, 1) as file:
        for seed in range(12):
            file.write((0.001 if seed % 3 == 1 else 1) * noise(16_384, seed))
    blocks = list(AudioStream(tmp_path / name, RATE))
    assert len(blocks) > 3
    np.testing.assert_allclose(np.concatenate(blocks), AudioCorpus([tmp_path / name])[0], atol=1e-6)


def test_memory_does_not_grow_with_the_length_of_the_file(tmp_path):
    peaks = []
    for n_blocks in (4, 16):
        with soundfile.SoundFile(tmp_path / "x.wav", "w", 48000, 2) as file:
            for seed in range(n_blocks):
                file.write(noise(2 * 2**18, seed).reshape(-1, 2))
        tracemalloc.start()
        n_samples = sum(len(block) for block in AudioStream(tmp_path / "x.wav", RATE))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert n_samples == round(n_blocks * 2**18 / 3)
    assert peaks[1] < 1.1 * peaks[0]


def test_limits_apply_to_streams(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(2 * RATE), RATE)
    with pytest.raises(AudioError, match=r"lasts 2\.0 s, above max_duration=1\.5"):
        AudioStream(tmp_path / "x.wav", RATE, max_duration=1.5)
    content = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    assert list(AudioStream(tmp_path / "cut.wav", RATE))
    with pytest.raises(AudioError, match="is truncated or damaged"):
        list(AudioStream(tmp_path / "cut.wav", RATE, must_be_intact=True))
