"""Streaming of audio files of any length, in the memory of one block."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import BinaryIO

import numpy as np
import soundfile

from .reading import (
    check_end,
    check_finite,
    check_not_empty,
    check_not_silent,
    n_resampled,
    open_audio,
    read_frames,
    to_mono,
)
from .resampling import resample_blocks

_BLOCK_SIZE = 2**18  # samples per channel


class AudioStream:
    """Audio file as mono blocks at one sample rate.

    Concatenated, the blocks are the waveform that `AudioCorpus` reads. Each iteration opens the file again and raises
    the errors of `AudioCorpus`; some of them, such as that the file is silent, only at the end of the file. The
    duration is not limited.

    Parameters
    ----------
    path : str or path
        The file.
    rate : int
        Sample rate of the blocks in Hz.

    Attributes
    ----------
    duration : float
        Seconds of the file according to its header.
    """

    def __init__(self, path: str | os.PathLike[str], rate: int) -> None:
        self.path, self.rate = os.fspath(path), rate
        with open_audio(self.path) as (audio, _):
            check_not_empty(self.path, audio.frames)
            self.duration = audio.frames / audio.samplerate

    def __iter__(self) -> Iterator[np.ndarray]:
        lowest, highest, n_yielded = math.inf, -math.inf, 0
        with open_audio(self.path) as (audio, guessed):
            source = _MonoBlocks(audio, guessed, self.path)
            blocks = resample_blocks(source, audio.samplerate, self.rate)
            # The None at the end marks the last block, which is cut to the length of the clip.
            for block, following in pairwise(chain(blocks, [None])):
                assert block is not None
                if following is None:
                    block = block[: n_resampled(source.n_read, audio.samplerate, self.rate) - n_yielded]
                n_yielded += len(block)
                lowest = min(lowest, block.min(initial=math.inf))
                highest = max(highest, block.max(initial=-math.inf))
                yield block
            check_not_silent(self.path, lowest, highest, audio.channels)


class _MonoBlocks:
    """Mono blocks of an open file at the sample rate of the file.

    Parameters
    ----------
    audio : SoundFile
        The open file.
    guessed : binary file or None
        Its bytes if libsndfile had to guess its length.
    path : str
        Its path.

    Attributes
    ----------
    n_read : int
        Number of samples read so far.
    """

    def __init__(self, audio: soundfile.SoundFile, guessed: BinaryIO | None, path: str) -> None:
        self.audio, self.guessed, self.path = audio, guessed, path
        self.n_read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        while n_left := self.audio.frames - self.n_read:
            samples = read_frames(self.audio, self.path, min(n_left, _BLOCK_SIZE))
            if len(samples) == 0:
                break
            mono = to_mono(samples[:, 0] if samples.shape[1] == 1 else samples.T)
            check_finite(self.path, mono, self.audio.samplerate, self.n_read)
            self.n_read += len(samples)
            yield mono
        check_end(self.audio, self.path, self.guessed, self.n_read)
        check_not_empty(self.path, self.n_read)
