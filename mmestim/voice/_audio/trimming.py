"""Trimming of silence before and after the sound."""

from __future__ import annotations

import numpy as np

from ..._utils.validation import check_number


def trim_silence(
    waveform: np.ndarray, sample_rate: int, *, threshold_db: float = -40.0, margin: float = 0.05
) -> tuple[np.ndarray, float]:
    """Trim the silence before and after the sound.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        The clip.
    sample_rate : int
        Sample rate in Hz.
    threshold_db : float, default=-40.0
        Lowest level of frames of 10 ms that count as sound, in dB relative to the loudest frame.
    margin : float, default=0.05
        Seconds to retain on either side of the sound.

    Returns
    -------
    trimmed : ndarray of shape (n_trimmed,)
        A view of the clip; the whole clip if its level is constant.
    start : float
        Start of the view in the clip in seconds.

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
    # The mean is removed, since a constant offset is not sound.
    power = np.square(waveform - waveform.mean(dtype=np.float64))
    energy = np.add.reduceat(power, starts) / np.diff(starts, append=len(waveform))
    sound = np.flatnonzero(energy >= energy.max() * 10 ** (threshold_db / 10))
    n_margin = round(margin * sample_rate)
    start = max(0, int(starts[sound[0]]) - n_margin)
    return waveform[start : int(starts[sound[-1]]) + hop + n_margin], start / sample_rate
