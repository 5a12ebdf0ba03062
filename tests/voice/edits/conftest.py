"""Fixtures of the tests of edits."""

import numpy as np
import pytest

RATE = 16000


def make_noise(seconds, seed, level=0.1, rate=RATE):
    return (level * np.random.default_rng(seed).normal(size=round(seconds * rate))).astype(np.float32)


@pytest.fixture(scope="session")
def noise():
    """Return a function of a duration in seconds and a seed that makes white noise."""
    return make_noise


@pytest.fixture(scope="session")
def noise_bursts():
    """Return a function that makes bursts of noise with near-silent pauses, both given in seconds."""

    def make(seconds, seed, burst, pause):
        period, n_burst = round((burst + pause) * RATE), round(burst * RATE)
        is_burst = np.arange(round(seconds * RATE)) % period < n_burst
        return make_noise(seconds, seed) * np.where(is_burst, 1, 1e-3).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def clip():
    """Return a read-only clip of 4 s of white noise."""
    waveform = make_noise(4.0, 0)
    waveform.flags.writeable = False
    return waveform
