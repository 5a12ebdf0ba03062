"""Readers of sound."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.testing import assert_allclose

from mmestim._utils.torchaudio import torchaudio
from mmestim.media import LogMelSpectrogram, MediaError, Spectrogram, Waveform

RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)


@pytest.fixture
def noise(tmp_path):
    soundfile.write(tmp_path / "noise.wav", NOISE, RATE, subtype="FLOAT")
    return str(tmp_path / "noise.wav")


def test_waveforms_have_one_length_and_a_warning_of_what_was_left_out(noise):
    exact = Waveform(duration=2.0, dtype="float32").fit_transform([noise])
    assert_allclose(exact, NOISE[None])
    longer = Waveform(duration=3.0, dtype="float32").fit_transform([noise])
    assert_allclose(longer[0], np.r_[NOISE, np.zeros(RATE)])
    with pytest.warns(UserWarning, match="Waveform: 1 of 1 values last longer than duration=1 s: their middle"):
        shorter = Waveform(duration=1.0, dtype="float32").fit_transform([noise])
    assert_allclose(shorter[0], NOISE[RATE // 2 :][:RATE])


def test_rate_and_channels_do_not_change_the_waveform(tmp_path):
    t = np.arange(4 * RATE) / 32000
    tone = 0.3 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "a.flac", np.c_[1.5 * tone, 0.5 * tone], 32000)
    soundfile.write(tmp_path / "b.flac", tone[::2], RATE)
    a, b = Waveform(duration=2.0, dtype="float32").fit_transform([tmp_path / "a.flac", tmp_path / "b.flac"])
    assert_allclose(a[200:-200], b[200:-200], atol=2e-4)


def test_spectrogram_follows_its_formula(noise):
    block = Spectrogram(n_fft=512, hop_length=160, duration=2.0, dtype="float32").fit_transform([noise])
    assert block.shape == (1, 257, 201)
    padded = np.pad(NOISE, 256)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frame = np.fft.rfft(padded[50 * 160 :][:512] * window)
    assert_allclose(block[0, :, 50], np.log(np.abs(frame) + 1e-7), atol=1e-3)


def test_log_mel_spectrogram_agrees_with_torchaudio(noise):
    block = LogMelSpectrogram(n_mels=40, f_min=50, f_max=7000, duration=2.0, dtype="float32").fit_transform([noise])
    reference = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=512, hop_length=160, f_min=50, f_max=7000, n_mels=40, pad_mode="constant"
    )
    assert_allclose(block[0], torch.log(reference(torch.from_numpy(NOISE)) + 1e-10), atol=1e-4)


def test_sound_of_videos_is_read(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", tone=1000.0)
    block = Spectrogram(duration=2.0).fit_transform([path])
    assert block.dtype == np.float16
    assert abs(block[0, :, 100].argmax() * RATE / 512 - 1000) < RATE / 512
    with pytest.raises(MediaError, match=r"silent\.mp4: contains no sound"):
        Spectrogram().fit_transform([make_video(tmp_path / "silent.mp4", tone=0)])


def test_damaged_and_missing_files_are_named(noise, tmp_path):
    cut = tmp_path / "cut.wav"
    content = Path(noise).read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.wav").touch()
    for name, problem in [("cut.wav", "truncated or damaged"), ("empty.wav", "empty file"), ("no.wav", "not exist")]:
        with pytest.raises(MediaError, match=f"{name}.*{problem}"):
            Waveform().fit_transform([tmp_path / name])


@pytest.mark.parametrize(
    "reader, message",
    [
        (Waveform(duration=0), "duration=0 must be at least 6.25e-05 and at most 86400"),
        (Waveform(duration=1e-5), "duration=1e-05 must be at least 6.25e-05"),
        (Waveform(duration=float("inf")), "duration=inf must be at least"),
        (Waveform(dtype="int16"), "dtype='int16' is not supported"),
        (Spectrogram(hop_length=0), "hop_length=0 must be at least 1"),
        (LogMelSpectrogram(n_mels=300), "n_mels=300 leaves .* bands without a frequency"),
        (LogMelSpectrogram(f_max=9000), "f_max=9000 must be"),
    ],
)
def test_parameters_are_checked(reader, message):
    with pytest.raises(ValueError, match=message):
        reader.fit(["a.wav"])
