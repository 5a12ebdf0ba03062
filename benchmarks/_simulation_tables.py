"""Timing, selection of clips and rows of tables for the benchmarks of the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mmestim.voice import AudioCorpus


def race(contenders: dict[Any, Callable[[int], object]], rounds: int, n_clips: int = 1) -> dict[Any, np.ndarray]:
    """Return the milliseconds of each contender per clip: wall-clock time and processor time.

    A contender is a function of the number of a clip.
    """
    names = list(contenders)
    for name in names:
        contenders[name](0)
    times = {name: np.empty((rounds, n_clips, 2)) for name in names}
    for round_number in range(rounds):
        for clip in range(n_clips):
            first = (round_number + clip) % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter(), time.process_time()
                contenders[name](clip)
                times[name][round_number, clip] = time.perf_counter() - start[0], time.process_time() - start[1]
    return {name: 1000 * np.median(values, axis=0).mean(axis=0) for name, values in times.items()}


def row(*fields: object) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(map(str, fields)) + " |"


def head(*fields: str) -> list[str]:
    """Return the header of a Markdown table."""
    return [row(*fields), "|" + "---|" * len(fields)]


def ms(value: float) -> str:
    """Format milliseconds."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def hours(seconds_per_clip: float, milliseconds: float) -> str:
    """Format the hours of speech that are processed per minute."""
    return f"{seconds_per_clip / milliseconds * 1000 / 60:.2f}"


def evenly_spaced(corpus: AudioCorpus, n_clips: int) -> AudioCorpus:
    """Return `n_clips` evenly spaced clips of a corpus, or all if it has fewer."""
    return corpus[np.linspace(0, len(corpus) - 1, min(n_clips, len(corpus))).round().astype(int)]


def waveforms(corpus: AudioCorpus) -> list[np.ndarray]:
    """Read all clips of a corpus."""
    return [clip for _, clip in corpus.read()]
