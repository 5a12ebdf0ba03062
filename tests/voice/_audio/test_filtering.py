"""Filters as matrix products."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import lfilter

from mmestim.voice._audio.filtering import apply_filter


@pytest.mark.parametrize("n_samples, n_taps", [(1, 5), (63, 1), (64, 25), (1000, 103), (20, 200)])
def test_the_output_is_that_of_a_direct_filter(n_samples, n_taps):
    rng = np.random.default_rng(n_samples)
    waveform, taps = (rng.normal(size=n).astype(np.float32) for n in (n_samples, n_taps))
    output = apply_filter(waveform, taps)
    assert output.dtype == np.float32
    assert_allclose(output, lfilter(taps, 1, waveform.astype(np.float64)), atol=1e-4)
