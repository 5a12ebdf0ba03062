"""RawNet2: the gains of its filters."""

import numpy as np

from mmestim.voice.networks import RawNet2


def test_filters_pass_their_mel_band_only():
    filters = RawNet2(2, width=4).filters[0].double().numpy()
    frequencies = np.fft.rfftfreq(8192, 1 / 16000)
    gains = np.abs(np.fft.rfft(filters, 8192))
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 21)
    edges = 700 * (10 ** (mel / 2595) - 1)
    for i in range(5, 20):  # wide enough for a flat top
        low, high = edges[i : i + 2]
        top = (frequencies > low + 40) & (frequencies < high - 40)
        np.testing.assert_allclose(gains[i, top], 1, atol=0.02)
        assert gains[i, (frequencies < low - 40) | (frequencies > high + 40)].max() < 0.02
