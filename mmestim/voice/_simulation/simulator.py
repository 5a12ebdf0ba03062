"""Simulator of voice edits: clean speech in, a labelled corpus out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from ..._utils.types import Seed
from ..._utils.validation import check_choice, check_flag, check_number
from .._audio.corpus import AudioCorpus
from ..edits.base import AudioPool
from ..records import EditPlan, EditRecord
from ..taxonomy import TAXONOMY
from .audio_pools import SOURCES, build_pool, reachable_pools, speaker_codes
from .plan_application import apply_plan
from .plan_sampling import (
    CATEGORY_ORDER,
    Edits,
    Order,
    PlanSampler,
    Sampler,
    available_labels,
    check_audio,
    resolve_ranges,
)
from .workers import Task, iterate_task

_MAX_SECONDS = 86400.0


class EditSimulator(BaseEstimator):
    """Simulator of labelled voice edits of clean speech.

    >>> import numpy as np
    >>> from mmestim.voice import EditSimulator
    >>> rng = np.random.default_rng(0)
    >>> clips = [rng.normal(scale=0.1, size=32000) for _ in range(3)]
    >>> waveforms, records = EditSimulator(n_edits=1, random_state=0).simulate(clips)
    >>> [len(record.steps) for record in records], waveforms[0].dtype
    ([1, 1, 1], dtype('float32'))

    For every clip it draws a number of edits and their parameters, applies them, and records which edit is
    where in the result.

    Parameters
    ----------
    edits : 'all', list of str or dict, default='all'
        Labels of `mmestim.voice.LABELS` to choose from. ``'all'`` selects the labels for which there is audio:
        'tts' and 'vc' need `sources`. A label that is named but lacks its audio is an error. A dict maps each label
        to its ranges: ``'train'``, ``'held_out'`` or ``'implementation'`` of the taxonomy, or a dict of
        parameters to ranges that replace some of the ``'train'`` ranges.
    n_edits : int or (int, int), default=(0, 3)
        Number of edits in a clip, or its minimum and maximum; all numbers between are equally likely. A clip
        has at most one edit of each category.
    order : {'canonical', 'fixed', 'random'}, default='canonical'
        Order of the edits in a clip. ``'fixed'`` is source, temporal, modulation, spectral, spatial, encoding.
        ``'random'`` is any order. ``'canonical'`` is fixed in four fifths of the clips and random in the others.
    sample_rate : int, default=16000
        Sample rate of the edited clips in Hz.
    sources : dict of str to audio, default=None
        Synthetic speech for 'tts' and 'vc', and 'voices' to mix in instead of the voices of the other clips. Each
        value is anything that `AudioCorpus` accepts. Synthetic recordings that are shorter than the clip which they
        replace are continued by the next ones of the same speaker, or by the next ones if speakers are unknown.
    noises, impulse_responses : audio, default=None
        Recordings for 'background_noise' and measured responses for 'reverb', in addition to generated ones. The
        latest 64 MiB of each are cached while clips are edited.
    acquisition : bool, default=True
        Whether to vary how clips were recorded and stored, edited or not, as part of each plan and without a label:
        the sample rate by different resamplers, the level, the response, tilt and low cut of a microphone,
        compression, a noise gate, the bit depth with or without dither, the polarity, and a constant offset. False
        stores all clips in 16 bits at their rate.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws. Each clip has its own generator, seeded by the number of the clip. The draws also depend on
        whether python-stretch is installed, the first engine of 'pitch_shift' and 'time_stretch'.

    See Also
    --------
    AudioCorpus : Formats in which clips are accepted.

    Notes
    -----
    The labels are those of `mmestim.voice.TAXONOMY`, which gives the origin of each name and range. The number
    of edits, their order and all of the following are our choices [1]_.

    Edited and unedited clips get identical treatment, so that only the edit can give a clip away. First, silence
    at the ends is trimmed, any constant offset is removed, and noise of half a 16-bit step is added. After the
    edits, up to 0.18 s is cropped off both ends. The level is restored to that of the clip, then changed at random
    by up to 6 dB, and the peak stays below 0.99. With `acquisition`, the clip is recorded before the edits and stored
    after them: converted to a rate of 16, 22.05, 24, 32, 44.1 or 48 kHz, and back by the filter that reads files.

    References
    ----------
    .. [1] N. M. Müller et al., "A New Approach to Voice Authenticity", Interspeech 2024,
       arXiv:2402.06304: the categories, and the number of edits.
    """

    def __init__(
        self,
        edits: Edits = "all",
        *,
        n_edits: int | tuple[int, int] = (0, 3),
        order: Order = "canonical",
        sample_rate: int = 16000,
        sources: Mapping[str, Any] | None = None,
        noises: Any = None,
        impulse_responses: Any = None,
        acquisition: bool = True,
        random_state: Seed = None,
    ) -> None:
        self.edits = edits
        self.n_edits = n_edits
        self.order = order
        self.sample_rate = sample_rate
        self.sources = sources
        self.noises = noises
        self.impulse_responses = impulse_responses
        self.acquisition = acquisition
        self.random_state = random_state

    def draw(self, rng: np.random.Generator | int, duration: float, sample_rate: int) -> EditPlan:
        """Draw edits and their parameters for one clip.

        Parameters
        ----------
        rng : numpy.random.Generator or int
            Generator that the plan is drawn from, or a seed.
        duration : float
            Duration of the clip in seconds.
        sample_rate : int
            Sample rate of the clip in Hz, which must be that of the simulator.

        Returns
        -------
        EditPlan
            Plan for `apply`.
        """
        check_simulator(self)
        if sample_rate != self.sample_rate:
            raise ValueError(f"sample_rate={sample_rate}: this simulator is for clips at {self.sample_rate} Hz.")
        check_number("duration", duration, high=_MAX_SECONDS, closed=False)
        pool = audio_pool(self)
        _check_audio(self, [pool])
        return plan_sampler(self).sample(np.random.default_rng(rng), float(duration), pool)

    def apply(self, waveform: NDArray[Any], plan: EditPlan, X: Any = None) -> tuple[NDArray[np.float32], EditRecord]:
        """Edit one clip by a plan.

        Parameters
        ----------
        waveform : ndarray of shape (n_samples,)
            The clip, floats at the plan's rate. It is not modified.
        plan : EditPlan
            Plan from `draw` for a clip of this duration, or from a record.
        X : audio, default=None
            The clips of `simulate`. They are needed if the plan is from one of its records and uses their voices.

        Returns
        -------
        waveform : ndarray of shape (n_samples_after,)
            The edited clip, float32.
        record : EditRecord
            The edits and where they are.

        Raises
        ------
        ValueError
            If the plan is for a clip of another duration or rate, or needs audio that this simulator does not have.
        """
        check_simulator(self)
        if plan.sample_rate != self.sample_rate:
            raise ValueError(f"the plan is for {plan.sample_rate} Hz, this simulator for {self.sample_rate} Hz.")
        return apply_plan(waveform, plan, audio_pool(self, None if X is None else _corpus(self, X)))

    def simulate(self, X: Any, n_jobs: int | None = None) -> tuple[list[NDArray[np.float32]], list[EditRecord]]:
        """Edit clips.

        Parameters
        ----------
        X : audio
            Clean speech, anything that `AudioCorpus` accepts. Arrays have the simulator's rate; for another rate pass
            ``AudioCorpus(arrays, source_rate=...)``.
        n_jobs : int, default=None
            Number of processes, or of threads where any audio is given as arrays; `None` is one, or all workers of a
            cluster if its backend of joblib is active, and -1 is all cores. The result is the same for any number.

        Returns
        -------
        waveforms : list of ndarray of shape (n_samples,)
            Edited clips, float32.
        records : list of EditRecord
            Record of each edited clip; its ``clip`` is the number of the clip in `X`. Clips that a corpus with
            ``on_error='skip'`` could not read are left out.
        """
        pairs = list(self.iterate(X, n_jobs))
        return [waveform for waveform, _ in pairs], [record for _, record in pairs]

    def iterate(self, X: Any, n_jobs: int | None = None) -> Iterator[tuple[NDArray[np.float32], EditRecord]]:
        """Edit clips one after another, as `simulate` does, from a corpus that need not fit into memory.

        Parameters
        ----------
        X : audio
            Clean speech, anything that `AudioCorpus` accepts.
        n_jobs : int, default=None
            Number of processes, as in `simulate`.

        Returns
        -------
        iterator of (ndarray of shape (n_samples,), EditRecord)
            Edited clips, float32, and their records.
        """
        check_simulator(self)
        corpus = _corpus(self, X)
        return iterate_rows(self, corpus, np.arange(len(corpus)), n_jobs)


# For training --------------------------------------------------------------------------------------


def iterate_rows(
    simulator: EditSimulator,
    corpus: AudioCorpus,
    rows: np.ndarray,
    n_jobs: int | None,
    sampler: Sampler | None = None,
) -> Iterator[tuple[np.ndarray, EditRecord]]:
    """Edit some clips of a corpus.

    Parameters
    ----------
    simulator : EditSimulator
        Simulator with checked parameters.
    corpus : AudioCorpus
        Clean speech. Each clip may get voices of all other clips.
    rows : int ndarray of shape (n_clips,)
        Numbers of the clips to edit.
    n_jobs : int or None
        Number of workers.
    sampler : Sampler or None, default=None
        Sampler of the plans; None is the simulator's own.

    Returns
    -------
    iterator of (ndarray of shape (n_samples,), EditRecord)
        Edited clips, float32, and their records.
    """
    corpus = corpus.for_workers()
    pool, codes = audio_pool(simulator, corpus), speaker_codes(corpus.speakers, len(corpus))
    _check_audio(simulator, reachable_pools(pool, codes))
    seed = int(check_random_state(simulator.random_state).randint(np.iinfo(np.int32).max))
    task = Task(plan_sampler(simulator) if sampler is None else sampler, corpus, pool, codes, seed)
    return iterate_task(task, rows, n_jobs)


def labels_for_corpus(simulator: EditSimulator, corpus: AudioCorpus) -> list[str]:
    """Return the labels that the edited clips of a corpus can have."""
    check_simulator(simulator)
    codes = speaker_codes(corpus.speakers, len(corpus))
    return available_labels(resolve_ranges(simulator.edits), reachable_pools(audio_pool(simulator, corpus), codes))


def plan_sampler(simulator: EditSimulator) -> PlanSampler:
    """Return the sampler of plans that a simulator's parameters describe."""
    ranges = resolve_ranges(simulator.edits)
    n_edits = _n_edits_range(simulator.n_edits)
    return PlanSampler(ranges, n_edits, simulator.order, simulator.sample_rate, simulator.acquisition)


def audio_pool(simulator: EditSimulator, clips: AudioCorpus | None = None) -> AudioPool:
    """Return the pool of a simulator's audio and, if they are given, of the clips that it edits."""
    audio = {
        **(simulator.sources or {}),
        "noises": simulator.noises,
        "impulse_responses": simulator.impulse_responses,
    }
    return build_pool({kind: _corpus(simulator, X).for_workers() for kind, X in audio.items() if X is not None}, clips)


def check_simulator(simulator: EditSimulator) -> None:
    """Raise a ValueError or TypeError that names the first invalid parameter of a simulator."""
    check_choice("order", simulator.order, get_args(Order))
    check_number("sample_rate", simulator.sample_rate, low=8000, high=48000, integer=True)
    check_flag("acquisition", simulator.acquisition)
    n_edits, sources = simulator.n_edits, simulator.sources
    min_edits, max_edits = _n_edits_range(n_edits)
    if min_edits > max_edits:
        raise ValueError(f"n_edits={n_edits!r} must have the fewest edits first.")
    n_categories = len({TAXONOMY[label].category for label in resolve_ranges(simulator.edits)})
    if min_edits > n_categories:
        raise ValueError(
            f"n_edits={n_edits!r}: a clip has at most one edit of a category, and the labels in edits have "
            f"{n_categories}. Name edits of other categories too, or request fewer."
        )
    if not isinstance(sources, Mapping | None):
        raise TypeError(
            f"sources has type {type(sources).__name__}: it must be a dict, such as {{'tts': 'folder'}}, or None."
        )
    for name in sources or {}:
        if name not in SOURCES:
            raise ValueError(f"sources has {name!r}, which is not supported here. Use keys of {list(SOURCES)}.")


# Parameters ----------------------------------------------------------------------------------------


def _n_edits_range(n_edits: Any) -> tuple[int, int]:
    """Return the minimum and maximum that the parameter `n_edits` stands for."""
    numbers = tuple(n_edits) if isinstance(n_edits, tuple | list) else (n_edits, n_edits)
    if len(numbers) != 2:
        raise ValueError(f"n_edits={n_edits!r} must be one number or two, the fewest and the most.")
    for number in numbers:
        check_number("n_edits", number, high=len(CATEGORY_ORDER), integer=True)
    return numbers


def _corpus(simulator: EditSimulator, X: Any) -> AudioCorpus:
    """Return audio as a corpus at the simulator's rate."""
    corpus = X if isinstance(X, AudioCorpus) else AudioCorpus(X, sample_rate=simulator.sample_rate)
    if corpus.sample_rate != simulator.sample_rate:
        raise ValueError(f"the corpus has sample_rate={corpus.sample_rate}, the simulator {simulator.sample_rate}.")
    return corpus


def _check_audio(simulator: EditSimulator, pools: list[AudioPool]) -> None:
    """Raise a ValueError if a label is named in `edits` but none of the pools has its audio."""
    if not isinstance(simulator.edits, str):  # 'all' selects only labels whose audio is available.
        check_audio(resolve_ranges(simulator.edits), pools)
