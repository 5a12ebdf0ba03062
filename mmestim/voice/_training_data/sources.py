"""Sources of training windows: simulated edits, or clips with ground truth."""

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
from .window_set import LabelledWindow, WindowSet, build_window_set, edited_windows

# Fraction of the simulated clips that are duplicated with a brick-wall low-pass filter.
_BRICK_WALL_FRACTION = 0.15
# Fraction of the items to hold out in whole groups, and its limits.
_HELD_OUT_FRACTION, _MIN_HELD_OUT, _MAX_HELD_OUT = 0.25, 0.1, 0.5
# Attempts to find groups within these limits.
_N_ATTEMPTS = 20


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
    """Simulate edited clips from a corpus, and return a window of each.

    Parameters
    ----------
    simulator : EditSimulator
        Simulator of the edits; it is not changed.
    corpus : AudioCorpus
        Clean speech. It is used repeatedly if it has fewer clips than needed.
    n_clips : int
        Number of clips to simulate.
    labels : sequence of str
        Columns of the targets.
    n_samples : int
        Samples of a window.
    seed : int
        Seed of the edits and of the places of the windows.
    n_jobs : int or None
        Number of processes.
    folder : Path
        Folder of the files that hold the windows.
    add_splices : bool, default=False
        Whether every clip gets several cuts, pastes and mixes. Clips are not duplicated with a low-pass filter then.

    Returns
    -------
    WindowSet
        The windows, in files that are mapped into memory.
    """
    sampler = None
    if add_splices:
        ranges = resolve_ranges(simulator.edits)
        sampler = SplicePlanSampler(ranges, simulator.sample_rate, acquires=simulator.acquisition)
    fraction, rng = 0.0 if add_splices else _BRICK_WALL_FRACTION, np.random.default_rng(seed)
    edited_clips = _iterate_edited_clips(clone(simulator), sampler, corpus, n_clips, seed, n_jobs)
    labelled_windows = edited_windows(edited_clips, labels, n_samples, simulator.sample_rate, rng, fraction)
    # The number of duplicates is random, so the files have room for half as many again.
    max_windows = n_clips + round(1.5 * fraction * n_clips)
    return build_window_set(labelled_windows, max_windows, len(labels), n_samples, simulator.sample_rate, folder)


def given_windows(
    corpus: AudioCorpus, truths: Sequence[Any], labels: Sequence[str], n_samples: int, folder: Path
) -> WindowSet:
    """Return all windows of clips with ground truth.

    Parameters
    ----------
    corpus : AudioCorpus
        The clips.
    truths : sequence of EditRecord or of uint8 ndarray of shape (n_labels,)
        Ground truth of each clip.
    labels : sequence of str
        Columns of the targets.
    n_samples : int
        Samples of a window.
    folder : Path
        Folder of the files that hold the windows.

    Returns
    -------
    WindowSet
        Adjacent windows that cover every clip.
    """
    clip_lengths = [waveform.size for _, waveform in corpus.read()]
    max_windows = sum(max(1, -(-length // n_samples)) for length in clip_lengths)
    labelled_windows = _labelled_windows(corpus, truths, labels, n_samples)
    return build_window_set(labelled_windows, max_windows, len(labels), n_samples, corpus.sample_rate, folder)


def held_out_windows(clips: np.ndarray, speakers: np.ndarray, seed: int) -> np.ndarray:
    """Choose the windows of about a quarter of the speakers for calibration.

    If there is only one speaker, or one has nearly all clips, whole clips are held out instead. If there is only one
    clip, windows of it are held out.

    Parameters
    ----------
    clips : int ndarray of shape (n_windows,)
        Clip number of each window.
    speakers : int ndarray of shape (n_clips,)
        Speaker number of each clip.
    seed : int
        Seed of the choice.

    Returns
    -------
    bool ndarray of shape (n_windows,)
        Held-out windows: neither none nor all, if there are two windows or more.
    """
    rng = np.random.default_rng(seed)
    windows = np.arange(len(clips))
    for groups, rows in ((speakers, clips), (np.arange(len(speakers)), clips), (windows, windows)):
        held_out = _choose_groups(groups, rng)[rows]
        if held_out.any() and not held_out.all():
            break
    return held_out


def _choose_groups(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of the items of random groups, about a quarter of all; all False if they are too unequal."""
    sizes = np.bincount(groups)
    for _ in range(_N_ATTEMPTS if len(sizes) > 1 else 0):
        order = rng.permutation(len(sizes))
        totals = sizes[order].cumsum()
        n_groups = min(1 + np.searchsorted(totals, _HELD_OUT_FRACTION * totals[-1]), len(order) - 1)
        if _MIN_HELD_OUT * totals[-1] <= totals[n_groups - 1] <= _MAX_HELD_OUT * totals[-1]:
            return np.isin(groups, order[:n_groups])
    return np.zeros(len(groups), bool)


def _iterate_edited_clips(
    simulator: EditSimulator, sampler: Sampler | None, corpus: AudioCorpus, n_clips: int, seed: int, n_jobs: int | None
) -> Iterator[tuple[np.ndarray, EditRecord]]:
    """Yield edited clips and their records, in passes over the corpus; the last pass takes random clips."""
    pass_number = 0
    while n_clips > 0:
        rows = np.arange(len(corpus))
        if n_clips < len(rows):
            rows = np.sort(np.random.default_rng(seed).permutation(rows)[:n_clips])
        simulator.set_params(random_state=(seed + pass_number) % 2**31)
        yield from iterate_rows(simulator, corpus, rows, n_jobs, sampler)
        n_clips, pass_number = n_clips - len(rows), pass_number + 1


def _labelled_windows(
    corpus: AudioCorpus, truths: Sequence[Any], labels: Sequence[str], n_samples: int
) -> Iterator[LabelledWindow]:
    """Yield adjacent windows of clips with ground truth."""
    n_frames = frames_in(n_samples, corpus.sample_rate)
    for number, waveform in corpus.read():
        truth = truths[number]
        for window in iter_windows([waveform], n_samples, n_samples, corpus.sample_rate):
            samples, start = window.waveform[: window.length], window.start / corpus.sample_rate
            if isinstance(truth, EditRecord):
                targets, frames = window_truth(truth, labels, start, len(samples) / corpus.sample_rate, n_frames)
            else:
                targets, frames = truth, clip_truth(truth, labels, n_frames)
            yield LabelledWindow(samples, targets, frames, number)
