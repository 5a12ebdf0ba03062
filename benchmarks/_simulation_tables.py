"""Rows of tables, clips to time and clocks for the benchmarks of the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mmestim.voice import AudioCorpus


def race(contenders: dict[Any, Callable[[int], object]], rounds: int, n_clips: int = 1) -> dict[Any, np.ndarray]:
    """Milliseconds of each contender per clip, on the clock and of the processor; contenders take a clip's number."""
    names = list(contenders)
    for name in names:
        contenders[name](0)
    times = {name: np.empty((rounds, n_clips, 2)) for name in names}
    for turn in range(rounds):
        for clip in range(n_clips):
            first = (turn + clip) % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter(), time.process_time()
                contenders[name](clip)
                times[name][turn, clip] = time.perf_counter() - start[0], time.process_time() - start[1]
    return {name: 1000 * np.median(values, axis=0).mean(axis=0) for name, values in times.items()}


def row(*fields: object) -> str:
    return "| " + " | ".join(map(str, fields)) + " |"


def head(*fields: str) -> list[str]:
    return [row(*fields), "|" + "---|" * len(fields)]


def ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def hours(seconds_per_clip: float, milliseconds: float) -> str:
    """Hours of speech per minute."""
    return f"{seconds_per_clip / milliseconds * 1000 / 60:.2f}"


def spread(corpus: AudioCorpus, n_clips: int) -> AudioCorpus:
    """So many clips of a corpus, or all, at equal distances."""
    return corpus[np.linspace(0, len(corpus) - 1, min(n_clips, len(corpus))).round().astype(int)]


def waveforms(corpus: AudioCorpus) -> list[np.ndarray]:
    return [clip for _, clip in corpus.read()]
