"""Recording in the package."""

import numpy as np

from mmestim.datasets import load_sample_speech


def test_sample_speech_is_the_whole_recording():
    speech = load_sample_speech()
    assert speech.sample_rate == 22050
    assert speech.waveform.shape == (212893,)
    assert speech.waveform.dtype == np.float32
    assert 0.5 < np.abs(speech.waveform).max() <= 1
    assert speech.transcript.startswith("Printing")
