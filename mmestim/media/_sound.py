"""Sound of a file as a waveform of one length, which the readers of audio share."""

from __future__ import annotations

import numpy as np

from .._utils.validation import check_number
from ._base import MediaError, Sample, check_path


def read_waveform(value: object, sample_rate: int, duration: float) -> Sample:
    """Read the sound of an audio or video file, averaged over its channels.

    Parameters
    ----------
    value : path
        The file.
    sample_rate : int
        Sample rate of the result in Hz.
    duration : float
        Seconds of the result. Of a longer file, the middle is taken; a shorter one is followed by zeros.

    Returns
    -------
    Sample
        float32 array of shape (round(duration * sample_rate),), within -1 and 1 for most files.

    Raises
    ------
    MediaError
        If the file is damaged, or contains no sound.
    """
    from ..voice._audio.reading import check_intact, mono_blocks
    from ..voice._audio.resampling import resample
    from ..voice._files.decoding import open_audio
    from ..voice._files.paths import AudioError

    path = check_path(value)
    try:
        with open_audio(path) as audio:
            waveform = np.concatenate(list(mono_blocks(audio, path)))
            check_intact(path, audio)
            waveform = resample(waveform, audio.rate, sample_rate)
    except AudioError as error:
        raise MediaError(path, error.reason) from error
    n_samples = n_waveform(sample_rate, duration)
    n_left_out = len(waveform) - n_samples
    # A fraction of a frame of a lossy codec is no content.
    note = f"last longer than duration={duration:g} s: their middle was read." if n_left_out > 0.1 * sample_rate else ""
    if n_left_out > 0:
        waveform = waveform[n_left_out // 2 :][:n_samples]
    return Sample(np.pad(waveform, (0, n_samples - len(waveform))).astype(np.float32), note)


def n_waveform(sample_rate: int, duration: float) -> int:
    """Return the number of samples of a waveform of this duration."""
    return round(duration * sample_rate)


def check_sound(sample_rate: int, duration: float) -> None:
    """Raise if a parameter of the waveform has an unsupported value."""
    check_number("sample_rate", sample_rate, low=1000, high=192_000, integer=True)
    check_number("duration", duration, low=1 / sample_rate, high=86_400)  # a sample to a day
