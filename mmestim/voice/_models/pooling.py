"""Pooling of the outputs of frames to features of a window."""

from __future__ import annotations

import numpy as np

from .._constants import MIN_FRAME_LOGIT
from ..taxonomy import SPLICED_LABELS

# Numbers of the highest frames over which pooling averages.
_TOP_FRAMES = (1, 4, 16)
#: Number of values that each channel of an embedding is pooled to.
N_EMBEDDING_POOLS = 3


def pool_embeddings(embeddings: np.ndarray, n_frames: np.ndarray) -> np.ndarray:
    """Return the means, maxima and standard deviations of embeddings over the frames of each window.

    Parameters
    ----------
    embeddings : float32 ndarray of shape (n_windows, n_channels, n_frames)
        Not negative, and 0 past the end of a clip.
    n_frames : int ndarray of shape (n_windows,)
        Number of frames of each clip.

    Returns
    -------
    float32 ndarray of shape (n_windows, 3 * n_channels)
        The pooled embeddings.
    """
    counts = n_frames[:, None].astype(np.float32)
    mean = embeddings.sum(axis=2) / counts
    power = np.einsum("ijk,ijk->ij", embeddings, embeddings) / counts
    deviation = np.sqrt(np.maximum(power - np.square(mean), 0))
    return np.hstack([mean, embeddings.max(axis=2), deviation])


def pooled_size(n_maps: int) -> int:
    """Return the number of features that `pool_frames` computes from `n_maps` maps."""
    return (len(_TOP_FRAMES) + 2) * n_maps + 1


def pool_frames(frames: np.ndarray) -> np.ndarray:
    """Pool maps of log-odds over the frames of a window.

    Parameters
    ----------
    frames : ndarray of shape (n_windows, n_maps, n_frames)
        `PAST_END_LOGIT` past the end of a clip.

    Returns
    -------
    float32 ndarray of shape (n_windows, pooled_size(n_maps))
        For each map the means of its 1, 4 and 16 highest frames, the mean of the frames inside the clip and the
        log-sum-exp of all frames; then the highest value of all maps of splice points.
    """
    is_inside = frames > MIN_FRAME_LOGIT
    n_inside = np.maximum(is_inside.sum(axis=2), 1)
    descending = -np.sort(-frames, axis=2)
    top_means = [descending[:, :, : min(n, frames.shape[2])].mean(axis=2) for n in _TOP_FRAMES]
    mean = np.where(is_inside, frames, 0).sum(axis=2) / n_inside
    log_sum = np.logaddexp.reduce(frames.astype(np.float64), axis=2)
    highest_splice = descending[:, : len(SPLICED_LABELS), 0].max(axis=1, keepdims=True)
    return np.hstack([*top_means, mean, log_sum, highest_splice]).astype(np.float32)
