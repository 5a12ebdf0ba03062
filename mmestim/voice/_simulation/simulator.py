"""From clean speech to a labelled corpus of voice edits."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from ..._utils.validation import check_choice, check_number
from .._audio.corpus import AudioCorpus, AudioError
from ..edits.base import AudioPool
from ..records import EditPlan, EditRecord
from ..taxonomy import SYNTHETIC_LABELS, TAXONOMY
from .plan_application import apply_plan
from .plan_sampling import ORDER, available_labels, check_audio, resolve_ranges, sample_plan
from .workers import CachedAudio, ConditionedAudio, StoredTask, Task, corpora, reachable_pools, speaker_codes

_ORDERS = ("canonical", "fixed", "random")
_SOURCES = (*SYNTHETIC_LABELS, "voices")
# Clips that are under way at once for each worker, and that it gets at a time: one slow clip must not hold up many.
_CHUNK, _PART = 16, 2


class EditSimulator(BaseEstimator):
    """Makes labelled voice edits out of clean speech.

    Of every clip it draws which edits it goes through and with what parameters, makes them, and records
    what is where in the result.

    Parameters
    ----------
    edits : 'all', list of str or dict, default='all'
        Labels of `mmestim.voice.LABELS` to choose from. ``'all'`` are those for which there is audio: 'tts'
        and 'vc' need `sources`; others that are named without their audio are an error. A dict has a
        label's ranges: ``'train'``, ``'held_out'`` or ``'implementation'`` of the taxonomy, or a dict of
        parameters to ranges that replace some of those to train on.
    n_edits : int or (int, int), default=(0, 3)
        Edits in a clip, or the fewest and the most of them, all numbers between equally likely. A clip has
        at most one of each category.
    order : {'canonical', 'fixed', 'random'}, default='canonical'
        ``'fixed'``: source, temporal, modulation, spectral, spatial, encoding. ``'random'``: any.
        ``'canonical'``: fixed but in a fifth of the clips, where it is random.
    sample_rate : int, default=16000
        Of what comes out, in Hz.
    sources : dict of str to audio, default=None
        Synthetic speech for 'tts' and 'vc', and 'voices' to mix in instead of those of the other clips. Each is
        anything that `AudioCorpus` takes.
    noises, impulse_responses : audio, default=None
        Recordings for 'background_noise' and measured responses for 'reverb', in addition to generated ones. Of noises
        and responses the latest 64 MiB are kept while clips are edited.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws. Each clip has its own generator, by its number. What is drawn also depends on whether
        python-stretch is installed, which is the first engine of 'pitch_shift' and 'time_stretch'.

    See Also
    --------
    AudioCorpus : What clips can be.

    Notes
    -----
    The labels are those of `mmestim.voice.TAXONOMY`, which says of each where its name and its ranges are
    from. How many edits, in what order, and all of the following are our choices [1]_.

    What would give edited clips away by other things than the edit is alike in all: silence at the ends
    is trimmed, any constant offset taken off and noise of half a step of 16 bits added first; up to 0.18 s
    is cropped off both ends afterwards; the level is brought back to that of the clip, then changed at
    random by up to 6 dB; the peak stays below 0.99; samples pass through 16 bits.

    References
    ----------
    .. [1] N. M. Müller et al., "A New Approach to Voice Authenticity", Interspeech 2024,
       arXiv:2402.06304: the categories, and the number of edits.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim.voice import EditSimulator
    >>> rng = np.random.default_rng(0)
    >>> clips = [rng.normal(scale=0.1, size=32000) for _ in range(3)]
    >>> waveforms, records = EditSimulator(n_edits=1, random_state=0).simulate(clips)
    >>> [len(record.steps) for record in records], waveforms[0].dtype
    ([1, 1, 1], dtype('float32'))
    """

    def __init__(
        self,
        edits: Any = "all",
        *,
        n_edits: Any = (0, 3),
        order: str = "canonical",
        sample_rate: int = 16000,
        sources: Mapping[str, Any] | None = None,
        noises: Any = None,
        impulse_responses: Any = None,
        random_state: Any = None,
    ) -> None:
        self.edits = edits
        self.n_edits = n_edits
        self.order = order
        self.sample_rate = sample_rate
        self.sources = sources
        self.noises = noises
        self.impulse_responses = impulse_responses
        self.random_state = random_state

    def draw(self, rng: Any, duration: float, sample_rate: int) -> EditPlan:
        """Edits and parameters for one clip.

        Parameters
        ----------
        rng : numpy.random.Generator or int
            Where they are drawn from, or a seed.
        duration : float
            Seconds of the clip.
        sample_rate : int
            Its rate, in Hz: that of the simulator.

        Returns
        -------
        EditPlan
            What `apply` does to it.
        """
        self._check()
        if sample_rate != self.sample_rate:
            raise ValueError(f"sample_rate={sample_rate}: this simulator is for clips at {self.sample_rate} Hz.")
        check_number("duration", duration, high=86400.0, closed=False)
        pool = self._pool(None)
        self._check_audio(pool)
        return self._draw(np.random.default_rng(rng), float(duration), pool)

    def apply(self, waveform: np.ndarray, plan: EditPlan, X: Any = None) -> tuple[np.ndarray, EditRecord]:
        """Edit one clip by a plan.

        Parameters
        ----------
        waveform : ndarray of shape (n_samples,)
            The clip, floats at the plan's rate; it is left as it is.
        plan : EditPlan
            From `draw`, for a clip of this duration, or from a record.
        X : audio, default=None
            The clips of `simulate`, for a plan from one of its records that takes voices from them.

        Returns
        -------
        waveform : ndarray of shape (n_samples_after,)
            The edited clip, float32.
        record : EditRecord
            What was done, and where it is.

        Raises
        ------
        ValueError
            If the plan is for a clip of another duration or rate, or needs audio that this simulator has not.
        """
        self._check()
        if plan.sample_rate != self.sample_rate:
            raise ValueError(f"the plan is for {plan.sample_rate} Hz, this simulator for {self.sample_rate} Hz.")
        return apply_plan(waveform, plan, self._pool(None if X is None else self._corpus(X)))

    def simulate(self, X: Any, n_jobs: int | None = None) -> tuple[list[np.ndarray], list[EditRecord]]:
        """Edit clips.

        Parameters
        ----------
        X : audio
            Clean speech, anything that `AudioCorpus` takes. Arrays have the simulator's rate; with another, give
            ``AudioCorpus(arrays, source_rate=...)``.
        n_jobs : int, default=None
            Processes, or threads where any audio is given as arrays; `None` is one, -1 all cores. The result is the
            same for any number.

        Returns
        -------
        waveforms : list of ndarray of shape (n_samples,)
            Edited clips, float32.
        records : list of EditRecord
            What was done to each. Clips that a corpus with ``on_error='skip'`` could not read are left out;
            ``clip`` of a record tells the number.
        """
        pairs = list(self.iterate(X, n_jobs))
        return [waveform for waveform, _ in pairs], [record for _, record in pairs]

    def iterate(self, X: Any, n_jobs: int | None = None) -> Iterator[tuple[np.ndarray, EditRecord]]:
        """Edit clips one after another, as `simulate` does, of a corpus that need not fit into memory.

        Parameters
        ----------
        X : audio
            Clean speech, anything that `AudioCorpus` takes.
        n_jobs : int, default=None
            Processes, or threads where any audio is given as arrays; `None` is one, -1 all cores.

        Returns
        -------
        iterator of (ndarray of shape (n_samples,), EditRecord)
            Edited clip, float32, and what was done to it.
        """
        self._check()
        corpus = self._corpus(X)
        return self._iterate_some(corpus, np.arange(len(corpus)), n_jobs)

    # Inside --------------------------------------------------------------------------------------

    def _iterate_some(self, corpus: AudioCorpus, rows: np.ndarray, n_jobs: int | None) -> Iterator[Any]:
        """Clips of these numbers, which may get voices of all others."""
        pool, codes = self._pool(corpus), speaker_codes(corpus.speakers, len(corpus))
        self._check_audio(*reachable_pools(pool, codes))
        return self._iterate(corpus, rows, pool, codes, effective_n_jobs(n_jobs))

    def _iterate(self, corpus, rows, pool, codes, n_jobs):
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        task, fewest = Task(self, corpus, pool, codes, seed), self._numbers()[0]
        too_few = n_done = 0
        # To processes, arrays would have to be copied.
        uses_threads = n_jobs == 1 or any(part.holds_arrays for part in (corpus, *corpora(pool)))
        with contextlib.ExitStack() as stack:
            if not uses_threads:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                task = StoredTask.from_task(task, folder)
            parallel = stack.enter_context(Parallel(n_jobs, prefer="threads" if uses_threads else "processes"))
            step = 1 if n_jobs == 1 else _CHUNK * n_jobs
            for start in range(0, len(rows), step):
                numbers = rows[start : start + step]
                parts = np.array_split(numbers, -(-len(numbers) // _PART))
                done = parallel(delayed(task)(part) for part in parts)
                for number, result in zip(numbers, itertools.chain(*done), strict=True):
                    if isinstance(result, AudioError):
                        corpus.skip(number, result)
                        continue
                    n_done += 1
                    too_few += len(result[1].steps) < fewest
                    yield result
        if not n_done:
            shown = corpus.skipped[0]
            raise AudioError(
                f"{len(rows)} of {len(rows)} clips",
                f"cannot be used. The first is {shown.item}, which {shown.reason}",
            )
        if too_few:
            warnings.warn(
                f"{too_few} of {n_done} clips got fewer than {fewest} edits: they are too short for those of `edits`, "
                "or there is no other voice for them that is long enough.",
                stacklevel=2,
            )

    def _labels_for(self, corpus: AudioCorpus) -> list[str]:
        """Labels that clips of a corpus can have."""
        self._check()
        return available_labels(
            resolve_ranges(self.edits), reachable_pools(self._pool(corpus), speaker_codes(corpus.speakers, len(corpus)))
        )

    def _corpus(self, X):
        corpus = X if isinstance(X, AudioCorpus) else AudioCorpus(X, sample_rate=self.sample_rate)
        if corpus.sample_rate != self.sample_rate:
            raise ValueError(f"the corpus has sample_rate={corpus.sample_rate}, the simulator {self.sample_rate}.")
        return corpus

    def _check(self) -> None:
        check_choice("order", self.order, _ORDERS)
        check_number("sample_rate", self.sample_rate, low=8000, high=48000, integer=True)
        low, high = self._numbers()
        if low > high:
            raise ValueError(f"n_edits={self.n_edits!r} must have the fewest edits first.")
        categories = {TAXONOMY[label].category for label in resolve_ranges(self.edits)}
        if low > len(categories):
            raise ValueError(
                f"n_edits={self.n_edits!r}: a clip has at most one edit of a category, and those of edits are of "
                f"{len(categories)}. Name edits of other categories too, or ask for fewer."
            )
        if not isinstance(self.sources, Mapping | None):
            raise TypeError(
                f"sources has type {type(self.sources).__name__}: it must be a dict, such as {{'tts': 'folder'}}, or "
                "None."
            )
        unknown = [name for name in self.sources or {} if name not in _SOURCES]
        if unknown:
            raise ValueError(f"sources has {unknown[0]!r}, which is not known here. Use keys of {list(_SOURCES)}.")

    def _numbers(self):
        numbers = self.n_edits if isinstance(self.n_edits, tuple | list) else (self.n_edits, self.n_edits)
        if len(numbers) != 2:
            raise ValueError(f"n_edits={self.n_edits!r} must be one number or two, the fewest and the most.")
        for number in numbers:
            check_number("n_edits", number, high=len(ORDER), integer=True)
        return numbers

    def _check_audio(self, *pools):
        if not isinstance(self.edits, str):  # 'all' are those that there is audio for
            check_audio(resolve_ranges(self.edits), pools)

    def _draw(self, rng, duration, pool):
        return sample_plan(
            rng, duration, self.sample_rate, resolve_ranges(self.edits), self._numbers(), self.order, pool
        )

    def _pool(self, corpus: AudioCorpus | None) -> AudioPool:
        sources = self.sources or {}
        audio = {**sources, "noises": self.noises, "impulse_responses": self.impulse_responses}
        read = {kind: self._corpus(x) for kind, x in audio.items() if x is not None}
        kinds: dict[str, Any] = {
            kind: ConditionedAudio(x) if kind in _SOURCES else CachedAudio(x) for kind, x in read.items()
        }
        if corpus is not None:
            kinds["speaker_voices"] = ConditionedAudio(corpus)
            kinds.setdefault("voices", kinds["speaker_voices"])
            read["speaker_voices"] = corpus
        return AudioPool(**kinds, skips_unreadable=any(part.on_error == "skip" for part in read.values()))
