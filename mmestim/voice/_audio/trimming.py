"""Trimming of silence before and after the sound."""

from __future__ import annotations

import numpy as np

from ..._utils.validation import check_number


def trim_silence(
    waveform: np.ndarray, sample_rate: int, *, threshold_db: float = -40.0, margin: float = 0.05
) -> tuple[np.ndarray, float]:
    """Cut away the silence before and after the sound.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        The clip.
    sample_rate : int
        Its rate in Hz.
    threshold_db : float, default=-40.0
        Energy from which 10 ms are sound, in dB relative to the loudest 10 ms.
    margin : float, default=0.05
        Seconds to keep on either side of the sound.

    Returns
    -------
    trimmed : ndarray of shape (n_left,)
        A view of the clip; all of it where nothing is louder than the rest.
    start : float
        Where it starts in the clip, in seconds.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim.voice import trim_silence
    >>> hum = np.sin(np.arange(16000, dtype=np.float32))
    >>> trimmed, start = trim_silence(np.pad(hum, 8000), 16000)
    >>> len(trimmed), start
    (17600, 0.45)
    """
    check_number("threshold_db", threshold_db, low=-float("inf"), high=0)
    check_number("margin", margin)
    if len(waveform) == 0:
        return waveform, 0.0
    hop = max(1, round(0.01 * sample_rate))
    starts = np.arange(0, len(waveform), hop)
    # About the mean: a constant offset is not sound.
    power = np.square(waveform - waveform.mean(dtype=np.float64))
    energy = np.add.reduceat(power, starts) / np.diff(starts, append=len(waveform))
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (threshold_db / 10))
    kept = round(margin * sample_rate)
    start = max(0, int(starts[loud[0]]) - kept)
    return waveform[start : int(starts[loud[-1]]) + hop + kept], start / sample_rate
