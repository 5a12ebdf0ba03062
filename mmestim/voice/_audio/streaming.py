"""Files of any length, block by block, in the memory of a block."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from .reading import (
    check_end,
    check_finite,
    check_heard,
    check_not_empty,
    mono_of,
    n_resampled,
    opened,
    read_frames,
)
from .resampling import resample_blocks

_BLOCK = 2**18  # samples of each channel of the file


class AudioStream:
    """A file as mono blocks of one rate, which together are the waveform that `AudioCorpus` reads.

    Each iteration opens the file anew and raises what `AudioCorpus` would; some of it, such as that the file is
    silent, shows only at its end. No length is too long.

    Parameters
    ----------
    path : str or path
        The file.
    rate : int
        Samples per second of the blocks.

    Attributes
    ----------
    duration : float
        Seconds of the file, as its header has them.
    """

    def __init__(self, path: str | os.PathLike[str], rate: int) -> None:
        self.path, self.rate = os.fspath(path), rate
        with opened(self.path) as (audio, _):
            check_not_empty(self.path, audio.frames)
            self.duration = audio.frames / audio.samplerate

    def __iter__(self) -> Iterator[np.ndarray]:
        lowest, highest, n_given = math.inf, -math.inf, 0
        with opened(self.path) as (audio, guessed):
            source = _Source(audio, guessed, self.path)
            blocks = resample_blocks(source, audio.samplerate, self.rate)
            # The last one is known by the one that is not there.
            for block, later in pairwise(_ended(blocks)):
                if later is None:
                    block = block[: n_resampled(source.n_read, audio.samplerate, self.rate) - n_given]
                n_given += len(block)
                lowest = min(lowest, block.min(initial=math.inf))
                highest = max(highest, block.max(initial=-math.inf))
                yield block
            check_heard(self.path, lowest, highest, audio.channels)


class _Source:
    """The mono samples of an open file at its own rate."""

    def __init__(self, audio, guessed, path):
        self.audio, self.guessed, self.path = audio, guessed, path
        self.n_read = 0

    def __iter__(self):
        while left := self.audio.frames - self.n_read:
            samples = read_frames(self.audio, self.path, min(left, _BLOCK))
            if len(samples) == 0:
                break
            mono = mono_of(samples[:, 0] if samples.shape[1] == 1 else samples.T)
            check_finite(self.path, mono, self.audio.samplerate, self.n_read)
            self.n_read += len(samples)
            yield mono
        check_end(self.audio, self.path, self.guessed, self.n_read)
        check_not_empty(self.path, self.n_read)


def _ended(blocks):
    yield from blocks
    yield None
