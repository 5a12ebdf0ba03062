"""Fixtures of the detectors' tests."""

import numpy as np
import pytest

from mmestim.voice import VoiceEditDetector

RATE = 16000
EDITS = ["cut", "low_pass", "echo"]
TINY = {"window": 1.2, "n_clips": 40, "training_budget": 0.002, "random_state": 0}


def synthesize(seconds, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * rng.uniform(100, 180) * t) / k for k in range(1, 9))
    noise = np.convolve(rng.normal(size=len(t)), [0.5, 0.5], "same")
    return (0.1 * (1 + np.sin(2 * np.pi * 3 * t)) * (0.2 * tone + noise)).astype(np.float32)


@pytest.fixture(scope="package")
def edits():
    """Labels that the detectors learn."""
    return EDITS


@pytest.fixture(scope="package")
def tiny():
    """Parameters of a detector that trains in seconds."""
    return TINY


@pytest.fixture(scope="package")
def speech():
    """Function of seconds and a seed that returns a waveform similar to speech."""
    return synthesize


@pytest.fixture(scope="package")
def clips():
    """Twelve clips of 1.5 to 4.8 s."""
    return [synthesize(1.5 + 0.3 * number, number) for number in range(12)]


@pytest.fixture(scope="package", params=["features", "hybrid", "lcnn"])
def detector(request, clips):
    """Detectors fitted with each kind of model."""
    return VoiceEditDetector(EDITS, model=request.param, **TINY).fit(clips)
