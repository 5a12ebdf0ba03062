"""How the clips of a corpus are edited: which audio each may get, one after another or in other processes."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import joblib
import numpy as np

from .._audio.corpus import AudioCorpus, AudioError, trim_silence
from ..edits.base import AudioPool
from .plan_application import apply_plan, prepared

_MOST_KEPT = 2**26  # bytes of noises and responses
_ATTEMPTS = 50  # draws for a clip, until none is of audio that cannot be read


def speaker_codes(speakers: Any, n_clips: int) -> np.ndarray:
    """A number for each speaker, -1 where it is not known."""
    if speakers is None:
        return np.full(n_clips, -1)
    known: dict[str, int] = {}
    names = [None if name is None or str(name) in ("nan", "<NA>") else str(name) for name in speakers]
    return np.array([-1 if name is None else known.setdefault(name, len(known)) for name in names])


class Task(NamedTuple):
    """What is to be done with every clip of a corpus."""

    simulator: Any
    corpus: AudioCorpus
    pool: AudioPool
    codes: np.ndarray
    seed: int

    def __call__(self, numbers: np.ndarray) -> list[Any]:
        return [
            _simulate_one(self.simulator, self.corpus, int(n), self.seed, for_clip(self.pool, n, self.codes))
            for n in numbers
        ]


class StoredTask(NamedTuple):
    """The same in a file: each process reads it once, as a corpus of many files is long."""

    path: str

    @classmethod
    def from_task(cls, task: Task, folder: str) -> StoredTask:
        path = os.path.join(folder, "task")
        joblib.dump(tuple(task), path)
        return cls(path)

    def __call__(self, numbers: np.ndarray) -> list[Any]:
        return _stored(self.path)(numbers)


@lru_cache(maxsize=1)
def _stored(path):
    return Task(*joblib.load(path))


def for_clip(pool: AudioPool, number: int, codes: np.ndarray) -> AudioPool:
    """The pool as one clip may use it: whose voices of the corpus are another's, and which its own elsewhere."""
    here = np.arange(len(codes)) == number
    own = (codes == codes[number]) & (codes >= 0)
    allowed_indices: dict[str, Any] = {"speaker_voices": np.flatnonzero(own & ~here)}
    if pool.voices is pool.speaker_voices:
        allowed_indices["voices"] = np.flatnonzero(~here if codes[number] < 0 else ~own & (codes >= 0))
    return replace(pool, allowed_indices=allowed_indices)


def reachable_pools(pool: AudioPool, codes: np.ndarray) -> list[AudioPool]:
    """The pool of the clips with most of others and with most of their own: what neither can get, none can."""
    _, speakers, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return [for_clip(pool, int(end(counts[speakers])), codes) for end in (np.argmin, np.argmax)]


def corpora(pool: AudioPool) -> list[AudioCorpus]:
    """The clips of a pool, as they are read."""
    kinds = (pool.tts, pool.vc, pool.voices, pool.noises, pool.impulse_responses)
    return [kind.corpus for kind in kinds if isinstance(kind, CachedAudio | ConditionedAudio)]


def _simulate_one(simulator, corpus, number, seed, pool):
    """One clip, edited, and its record, or the error of reading it."""
    rate = corpus.sample_rate
    try:
        whole = corpus[number]
    except AudioError as error:
        return AudioError(error.item, error.reason)  # without a traceback that keeps the samples
    trimmed, start = trim_silence(whole, rate)
    trim = start, (len(whole) - len(trimmed)) / rate - start
    for attempt in itertools.count(1):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, attempt)))
        try:
            plan = simulator._draw(rng, len(trimmed) / rate, pool)
            plan = replace(plan, duration=len(whole) / rate, trim=(trim[0], max(0.0, trim[1])))
            edited, record = apply_plan(whole, plan, pool)
            return edited, replace(record, clip=number)
        except AudioError:  # of other audio, which the clip was to get
            if attempt == _ATTEMPTS or not pool.skips_unreadable:
                raise


class CachedAudio(Sequence[np.ndarray]):
    """Clips of a corpus that are used again and again: the latest are kept as they were read."""

    def __init__(self, corpus: AudioCorpus) -> None:
        self.corpus = corpus
        self._latest: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: Any) -> Any:
        with self._lock:
            if index not in self._latest:
                waveform = self.corpus[index]
                waveform.flags.writeable = False
                self._latest[index] = waveform
                while sum(kept.nbytes for kept in self._latest.values()) > _MOST_KEPT and len(self._latest) > 1:
                    self._latest.popitem(last=False)
            self._latest.move_to_end(index)
            return self._latest[index]

    def __reduce__(self):
        return CachedAudio, (self.corpus,)


class ConditionedAudio(Sequence[np.ndarray]):
    """Clips of a corpus in the state of those that they are put into."""

    def __init__(self, corpus: AudioCorpus) -> None:
        self.corpus = corpus
        # What an edit looked at when its parameters were drawn, it takes next.
        self.latest: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: Any) -> Any:
        number, waveform = self.latest  # at once, as another thread may set it
        if number != index:
            waveform = prepared(trim_silence(self.corpus[index], self.corpus.sample_rate)[0], int(index))
            waveform.flags.writeable = False
            self.latest = int(index), waveform
        return waveform
