"""Workers that edit the clips of a corpus, one after another or in several processes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from joblib import effective_n_jobs

from ..._utils.parallel import run_tasks
from .._audio.corpus import AudioCorpus
from .._audio.reading import AudioError, MissingFileError, seen_from_here
from .._audio.trimming import trim_silence
from ..edits.base import AudioPool
from ..records import EditRecord
from .audio_pools import corpora, pool_for_clip
from .plan_application import apply_plan
from .plan_sampling import Sampler

# Clips in progress per worker, and clips handed over at once: one slow clip must not delay many.
_CLIPS_PER_WORKER, _CLIPS_PER_CALL = 16, 2
# Plans that are sampled for a clip before unreadable audio becomes an error.
_MAX_ATTEMPTS = 50

# The edited clip and its record, or the error of reading the clip.
Result = tuple[np.ndarray, EditRecord] | AudioError


class Task(NamedTuple):
    """The clips to edit, a sampler of plans, and the audio that edits may bring in."""

    sampler: Sampler
    corpus: AudioCorpus
    pool: AudioPool
    speaker_codes: np.ndarray
    seed: int

    def edit(self, number: int) -> Result:
        """Edit one clip."""
        pool, rate = pool_for_clip(self.pool, number, self.speaker_codes), self.corpus.sample_rate
        try:
            clip = self.corpus[number]
        except AudioError as error:
            return type(error)(error.item, error.reason)  # A new error, without a traceback that retains the samples.
        trimmed, start = trim_silence(clip, rate)
        trim = start, (len(clip) - len(trimmed)) / rate - start
        attempt = 0
        while True:
            attempt += 1
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number, attempt)))
            try:
                plan = self.sampler.sample(rng, len(trimmed) / rate, pool)
                plan = replace(plan, duration=len(clip) / rate, trim=(trim[0], max(0.0, trim[1])))
                edited, record = apply_plan(clip, plan, pool)
                return edited, replace(record, clip=number)
            except AudioError:  # Raised for audio of the pool; another plan may use other audio.
                if attempt == _MAX_ATTEMPTS or not pool.skips_unreadable:
                    raise


def edit_clips(task: Task, numbers: np.ndarray) -> list[Result]:
    """Edit clips of a task by their numbers."""
    return [task.edit(int(number)) for number in numbers]


def iterate_task(task: Task, rows: np.ndarray, n_jobs: int | None) -> Iterator[tuple[np.ndarray, EditRecord]]:
    """Edit clips of a task one after another.

    Parameters
    ----------
    task : Task
        The clips and how they are edited.
    rows : int ndarray of shape (n_clips,)
        Numbers of the clips to edit.
    n_jobs : int or None
        Number of workers of joblib's active backend; by default processes, or threads where audio is given as arrays.

    Yields
    ------
    waveform : ndarray of shape (n_samples,)
        Edited clip. Clips that cannot be read are skipped as the corpus prescribes.
    record : EditRecord
        Its record.

    Raises
    ------
    AudioError
        If no clip can be read.

    Warns
    -----
    UserWarning
        If some clips got fewer edits than the sampler's minimum.
    """
    min_edits = task.sampler.n_edits[0]
    n_below_minimum = n_done = 0
    # Processes would have to copy the arrays.
    uses_threads = any(corpus.holds_arrays for corpus in (task.corpus, *corpora(task.pool)))
    size = _CLIPS_PER_CALL if effective_n_jobs(n_jobs) > 1 else 1
    parts = np.array_split(rows, max(1, -(-len(rows) // size)))
    results = itertools.chain.from_iterable(
        run_tasks(
            edit_clips,
            ((part,) for part in parts),
            n_jobs,
            shared=(task,),
            prefer="threads" if uses_threads else "processes",
            chunk_size=_CLIPS_PER_WORKER // _CLIPS_PER_CALL * effective_n_jobs(n_jobs),
        )
    )
    for number in rows:
        try:
            result = next(results)
        except MissingFileError as error:  # Audio of the pool.
            raise seen_from_here(error) from None
        if isinstance(result, AudioError):
            task.corpus.skip(number, result)
            continue
        n_done += 1
        n_below_minimum += len(result[1].steps) < min_edits
        yield result
    if not n_done:
        skipped = task.corpus.skipped[0]
        raise AudioError(
            f"{len(rows)} of {len(rows)} clips",
            f"cannot be used. The first is {skipped.item}, which {skipped.reason}",
        )
    if n_below_minimum:
        warnings.warn(
            f"{n_below_minimum} of {n_done} clips got fewer than {min_edits} edits: they are too short for the "
            "edits in `edits`, or no other voice is long enough for them.",
            stacklevel=2,
        )
