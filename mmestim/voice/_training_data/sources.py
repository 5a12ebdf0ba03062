"""What a detector learns from: clips that are edited for it, or clips of which it is known what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from .._audio.corpus import AudioCorpus
from .._audio.windowing import iter_windows
from .._simulation.plan_sampling import Sampler, resolve_ranges
from .._simulation.simulator import EditSimulator, iterate_rows
from .._simulation.splice_sampling import SplicePlanSampler
from .._window_labels import clip_truth, frames_in, window_truth
from ..records import EditRecord
from .window_set import WindowSet, build_window_set, edited_windows

# Of simulated clips, how many come a second time without what is above some frequency.
_BRICK_WALL_SHARE = 0.15
# Of the clips, as many as possible in whole groups, but never so few or so many.
_HELD_OUT_SHARE, _FEWEST, _MOST = 0.25, 0.1, 0.5
_DRAWS = 20


def simulated_windows(
    simulator: EditSimulator,
    corpus: AudioCorpus,
    n_clips: int,
    labels: Sequence[str],
    n_samples: int,
    seed: int,
    n_jobs: int | None,
    folder: Path,
    *,
    add_splices: bool = False,
) -> WindowSet:
    """Windows of so many clips that are edited from a corpus, which is gone through as often as it takes.

    Parameters
    ----------
    simulator : EditSimulator
        Says which edits; it is left as it is.
    corpus : AudioCorpus
        Clean speech.
    n_clips : int
        Clips to edit.
    labels : sequence of str
        Columns of the targets.
    n_samples : int
        Of a window.
    seed : int
        Of the edits, and of where the windows are.
    n_jobs : int or None
        Processes.
    folder : Path
        Where the windows are put.
    with_seams : bool, default=False
        Whether each clip gets several cuts, passages and voices, and no copies without high frequencies.
    """
    sampler = SplicePlanSampler(resolve_ranges(simulator.edits), simulator.sample_rate) if add_splices else None
    share, rng = 0.0 if add_splices else _BRICK_WALL_SHARE, np.random.default_rng(seed)
    pairs = _passes(clone(simulator), sampler, corpus, n_clips, seed, n_jobs)
    parts = edited_windows(pairs, labels, n_samples, simulator.sample_rate, rng, share)
    most = n_clips + round(1.5 * share * n_clips)
    return build_window_set(parts, most, len(labels), n_samples, simulator.sample_rate, folder)


def given_windows(
    corpus: AudioCorpus, truths: Sequence[Any], labels: Sequence[str], n_samples: int, folder: Path
) -> WindowSet:
    """All windows of clips of which it is known what they are.

    Parameters
    ----------
    corpus : AudioCorpus
        The clips.
    truths : sequence of EditRecord or of uint8 ndarray of shape (n_labels,)
        Of each clip.
    labels : sequence of str
        Columns of the targets.
    n_samples : int
        Of a window.
    folder : Path
        Where the windows are put.
    """
    seconds = [waveform.size for _, waveform in corpus.read()]
    most = sum(max(1, -(-size // n_samples)) for size in seconds)
    parts = _known(corpus, truths, labels, n_samples)
    return build_window_set(parts, most, len(labels), n_samples, corpus.sample_rate, folder)


def held_out_windows(clips: np.ndarray, speakers: np.ndarray, seed: int) -> np.ndarray:
    """Which windows are kept from the models, to tell what their scores mean: those of about a quarter of the speakers.

    Of one speaker, or where one has nearly all, it is by clip, and of one clip by window.

    Parameters
    ----------
    clips : int ndarray of shape (n_windows,)
        Number of the clip that each window is of.
    speakers : int ndarray of shape (n_clips,)
        Number of the speaker of each clip.
    seed : int
        Of who it is.

    Returns
    -------
    bool ndarray of shape (n_windows,)
        Neither none nor all, if there are two windows or more.
    """
    rng = np.random.default_rng(seed)
    windows = np.arange(len(clips))
    for groups, rows in ((speakers, clips), (np.arange(len(speakers)), clips), (windows, windows)):
        held_out = _quarter(groups, rng)[rows]
        if held_out.any() and not held_out.all():
            break
    return held_out


def _quarter(groups, rng):
    """Which items are of some groups that have about a quarter of them; none where groups are too unequal."""
    sizes = np.bincount(groups)
    for _ in range(_DRAWS if len(sizes) > 1 else 0):
        order = rng.permutation(len(sizes))
        total = sizes[order].cumsum()
        n = min(1 + np.searchsorted(total, _HELD_OUT_SHARE * total[-1]), len(order) - 1)
        if _FEWEST * total[-1] <= total[n - 1] <= _MOST * total[-1]:
            return np.isin(groups, order[:n])
    return np.zeros(len(groups), bool)


def _passes(
    simulator: EditSimulator, sampler: Sampler | None, corpus: AudioCorpus, n_clips: int, seed: int, n_jobs: int | None
) -> Iterator[tuple[np.ndarray, EditRecord]]:
    """So many edited clips of a corpus, and which clip of it each is; the last time through some at random."""
    number = 0
    while n_clips > 0:
        rows = np.arange(len(corpus))
        if n_clips < len(rows):
            rows = np.sort(np.random.default_rng(seed).permutation(rows)[:n_clips])
        simulator.set_params(random_state=(seed + number) % 2**31)
        yield from iterate_rows(simulator, corpus, rows, n_jobs, sampler)
        n_clips, number = n_clips - len(rows), number + 1


def _known(corpus, truths, labels, n_samples):
    n_frames = frames_in(n_samples, corpus.sample_rate)
    for number, waveform in corpus.read():
        truth = truths[number]
        for window in iter_windows([waveform], n_samples, n_samples):
            part, start = window.waveform[: window.length], window.start / corpus.sample_rate
            if isinstance(truth, EditRecord):
                targets, frames = window_truth(truth, labels, start, len(part) / corpus.sample_rate, n_frames)
            else:
                targets, frames = truth, clip_truth(truth, labels, n_frames)
            yield part, targets, frames, number
