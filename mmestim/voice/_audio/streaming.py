"""Streaming of audio files of any length, in the memory of one block."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import chain, pairwise

import numpy as np

from .._files.decoding import AudioFacts, open_audio
from .._files.paths import AudioError
from .reading import check_duration, check_intact, check_not_silent, mono_blocks, n_resampled
from .resampling import resample_blocks


class AudioStream:
    """Audio file as mono blocks at one sample rate.

    Concatenated, the blocks are the waveform that `AudioCorpus` reads. Each iteration opens the file again and raises
    the errors of `AudioCorpus`, some of them, such as that the file is silent, only at the end of the file.

    Parameters
    ----------
    path : str or path
        The file.
    rate : int
        Sample rate of the blocks in Hz.
    channel : int, default=None
        Number of the channel to read, from 1. `None` averages all channels.
    notes : tuple of str, default=()
        Sentences to put before the notes of the file.
    max_duration : float, default=inf
        Seconds above which the file is an error.
    must_be_intact : bool, default=False
        Whether damage is an error. Otherwise, blocks are zero where nothing can be decoded.

    Attributes
    ----------
    facts : AudioFacts
        Facts about the file. Its duration, gaps and notes are complete once the file was read to its end.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: int,
        channel: int | None = None,
        notes: tuple[str, ...] = (),
        *,
        max_duration: float = math.inf,
        must_be_intact: bool = False,
    ) -> None:
        self._file, self.path, self.rate, self.channel = path, os.fspath(path), rate, channel
        self._notes, self._max_duration, self._must_be_intact = notes, max_duration, must_be_intact
        with open_audio(self._file) as audio:
            self.facts: AudioFacts = audio.facts
        check_duration(self.path, self.facts.duration or 0.0, max_duration)
        if channel is not None and not 1 <= channel <= self.facts.n_channels:
            raise AudioError(self.path, f"has no channel {channel}. It has {self.facts.n_channels}.")

    @property
    def duration(self) -> float:
        """Seconds of the file; if its header does not count them and it was not read yet, it is read."""
        if self.facts.duration is None:
            for _ in self:
                pass
        assert self.facts.duration is not None
        return self.facts.duration

    @property
    def gaps(self) -> tuple[tuple[float, float], ...]:
        """Starts and ends in seconds that could not be decoded."""
        return self.facts.gaps

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about how the file was read."""
        return (*self._notes, *self.facts.notes)

    def __iter__(self) -> Iterator[np.ndarray]:
        lowest, highest, n_yielded = math.inf, -math.inf, 0
        with open_audio(self._file) as audio:
            blocks = resample_blocks(mono_blocks(audio, self.path, self.channel), audio.rate, self.rate)
            # The None at the end marks the last block, which is cut to the length of the clip.
            for block, following in pairwise(chain(blocks, [None])):
                assert block is not None
                if following is None:
                    block = block[: n_resampled(audio.n_read, audio.rate, self.rate) - n_yielded]
                n_yielded += len(block)
                check_duration(self.path, audio.n_read / audio.rate, self._max_duration)
                lowest = min(lowest, block.min(initial=math.inf))
                highest = max(highest, block.max(initial=-math.inf))
                yield block
            self.facts = audio.facts
            if self._must_be_intact:
                check_intact(self.path, audio)
            check_not_silent(self.path, lowest, highest, audio.n_channels if self.channel is None else 1)
