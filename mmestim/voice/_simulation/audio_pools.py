"""Pools of the audio that edits bring in, and the part of a pool that each clip may use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .._audio.corpus import AudioCorpus
from .._audio.trimming import trim_silence
from ..edits.base import AudioPool
from ..taxonomy import SYNTHETIC_LABELS
from .plan_application import condition

# Kinds of speech that `EditSimulator` takes as `sources`.
SOURCES = (*SYNTHETIC_LABELS, "voices")
_MAX_CACHE_BYTES = 2**26


class CachedAudio(Sequence[np.ndarray]):
    """Clips of a corpus that are used repeatedly; the latest 64 MiB are cached."""

    def __init__(self, corpus: AudioCorpus) -> None:
        self.corpus = corpus
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: Any) -> Any:
        with self._lock:
            if index not in self._cache:
                waveform = self.corpus[index]
                waveform.flags.writeable = False
                self._cache[index] = waveform
                while sum(clip.nbytes for clip in self._cache.values()) > _MAX_CACHE_BYTES and len(self._cache) > 1:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(index)
            return self._cache[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return CachedAudio, (self.corpus,)


class ConditionedAudio(Sequence[np.ndarray]):
    """Clips of a corpus, trimmed and conditioned like the clips that they are inserted into."""

    def __init__(self, corpus: AudioCorpus) -> None:
        self.corpus = corpus
        # An edit reads the same clip twice: to draw its parameters and to apply them.
        self.latest: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: Any) -> Any:
        number, waveform = self.latest  # Read at once, because another thread may replace it.
        if number != index:
            waveform = condition(trim_silence(self.corpus[index], self.corpus.sample_rate)[0], int(index))
            waveform.flags.writeable = False
            self.latest = int(index), waveform
        return waveform


def build_pool(audio: Mapping[str, AudioCorpus], clips: AudioCorpus | None) -> AudioPool:
    """Return a pool of audio.

    Parameters
    ----------
    audio : dict of str to AudioCorpus
        Corpus of each kind of audio.
    clips : AudioCorpus or None
        The clips that are edited. They lend their voices to each other.

    Returns
    -------
    AudioPool
        The pool of all clips; see `pool_for_clip`.
    """
    kinds: dict[str, Any] = {
        kind: ConditionedAudio(corpus) if kind in SOURCES else CachedAudio(corpus) for kind, corpus in audio.items()
    }
    all_corpora = [*audio.values()]
    if clips is not None:
        kinds["speaker_voices"] = ConditionedAudio(clips)
        kinds.setdefault("voices", kinds["speaker_voices"])
        all_corpora.append(clips)
    speakers = {kind: speaker_codes(corpus.speakers, len(corpus)) for kind, corpus in audio.items()}
    return AudioPool(**kinds, speakers=speakers, skips_unreadable=any(c.on_error == "skip" for c in all_corpora))


def corpora(pool: AudioPool) -> list[AudioCorpus]:
    """Return the corpora that a pool reads from."""
    kinds = (pool.tts, pool.vc, pool.voices, pool.noises, pool.impulse_responses)
    return [kind.corpus for kind in kinds if isinstance(kind, CachedAudio | ConditionedAudio)]


# Speakers ------------------------------------------------------------------------------------------


def speaker_codes(speakers: Any, n_clips: int) -> np.ndarray:
    """Return a number for the speaker of each clip, -1 where the speaker is unknown."""
    if speakers is None:
        return np.full(n_clips, -1)
    codes: dict[str, int] = {}
    names = [None if name is None or str(name) in ("nan", "<NA>") else str(name) for name in speakers]
    return np.array([-1 if name is None else codes.setdefault(name, len(codes)) for name in names])


def pool_for_clip(pool: AudioPool, number: int, codes: np.ndarray) -> AudioPool:
    """Return the audio that one clip may use: `speaker_voices` of its speaker, `voices` of other speakers."""
    is_clip = np.arange(len(codes)) == number
    is_same_speaker = (codes == codes[number]) & (codes >= 0)
    allowed: dict[str, Any] = {"speaker_voices": np.flatnonzero(is_same_speaker & ~is_clip)}
    if pool.voices is pool.speaker_voices:
        is_other_speaker = ~is_clip if codes[number] < 0 else ~is_same_speaker & (codes >= 0)
        allowed["voices"] = np.flatnonzero(is_other_speaker)
    return replace(pool, allowed_indices=allowed)


def reachable_pools(pool: AudioPool, codes: np.ndarray) -> list[AudioPool]:
    """Return the pools of the clips whose speakers have the fewest and the most clips."""
    # Audio that neither of the two can use is out of reach for every clip.
    _, speakers, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return [pool_for_clip(pool, int(extreme(counts[speakers])), codes) for extreme in (np.argmin, np.argmax)]
