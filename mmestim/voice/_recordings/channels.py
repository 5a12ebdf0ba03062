"""Choice of what to scan of a recording with several channels: their mix, or each channel alone."""

from __future__ import annotations

import os
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from ..._utils.validation import check_choice
from .._audio.streaming import AudioStream
from .._files.decoding import open_audio

Channels = Literal["mix", "each"]

_FRAMES_PER_SECOND = 20
# Levels of frames in dBFS are counted in these steps.
_N_LEVELS, _STEP_DB, _LOWEST_DB = 64, 2.0, -120.0
_LEVELS = _LOWEST_DB + _STEP_DB * np.arange(_N_LEVELS)
# A channel is empty if its speech would be this much softer than that of the loudest channel, or below this level.
_EMPTY_BELOW_LOUDEST_DB, _EMPTY_DB = 35.0, -80.0
_SPEECH_PERCENTILE = 95
# Frames up to 20 dB below speech are active; all below 30 dB are alike.
_ACTIVE_DB, _FLOOR_DB = 20.0, 30.0
# Lowest correlation of the levels, in dB, of two channels with the same speech. Measured on real speech: .38 to 1.0
# for one voice with other gains, delays, rooms and noises, -.90 to .35 for one voice in each channel with at most
# -15 dB of the other.
_MIN_LEVEL_CORRELATION = 0.3
# Levels of speech vary by more than this; the correlation of steadier sound, such as noise, has no meaning.
_MIN_VARIATION_DB = 3.0
# The energy of the mix of two channels over their mean energy is .5 if they are unrelated. It was .22 or more for a
# delay, and at most .06 for inverted channels.
_MIN_MIX_ENERGY = 0.24
# Share of the seconds with sound in which the channels may cancel each other.
_MAX_CANCELLED = 0.2


def open_recordings(path: str | os.PathLike[str], rate: int, channels: Channels = "mix") -> list[AudioStream]:
    """Open what is to be scanned of a file: the mix of its channels, or several of them.

    Parameters
    ----------
    path : str or path
        The file.
    rate : int
        Sample rate of the streams in Hz.
    channels : {"mix", "each"}, default="mix"
        Whether to average the channels or to scan each alone. Channels that cancel each other, or that carry different
        speech, are scanned alone in both cases, with a note. Empty channels are never scanned alone. A file with
        several channels is read once to find out.

    Returns
    -------
    list of AudioStream
        One or more streams, whose `channel` is None for the mix, and whose `notes` contain the reason of the choice.

    Raises
    ------
    AudioError
        If the file cannot be read.
    ValueError
        If `channels` is not supported.
    """
    check_choice("channels", channels, get_args(Channels))
    stream = AudioStream(path, rate)
    n_channels = stream.facts.n_channels
    if n_channels == 1:
        return [stream]
    with open_audio(path) as audio:
        comparison = _ChannelComparison(n_channels, audio.rate)
        for block in audio:
            comparison.add(block)
    used, reason = comparison.result()
    notes = []
    if len(used) < n_channels:
        silent = [str(1 + channel) for channel in range(n_channels) if channel not in used]
        numbers = f"number {silent[0]} is" if len(silent) == 1 else f"numbers {', '.join(silent)} are"
        notes.append(f"Of the {n_channels} channels, {numbers} silent.")
    if reason:
        notes.append(f"The channels {reason}, so each was scanned alone.")
    if not used or (channels == "mix" and not reason):
        return [AudioStream(path, rate, notes=tuple(notes))]
    return [AudioStream(path, rate, channel=1 + channel, notes=tuple(notes)) for channel in used]


class _ChannelComparison:
    """Comparison of the channels of a recording that comes in blocks.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    rate : int
        Sample rate in Hz.
    """

    def __init__(self, n_channels: int, rate: int) -> None:
        self._n_channels, self._frame_size = n_channels, -(-rate // _FRAMES_PER_SECOND)
        self._pending = np.zeros((0, n_channels), np.float32)
        self._pairs = list(combinations(range(n_channels), 2))
        # For each pair of channels: frames by the levels of the two.
        self._counts = np.zeros((len(self._pairs), _N_LEVELS, _N_LEVELS), np.int64)
        self._n_seconds = self._n_cancelled = 0  # with sound

    def add(self, block: np.ndarray) -> None:
        """Add the next samples, of shape (n_samples, n_channels)."""
        self._pending = np.concatenate([self._pending, block])
        second = self._frame_size * _FRAMES_PER_SECOND
        n_used = len(self._pending) // second * second
        frames = self._pending[:n_used].reshape(-1, self._frame_size, self._n_channels)
        self._pending = self._pending[n_used:]
        frames = frames - frames.mean(axis=1, keepdims=True)
        energies = np.square(frames).mean(axis=1)
        bins = (10 * np.log10(energies + 1e-12) - _LOWEST_DB) // _STEP_DB
        bins = np.clip(bins, 0, _N_LEVELS - 1).astype(np.intp)
        for counts, (first, second_channel) in zip(self._counts, self._pairs, strict=True):
            np.add.at(counts, (bins[:, first], bins[:, second_channel]), 1)
        by_second = energies.reshape(-1, _FRAMES_PER_SECOND, self._n_channels).mean(axis=(1, 2))
        mixed = np.square(frames.mean(axis=2)).mean(axis=1).reshape(-1, _FRAMES_PER_SECOND).mean(axis=1)
        has_sound = by_second > 10 ** (_EMPTY_DB / 10)
        is_cancelled = mixed < _MIN_MIX_ENERGY / self._n_channels * by_second
        self._n_seconds += int(has_sound.sum())
        self._n_cancelled += int((has_sound & is_cancelled).sum())

    def result(self) -> tuple[list[int], str]:
        """Return the channels that are not silent, from 0, and why they must not be mixed; no reason if they may be."""
        self.add(np.zeros((self._frame_size * _FRAMES_PER_SECOND, self._n_channels), np.float32))
        loudness = np.array([self._loudness(channel) for channel in range(self._n_channels)])
        used = np.flatnonzero(loudness >= max(_EMPTY_DB, loudness.max() - _EMPTY_BELOW_LOUDEST_DB)).tolist()
        if self._n_cancelled > _MAX_CANCELLED * self._n_seconds:
            return used, "cancel each other"
        for counts, (first, second) in zip(self._counts, self._pairs, strict=True):
            if first in used and second in used:
                if _level_correlation(counts, loudness[first], loudness[second]) < _MIN_LEVEL_CORRELATION:
                    return used, "carry different speech"
        return used, ""

    def _loudness(self, channel: int) -> float:
        """Return the level in dB of the louder frames of a channel, which are speech."""
        index, axis = next((i, pair.index(channel)) for i, pair in enumerate(self._pairs) if channel in pair)
        counts = self._counts[index].sum(axis=1 - axis)
        below = np.cumsum(counts) >= _SPEECH_PERCENTILE / 100 * counts.sum()
        return float(_LEVELS[np.argmax(below)])


def _level_correlation(counts: np.ndarray, first_loudness: float, second_loudness: float) -> float:
    """Return the correlation of the levels of two channels in frames where one of them is active."""
    first = np.maximum(_LEVELS[:, None] - first_loudness, -_FLOOR_DB)
    second = np.maximum(_LEVELS[None, :] - second_loudness, -_FLOOR_DB)
    weights = counts * ((first > -_ACTIVE_DB) | (second > -_ACTIVE_DB))
    weights = weights / weights.sum()
    first, second = first - (weights * first).sum(), second - (weights * second).sum()
    scale = np.sqrt((weights * first**2).sum() * (weights * second**2).sum())
    return float((weights * first * second).sum() / scale) if scale > _MIN_VARIATION_DB**2 else 1.0
