"""Pooling of frames to features of a window."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from mmestim.voice._constants import PAST_END_LOGIT
from mmestim.voice._models.pooling import pool_embeddings, pool_frames, pooled_size


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_embeddings_are_pooled_over_real_frames_alone(rng):
    embeddings = rng.exponential(size=(3, 5, 40)).astype(np.float32)
    n_frames = np.array([40, 25, 1])
    for row, n in enumerate(n_frames):
        embeddings[row, :, n:] = 0  # as networks return them
    for row, n, pooled in zip(embeddings, n_frames, pool_embeddings(embeddings, n_frames), strict=True):
        real = row[:, :n]
        assert_allclose(pooled, np.concatenate([real.mean(1), real.max(1), real.std(1)]), atol=1e-3)


def test_logits_are_pooled_over_real_frames_alone(rng):
    frames = rng.normal(size=(2, 4, 50)).astype(np.float32)
    frames[1, :, 30:] = PAST_END_LOGIT
    pooled = pool_frames(frames)
    assert pooled.shape == (2, pooled_size(4))
    for row, real in ((0, frames[0]), (1, frames[1, :, :30])):
        descending = -np.sort(-real, axis=1)
        expected = [descending[:, :n].mean(1) for n in (1, 4, 16)]
        expected += [real.mean(1), logsumexp(real, axis=1), [real[:3].max()]]
        assert_allclose(pooled[row], np.concatenate(expected), rtol=1e-5)
