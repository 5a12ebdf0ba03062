"""Reader of waveforms."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ._base import Reader, Sample, Shape, check_dtype
from ._sound import check_sound, n_waveform, read_waveform


class Waveform(Reader):
    """Read the sound of audio or video files as waveforms of one length.

    >>> from mmestim.media import Waveform
    >>> Waveform("clip", sample_rate=16000, duration=2.0).sample_shape
    (32000,)

    Channels are averaged. Of a longer file the middle is read, with a warning; a shorter one is followed by zeros.
    Damaged files are errors.

    Parameters
    ----------
    column : str, default=None
        Column of paths in a DataFrame. `None` reads X itself, such as a list of paths.
    sample_rate : int, default=16000
        Sample rate in Hz. Files of other rates are resampled.
    duration : float, default=4.0
        Seconds of each waveform.
    dtype : {'float16', 'float32'}, default='float16'
        Type of the values, which lie within -1 and 1 for most files.

    Attributes
    ----------
    sample_shape : tuple of int
        Number of samples.

    See Also
    --------
    LogMelSpectrogram : Spectrograms in bands that follow the pitch scale of hearing.
    MediaTransformer : Several readers with a cache.

    Notes
    -----
    Classifiers take a vector for a table of columns. Pass ``encoder={"audio": "conv1d"}`` to convolve over time.
    """

    def __init__(
        self,
        column: str | None = None,
        *,
        sample_rate: int = 16_000,
        duration: float = 4.0,
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        self.column = column
        self.sample_rate = sample_rate
        self.duration = duration
        self.dtype = dtype

    @property
    def sample_shape(self) -> Shape:
        """Number of samples."""
        return (n_waveform(self.sample_rate, self.duration),)

    @property
    def sample_dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(self.dtype)

    def read(self, value: Any) -> Sample:
        """Read the sound of one file.

        Parameters
        ----------
        value : path
            The file.

        Returns
        -------
        Sample
            Array of shape (n_samples,), and a note if the file is longer.

        Raises
        ------
        MediaError
            If the file is damaged, or contains no sound.
        """
        sample = read_waveform(value, self.sample_rate, self.duration)
        return sample._replace(array=sample.array.astype(self.sample_dtype))

    def _check_parameters(self) -> None:
        check_sound(self.sample_rate, self.duration)
        check_dtype(self.dtype, ("float16", "float32"))
