"""Fixtures of scans: waveforms, a fitted detector, a folder of recordings and a model file."""

import numpy as np
import pytest
import soundfile

from mmestim.voice import VoiceEditDetector

RATE = 16000


def make_noise(seconds, seed=0):
    return np.convolve(np.random.default_rng(seed).normal(size=round(seconds * RATE)), np.ones(9) / 20, "same")


def add_echo(waveform):
    return (waveform + 0.8 * np.pad(waveform, (4000, 0))[: len(waveform)]) / 2


@pytest.fixture(scope="session")
def noise():
    """Return a function of a duration in seconds and a seed that makes low-passed noise."""
    return make_noise


@pytest.fixture(scope="session")
def echo():
    """Return a function that adds an echo to a waveform."""
    return add_echo


@pytest.fixture(scope="session")
def edit_detector():
    """Detector of low-pass filters, echoes and cuts, fitted to noise."""
    clips = [make_noise(1.25 + seed / 32, seed) for seed in range(8)]
    detector = VoiceEditDetector(["low_pass", "echo", "cut"], window=1.2, model="features", n_clips=120, random_state=0)
    return detector.fit(clips)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Folder of recordings, of which b.wav has an echo and c.wav and d.mp3 cannot be read."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "deep").mkdir()
    (folder / "empty").mkdir()
    soundfile.write(folder / "a.wav", make_noise(3, 50), RATE)
    soundfile.write(folder / "b.wav", add_echo(make_noise(3, 51)), RATE)
    soundfile.write(folder / "c.wav", np.zeros(RATE), RATE)
    (folder / "d.mp3").write_text("no audio")
    soundfile.write(folder / "deep" / "a.flac", make_noise(2, 52), 22050)
    return folder


@pytest.fixture
def model(tmp_path, edit_detector, monkeypatch):
    """Path of a model file for which `load` is patched to return the detector."""
    path = tmp_path / "model.mme"
    path.write_bytes(b"model")
    monkeypatch.setattr("mmestim.persistence.load", lambda path, device: edit_detector)
    return str(path)
