"""Reading of one clip from a file or an array into a mono float32 waveform, with an error that names any problem."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._files.decoding import AudioDecoder, open_audio, scale_samples
from .._files.paths import NO_SAMPLES
from .._files.paths import AudioError as AudioError  # these three for rooms that may not import _files
from .._files.paths import MissingFileError as MissingFileError
from .._files.paths import seen_from_here as seen_from_here
from .resampling import resample

# A clip that stays within this level of its mean, three steps of 16-bit samples, is silent.
_SILENCE_DB = -80.0
# Upper bound on samples: above any audio, even with 32-bit full scale, and small enough to be squared.
_MAX_SAMPLE = 1e12


def read_clip(item: Any, name: str, *, sample_rate: int, source_rate: int, max_duration: float) -> np.ndarray:
    """Read a clip from a path or an array.

    Parameters
    ----------
    item : path or array-like
        The clip.
    name : str
        Name of the clip in errors if it is an array.
    sample_rate : int
        Sample rate of the result in Hz.
    source_rate : int
        Sample rate of an array in Hz.
    max_duration : float
        Seconds above which a clip is an error.

    Returns
    -------
    float32 ndarray of shape (n_samples,)
        The waveform.

    Raises
    ------
    AudioError
        If the clip cannot be used.
    """
    if isinstance(item, str | os.PathLike):
        name = os.fspath(item)
        mono, rate, n_channels = _read_file(item, max_duration)
    else:
        samples, rate = _channels_first(item, name), source_rate
        if samples.shape[-1] == 0:
            raise AudioError(name, NO_SAMPLES)
        check_duration(name, samples.shape[-1] / rate, max_duration)
        mono, n_channels = to_mono(samples), 1 if samples.ndim == 1 else len(samples)
        check_finite(name, mono, rate)
    waveform = resample(mono, rate, sample_rate)[: n_resampled(len(mono), rate, sample_rate)]
    check_not_silent(name, float(waveform.min()), float(waveform.max()), n_channels)
    return waveform


def to_mono(samples: np.ndarray) -> np.ndarray:
    """Average the channels of (n_channels, n_samples) or (n_samples,) into float32 of shape (n_samples,)."""
    with np.errstate(over="ignore", invalid="ignore"):  # check_finite reports the results of overflow
        return np.array(samples if samples.ndim == 1 else samples.mean(axis=0), dtype=np.float32)


def n_resampled(n_samples: int, old_rate: int, new_rate: int) -> int:
    """Return the number of samples of a clip at a new rate."""
    return max(1, round(n_samples * new_rate / old_rate))


# Checks that files and arrays share ------------------------------------------------------------------


def check_finite(name: str, mono: np.ndarray, rate: int, first: int = 0) -> None:
    """Raise an AudioError if a sample is not finite or is too large for audio.

    Parameters
    ----------
    name : str
        Name of the clip.
    mono : ndarray of shape (n_samples,)
        Samples.
    rate : int
        Sample rate in Hz.
    first : int, default=0
        Number of the first of these samples within the clip.
    """
    is_valid = np.abs(mono) < _MAX_SAMPLE  # False for NaN
    if not is_valid.all():
        position = np.flatnonzero(~is_valid)[0]
        seconds, problem = (first + position) / rate, "NaN or infinite samples"
        if np.isfinite(mono[position]):
            problem = f"samples of {abs(mono[position]):.0e}, too large for audio"
        raise AudioError(name, f"contains {problem}, the first at {seconds:.4f} s. Export it again.")


def is_silent(lowest: float, highest: float) -> bool:
    """Return whether the range from the lowest to the highest sample is silence."""
    return (highest - lowest) / 2 < 10 ** (_SILENCE_DB / 20)


def check_not_silent(name: str, lowest: float, highest: float, n_channels: int) -> None:
    """Raise an AudioError if the range from the lowest to the highest sample is silence."""
    if is_silent(lowest, highest):
        mixed = "" if n_channels == 1 else f" after averaging its {n_channels} channels"
        raise AudioError(name, f"is silent: it stays within {_SILENCE_DB:g} dBFS of its mean{mixed}. Leave it out.")


# Arrays --------------------------------------------------------------------------------------------


def _channels_first(item: Any, name: str) -> np.ndarray:
    """Return samples of shape (n_samples,) or (n_channels, n_samples) with a full scale of 1."""
    if hasattr(item, "detach"):  # a tensor, on any device
        item = item.detach().cpu()
        item = (item.float() if item.is_floating_point() else item).numpy()
    try:
        samples = np.asarray(item)
        if samples.dtype == object:  # a row of np.array([a, b], dtype=object) with a and b of equal length
            samples = np.array(samples.tolist())
    except (TypeError, ValueError):  # lists of different lengths
        samples = np.empty(0, dtype=object)
    kind, n_bytes = samples.dtype.kind, samples.dtype.itemsize
    if kind not in "fiu":
        problem = f"is of type {type(item).__name__}, not a path or an array of real numbers"
        if item is None:
            problem = "is None"
        raise AudioError(name, f"{problem}. Pass a path, or a waveform of floats or integers.")
    if samples.ndim not in (1, 2):
        raise AudioError(name, f"has shape {samples.shape}. Pass it as (n_samples,) or (n_channels, n_samples).")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1] > 0:
        raise AudioError(name, f"has shape {samples.shape}, more channels than samples. Transpose it: channels first.")
    if (kind in "iu" and n_bytes == 8) or (kind == "u" and n_bytes > 1):
        raise AudioError(
            name, f"has dtype {samples.dtype}, whose full scale is undefined for audio. Convert it to int16 or float32."
        )
    return scale_samples(samples)


# Files ---------------------------------------------------------------------------------------------


def mono_blocks(audio: AudioDecoder, path: str, channel: int | None = None) -> Iterator[np.ndarray]:
    """Decode a file to mono blocks at its own rate.

    Parameters
    ----------
    audio : AudioDecoder
        Decoder of the file.
    path : str
        Its path.
    channel : int, default=None
        Number of the channel from 1; `None` averages all.

    Yields
    ------
    float32 ndarray of shape (n_samples,)
        The next samples.

    Raises
    ------
    AudioError
        If a sample is not finite.
    """
    n_samples = 0
    for block in audio:
        mono = to_mono(block.T if channel is None else block[:, channel - 1])
        check_finite(path, mono, audio.rate, n_samples)
        n_samples += len(mono)
        yield mono


def check_intact(path: str, audio: AudioDecoder) -> None:
    """Raise an AudioError if a file that was read to its end is damaged."""
    if audio.damage:
        raise AudioError(path, f"is truncated or damaged: {audio.damage}. Download or export it again.")


def _read_file(file: str | os.PathLike[str], max_duration: float) -> tuple[np.ndarray, int, int]:
    """Read an intact file; return mono samples, their rate and the number of channels."""
    path = os.fspath(file)
    with open_audio(file) as audio:
        check_duration(path, audio.declared_duration or 0.0, max_duration)
        blocks, n_samples = [], 0
        for block in mono_blocks(audio, path):
            blocks.append(block)
            n_samples += len(block)
            check_duration(path, n_samples / audio.rate, max_duration)
        check_intact(path, audio)
        return np.concatenate(blocks), audio.rate, audio.n_channels


def check_duration(name: str, seconds: float, max_duration: float) -> None:
    """Raise an AudioError if a clip is too long."""
    if seconds > max_duration:
        reason = (
            f"lasts {seconds:.1f} s, above max_duration={max_duration:g}. Cut it into pieces, or raise the limit: "
            "AudioCorpus(X, max_duration=...)."
        )
        raise AudioError(name, reason)
