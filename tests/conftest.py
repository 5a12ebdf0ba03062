"""Fixtures of all tests, and the limit to one thread that makes results reproducible."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from _early_methods import METHODS, early_method

os.environ["OMP_NUM_THREADS"] = "1"  # joblib's workers inherit it.
torch.set_num_threads(1)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def data_folder():
    """Folder of the small real data sets; without MMESTIM_DATA the test is skipped."""
    if not (folder := os.environ.get("MMESTIM_DATA")):
        pytest.skip("MMESTIM_DATA does not name a folder with the data sets")
    return Path(folder)


@pytest.fixture(params=METHODS.values(), ids=lambda method: method.__name__)
def balancing_method(request):
    """Class of each balancing method in turn."""
    return request.param


@pytest.fixture
def balancer(balancing_method):
    """Instance of each balancing method in turn, with parameters that take effect in the first epochs."""
    return early_method(balancing_method.__name__)


# Scans, in Python and by the command line ------------------------------------------------------------

RATE = 16000


def synthetic_voice(seconds, seed=0, rate=RATE):
    """Return harmonics of a gliding pitch through three gliding formants, in syllables, with breath."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = 130 + 30 * np.sin(2 * np.pi * 0.7 * t + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = rng.normal(scale=0.05, size=len(t))
    formants = [
        (600 + 200 * np.sin(5 * t + seed), 90),
        (1500 + 500 * np.sin(3 * t + seed), 150),
        (2800 + 200 * np.sin(4 * t + seed), 300),
    ]
    for k in range(1, int(min(7000, 0.45 * rate) / pitch.max())):
        gain = sum(1 / (1 + ((k * pitch - centre) / width) ** 2) for centre, width in formants) + 0.02
        sound += gain * np.sin(k * phase + rng.uniform(0, 6))
    sound *= np.clip(np.sin(2 * np.pi * 3 * t + seed) + 0.5, 0.02, 1)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def with_echo(waveform):
    return (waveform + 0.8 * np.pad(waveform, (4000, 0))[: len(waveform)]) / 2


@pytest.fixture(scope="session")
def make_voice():
    """Return a function of a duration in seconds, a seed and a sample rate that makes a voice."""
    return synthetic_voice


@pytest.fixture(scope="session")
def add_echo():
    """Return a function that adds an echo to a waveform."""
    return with_echo


@pytest.fixture(scope="session")
def edit_detector():
    """Detector of low-pass filters, echoes and cuts, fitted to synthetic voices."""
    from mmestim.voice import VoiceEditDetector  # takes seconds to import, and most tests do without

    clips = [synthetic_voice(1.25 + seed / 32, seed) for seed in range(8)]
    detector = VoiceEditDetector(["low_pass", "echo", "cut"], window=1.2, model="features", n_clips=120, random_state=0)
    return detector.fit(clips)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Folder of recordings, of which b.wav has an echo, c.wav is silent and d.mp3 cannot be read."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "deep").mkdir()
    (folder / "empty").mkdir()
    soundfile.write(folder / "a.wav", synthetic_voice(3, 50), RATE)
    soundfile.write(folder / "b.wav", with_echo(synthetic_voice(3, 51)), RATE)
    soundfile.write(folder / "c.wav", np.zeros(RATE), RATE)
    (folder / "d.mp3").write_text("no audio")
    soundfile.write(folder / "deep" / "a.flac", synthetic_voice(2, 52), 22050)
    return folder


@pytest.fixture
def model_path(tmp_path, edit_detector, monkeypatch):
    """Path of a model file for which `load` is patched to return the detector."""
    path = tmp_path / "model.mme"
    path.write_bytes(b"model")
    monkeypatch.setattr("mmestim.persistence.load", lambda path, device: edit_detector)
    return str(path)
