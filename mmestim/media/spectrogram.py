"""Readers of spectrograms."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from .._utils.validation import check_number
from ._base import Reader, Sample, Shape, check_dtype
from ._sound import check_sound, n_waveform, read_waveform

# Added to magnitudes and to power before the logarithm: -140 and -100 dB of full scale.
_MIN_MAGNITUDE, _MIN_POWER = 1e-7, 1e-10


class Spectrogram(Reader):
    """Read the sound of audio or video files as log-magnitude spectrograms.

    >>> from mmestim.media import Spectrogram
    >>> Spectrogram("clip", n_fft=512, hop_length=160, duration=3.0).sample_shape
    (257, 301)

    The value of a bin is ln(magnitude + 1e-7) of the short-time Fourier transform with a Hann window. The 257 bins of
    the default are those of the benchmarks on CREMA-D, AVE and Kinetics-Sounds.

    Parameters
    ----------
    column : str, default=None
        Column of paths in a DataFrame. `None` reads X itself, such as a list of paths.
    sample_rate : int, default=16000
        Sample rate in Hz. Files of other rates are resampled.
    n_fft : int, default=512
        Length of the window and of the transform, in samples.
    hop_length : int, default=160
        Samples from one frame to the next.
    duration : float, default=4.0
        Seconds of each spectrogram. Of a longer file the middle is read, with a warning; a shorter one is followed by
        silence.
    dtype : {'float16', 'float32'}, default='float16'
        Type of the values.

    Attributes
    ----------
    sample_shape : tuple of int
        Numbers of frequencies and of frames.

    See Also
    --------
    LogMelSpectrogram : Spectrograms in bands that follow the pitch scale of hearing.
    MediaTransformer : Several readers with a cache.
    """

    def __init__(
        self,
        column: str | None = None,
        *,
        sample_rate: int = 16_000,
        n_fft: int = 512,
        hop_length: int = 160,
        duration: float = 4.0,
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        self.column = column
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.duration = duration
        self.dtype = dtype

    @property
    def sample_shape(self) -> Shape:
        """Numbers of frequencies and of frames."""
        return self.n_fft // 2 + 1, 1 + n_waveform(self.sample_rate, self.duration) // self.hop_length

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
            Array of shape (n_frequencies, n_frames), and a note if the file is longer.

        Raises
        ------
        MediaError
            If the file is damaged, or contains no sound.
        """
        sample = read_waveform(value, self.sample_rate, self.duration)
        magnitudes = _transform(sample.array, self.n_fft, self.hop_length).abs()
        values = torch.log(magnitudes + _MIN_MAGNITUDE).numpy()
        return sample._replace(array=values.astype(self.sample_dtype))

    def _check_parameters(self) -> None:
        check_sound(self.sample_rate, self.duration)
        _check_frames(self.n_fft, self.hop_length)
        check_dtype(self.dtype, ("float16", "float32"))


class LogMelSpectrogram(Reader):
    """Read the sound of audio or video files as log-mel spectrograms.

    >>> from mmestim.media import LogMelSpectrogram
    >>> LogMelSpectrogram("clip", n_mels=64, duration=3.0).sample_shape
    (64, 301)

    The value of a band is ln(P + 1e-10), with P the power of the short-time Fourier transform with a Hann window in the
    triangular bands of torchaudio (HTK's mel scale).

    Parameters
    ----------
    column : str, default=None
        Column of paths in a DataFrame. `None` reads X itself, such as a list of paths.
    sample_rate : int, default=16000
        Sample rate in Hz. Files of other rates are resampled.
    n_mels : int, default=64
        Number of bands.
    n_fft : int, default=512
        Length of the window and of the transform, in samples.
    hop_length : int, default=160
        Samples from one frame to the next.
    f_min : float, default=0.0
        Lower end of the lowest band in Hz.
    f_max : float, default=None
        Upper end of the highest band in Hz; `None` is half the sample rate.
    duration : float, default=4.0
        Seconds of each spectrogram. Of a longer file the middle is read, with a warning; a shorter one is followed by
        silence.
    dtype : {'float16', 'float32'}, default='float16'
        Type of the values.

    Attributes
    ----------
    sample_shape : tuple of int
        Numbers of bands and of frames.

    See Also
    --------
    Spectrogram : Spectrograms in all frequencies.
    MediaTransformer : Several readers with a cache.
    """

    def __init__(
        self,
        column: str | None = None,
        *,
        sample_rate: int = 16_000,
        n_mels: int = 64,
        n_fft: int = 512,
        hop_length: int = 160,
        f_min: float = 0.0,
        f_max: float | None = None,
        duration: float = 4.0,
        dtype: Literal["float16", "float32"] = "float16",
    ) -> None:
        self.column = column
        self.sample_rate = sample_rate
        self.n_mels = n_mels
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.f_min = f_min
        self.f_max = f_max
        self.duration = duration
        self.dtype = dtype

    @property
    def sample_shape(self) -> Shape:
        """Numbers of bands and of frames."""
        return self.n_mels, 1 + n_waveform(self.sample_rate, self.duration) // self.hop_length

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
            Array of shape (n_mels, n_frames), and a note if the file is longer.

        Raises
        ------
        MediaError
            If the file is damaged, or contains no sound.
        """
        sample = read_waveform(value, self.sample_rate, self.duration)
        power = _transform(sample.array, self.n_fft, self.hop_length).abs().square()
        values = torch.log(self._bands() @ power + _MIN_POWER).numpy()
        return sample._replace(array=values.astype(self.sample_dtype))

    def _bands(self) -> torch.Tensor:
        """Return the weights of the bands, of shape (n_mels, n_frequencies)."""
        return _mel_bands(self.n_fft, self.f_min, self._upper_end(), self.n_mels, self.sample_rate)

    def _upper_end(self) -> float:
        """Return the upper end of the highest band in Hz."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    def _check_parameters(self) -> None:
        check_sound(self.sample_rate, self.duration)
        _check_frames(self.n_fft, self.hop_length)
        check_number("n_mels", self.n_mels, low=1, integer=True)
        check_number("f_max", self._upper_end(), low=0, high=self.sample_rate / 2, closed=False)
        check_number("f_min", self.f_min, low=0, high=self._upper_end())
        if (n_empty := int((self._bands().sum(1) == 0).sum())) > 0:
            raise ValueError(
                f"n_mels={self.n_mels} leaves {n_empty} bands without a frequency at n_fft={self.n_fft}. Lower n_mels, "
                "or raise n_fft."
            )
        check_dtype(self.dtype, ("float16", "float32"))


@lru_cache(maxsize=8)  # The files of a table share them.
def _mel_bands(n_fft: int, f_min: float, f_max: float, n_mels: int, sample_rate: int) -> torch.Tensor:
    from .._utils.torchaudio import torchaudio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty bands, which `fit` refuses
        bands: torch.Tensor = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, f_min, f_max, n_mels, sample_rate)
    return bands.T


def _transform(waveform: np.ndarray, n_fft: int, hop_length: int) -> torch.Tensor:
    """Return the short-time Fourier transform of shape (n_fft // 2 + 1, n_frames), with frames centred at hops."""
    window = torch.hann_window(n_fft)
    return torch.stft(
        torch.from_numpy(waveform), n_fft, hop_length, window=window, pad_mode="constant", return_complex=True
    )


def _check_frames(n_fft: int, hop_length: int) -> None:
    check_number("n_fft", n_fft, low=16, integer=True)
    check_number("hop_length", hop_length, low=1, integer=True)
