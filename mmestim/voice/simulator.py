"""From clean speech to a labelled corpus of voice edits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from .._validation import check_choice, check_number
from ._applying import apply_plan
from .corpus import AudioCorpus, AudioError, trim_silence
from .edits import EDITS
from .edits._base import Bank
from .records import EditPlan, EditRecord
from .taxonomy import LABELS, TAXONOMY, Range
from .time_map import TimeMap

_ORDER = ("source", "temporal", "modulation", "spectral", "spatial", "encoding")
_ORDERS = ("canonical", "fixed", "random")
_SHUFFLED_SHARE = 0.2
_SOURCES = ("tts", "vc", "voices")
# What every clip goes through, edited or not, so that none of it tells which was.
_MOST_CROPPED, _GAIN_DB = 0.18, 6.0
_CHUNK = 8  # clips a worker has at once
_ATTEMPTS = 10  # draws for a clip, until no voice is drawn that cannot be read


class EditSimulator(BaseEstimator):
    """Makes labelled voice edits out of clean speech.

    Of every clip it draws which edits it goes through and with what parameters, makes them, and records
    what is where in the result.

    Parameters
    ----------
    edits : 'all', list of str or dict, default='all'
        Labels of `mmestim.voice.LABELS` to choose from. ``'all'`` are those for which there is audio: 'tts'
        and 'vc' need `sources`. A dict has a label's ranges: ``'train'``, ``'held_out'`` or
        ``'implementation'`` of the taxonomy, or a dict of parameters to ranges that replace some of
        those to train on.
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
        Recordings for 'background_noise' and measured responses for 'reverb', in addition to generated ones.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws. Each clip has its own generator, by its number.

    See Also
    --------
    AudioCorpus : What clips can be.

    Notes
    -----
    The labels are those of `mmestim.voice.TAXONOMY`, which says of each where its name and its ranges are
    from. How many edits, in what order, and all of the following are our choices [1]_.

    What would give edited clips away by other things than the edit is alike in all: silence at the ends
    is trimmed and any constant offset taken off first; up to 0.18 s is cropped off both ends afterwards;
    the level is brought back to that of the clip, then changed at random by up to 6 dB; the peak stays
    below 0.99; samples pass through 16 bits.

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
    >>> [len(record.labels) for record in records], waveforms[0].dtype
    ([1, 1, 1], dtype('float32'))
    """

    def __init__(
        self, edits: Any = "all", *, n_edits: Any = (0, 3), order: str = "canonical", sample_rate: int = 16000,
        sources: Mapping[str, Any] | None = None, noises: Any = None, impulse_responses: Any = None,
        random_state: Any = None,
    ) -> None:  # fmt: skip
        self.edits = edits
        self.n_edits = n_edits
        self.order = order
        self.sample_rate = sample_rate
        self.sources = sources
        self.noises = noises
        self.impulse_responses = impulse_responses
        self.random_state = random_state

    def draw(self, rng: np.random.Generator, duration: float, sample_rate: int) -> EditPlan:
        """Edits and parameters for one clip.

        Parameters
        ----------
        rng : numpy.random.Generator
            Where they are drawn from.
        duration : float
            Seconds of the clip.
        sample_rate : int
            Its rate, in Hz.

        Returns
        -------
        EditPlan
            What `apply` does to it.
        """
        self._check()
        return self._draw(rng, duration, sample_rate, self._bank())

    def apply(self, waveform: np.ndarray, plan: EditPlan) -> tuple[np.ndarray, EditRecord]:
        """Edit one clip by a plan.

        Parameters
        ----------
        waveform : ndarray of shape (n_samples,)
            The clip, at the plan's rate; it is left as it is.
        plan : EditPlan
            From `draw`, for a clip of this duration.

        Returns
        -------
        waveform : ndarray of shape (n_samples_after,)
            The edited clip, float32.
        record : EditRecord
            What was done, and where it is.

        Raises
        ------
        ValueError
            If the plan is for a clip of another duration, or needs audio that this simulator has not.
        """
        self._check()
        return apply_plan(waveform, plan, self._bank())

    def simulate(self, X: Any, n_jobs: int | None = None) -> tuple[list[np.ndarray], list[EditRecord]]:
        """Edit clips.

        Parameters
        ----------
        X : audio
            Clean speech, anything that `AudioCorpus` takes.
        n_jobs : int, default=None
            Processes; `None` is one, -1 all cores. The result is the same for any number.

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
            Processes; `None` is one, -1 all cores.

        Returns
        -------
        iterator of (ndarray of shape (n_samples,), EditRecord)
            Edited clip, float32, and what was done to it.
        """
        self._check()
        corpus = X if isinstance(X, AudioCorpus) else AudioCorpus(X, sample_rate=self.sample_rate)
        if corpus.sample_rate != self.sample_rate:
            raise ValueError(f"the corpus has sample_rate={corpus.sample_rate}, the simulator {self.sample_rate}.")
        return self._iterate(corpus, effective_n_jobs(n_jobs))

    # Inside --------------------------------------------------------------------------------------

    def _iterate(self, corpus, n_jobs):
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        bank = self._bank(corpus)
        with Parallel(n_jobs) as parallel:
            for start in range(0, len(corpus), _CHUNK * n_jobs):
                numbers = np.arange(start, min(start + _CHUNK * n_jobs, len(corpus)))
                parts = np.array_split(numbers, min(n_jobs, len(numbers)))
                done = parallel(delayed(_simulate_some)(self, corpus, part, seed, bank) for part in parts)
                for number, result in zip(numbers, itertools.chain(*done), strict=True):
                    if isinstance(result, AudioError):
                        corpus.skip(number, result)
                    else:
                        yield result

    def _check(self) -> None:
        check_choice("order", self.order, _ORDERS)
        check_number("sample_rate", self.sample_rate, low=8000, high=48000, integer=True)
        low, high = self._numbers()
        if low > high:
            raise ValueError(f"n_edits={self.n_edits!r} must have the fewest edits first.")
        self._ranges()
        unknown = [name for name in self.sources or {} if name not in _SOURCES]
        if unknown:
            raise ValueError(f"sources has {unknown[0]!r}, which is not known here. Use keys of {list(_SOURCES)}.")

    def _numbers(self):
        numbers = self.n_edits if isinstance(self.n_edits, tuple | list) else (self.n_edits, self.n_edits)
        if len(numbers) != 2:
            raise ValueError(f"n_edits={self.n_edits!r} must be one number or two, the fewest and the most.")
        for number in numbers:
            check_number("n_edits", number, high=len(_ORDER), integer=True)
        return numbers

    def _ranges(self) -> dict[str, dict[str, Range]]:
        """Of each label that may be drawn, what its parameters are drawn from."""
        if isinstance(self.edits, str):
            check_choice("edits", self.edits, ["all"], ", a list of labels, or a dict of labels to ranges")
            given: Mapping[str, Any] = dict.fromkeys(LABELS[1:], "train")
        else:
            given = self.edits if isinstance(self.edits, Mapping) else dict.fromkeys(self.edits, "train")
        ranges = {}
        for label, wanted in given.items():
            if label not in LABELS[1:]:
                raise ValueError(f"edits has {label!r}, which is not known. Use labels of {list(LABELS[1:])}.")
            if isinstance(wanted, str):
                check_choice(f"edits[{label!r}]", wanted, ["train", "held_out", "implementation"], ", or a dict")
                if wanted != "train" and not getattr(TAXONOMY[label], wanted):
                    raise ValueError(f"edits[{label!r}]={wanted!r}: the taxonomy has no such ranges for it.")
                ranges[label] = TAXONOMY[label].variant(wanted)
            else:
                for name, values in wanted.items():
                    if name not in (known := TAXONOMY[label].ranges):
                        raise ValueError(f"edits[{label!r}] has {name!r}, which is not among {list(known)}.")
                    if not isinstance(values, Range):
                        raise TypeError(
                            f"edits[{label!r}][{name!r}]={values!r} must be a range, such as Between(0.1, 0.2) or "
                            "OneOf((0.1,)) of mmestim.voice."
                        )
                ranges[label] = {**TAXONOMY[label].ranges, **wanted}
        return ranges

    def _bank(self, corpus: Any = None) -> Bank:
        sources = self.sources or {}
        audio = {
            "tts": sources.get("tts"), "vc": sources.get("vc"), "voices": sources.get("voices"),
            "noises": self.noises, "impulse_responses": self.impulse_responses,
        }  # fmt: skip
        read = {kind: AudioCorpus(x, sample_rate=self.sample_rate) for kind, x in audio.items() if x is not None}
        if corpus is not None:
            read.setdefault("voices", corpus)
        kinds: dict[str, Any] = {kind: _Prepared(x) if kind in _SOURCES else x for kind, x in read.items()}
        bank = Bank(**kinds)
        if not isinstance(self.edits, str):
            for label in self._ranges():
                for kind in EDITS[label].needs:
                    if not bank.has(kind) and (kind in ("tts", "vc") or corpus is not None):
                        raise ValueError(f"edits has {label!r}, which needs sources={{{kind!r}: ...}}.")
        return bank

    def _draw(self, rng, duration, sample_rate, bank):
        ranges = self._ranges()
        n_edits = int(rng.integers(*self._numbers(), endpoint=True))
        shuffled = self.order == "random" or (rng.random() < _SHUFFLED_SHARE and self.order == "canonical")
        drawable = [label for label, own in ranges.items() if EDITS[label].can_draw(duration, own, bank)]
        # Every label is as likely as the others, and of a category only the first counts.
        firsts: dict[str, str] = {}
        for number in rng.permutation(len(drawable)):
            firsts.setdefault(TAXONOMY[drawable[number]].category, drawable[number])
        chosen = list(firsts.items())[:n_edits]
        steps, length = [], duration
        for category, first in chosen if shuffled else sorted(chosen, key=lambda item: _ORDER.index(item[0])):
            # An edit before it may have left too little for the first.
            for label in [first, *(other for other in drawable if TAXONOMY[other].category == category)]:
                if EDITS[label].can_draw(length, ranges[label], bank):
                    parameters = EDITS[label].draw(rng, length, sample_rate, ranges[label], bank)
                    length = EDITS[label].duration_after(length, **parameters)
                    steps.append({"edit": label, **parameters})
                    break
        most = min(_MOST_CROPPED, length / 10)
        crop = float(rng.uniform(0, most)), float(rng.uniform(0, most))
        return EditPlan(duration, sample_rate, steps, crop, float(rng.uniform(-_GAIN_DB, _GAIN_DB)))


def _simulate_some(simulator, corpus, numbers, seed, bank):
    return [_simulate_one(simulator, corpus, int(number), seed, _for_clip(bank, corpus, number)) for number in numbers]


def _for_clip(bank, corpus, number):
    """The bank as one clip may use it: what voices of the corpus are another's, and which its own elsewhere."""
    if not isinstance(bank.voices, _Prepared) or bank.voices.corpus is not corpus:
        return bank
    numbers = np.arange(len(corpus))
    if corpus.speakers is None:
        return replace(bank, other_voices=numbers[numbers != number])
    own = corpus.speakers == corpus.speakers[number]
    return replace(bank, other_voices=numbers[~own], own_voices=numbers[own & (numbers != number)])


def _simulate_one(simulator, corpus, number, seed, bank):
    """One clip, edited, and its record, or the error of reading it."""
    rate = corpus.sample_rate
    try:
        whole = corpus[number]
    except AudioError as error:
        return AudioError(error.item, error.reason)  # without a traceback that keeps the samples
    waveform, start = _prepared(whole, rate)
    duration = len(waveform) / rate
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, attempt)))
        try:
            edited, record = apply_plan(waveform, simulator._draw(rng, duration, rate, bank), bank)
            break
        except AudioError:  # of a voice that it was to get
            if corpus.on_error == "raise" or attempt == _ATTEMPTS - 1:
                raise
    first = round(start * rate)
    before = np.array([0, first, first + len(waveform), len(whole)]) / rate
    trimming = TimeMap(before, [0, 0, duration, duration])
    return edited, replace(record, clip=number, time_map=trimming.then(record.time_map))


def _prepared(waveform, sample_rate):
    """A clip without a constant offset, whose steps would tell of joins, and silence at its ends; where it starts."""
    trimmed, start = trim_silence(waveform, sample_rate)
    return trimmed - trimmed.mean(), start


class _Prepared(Sequence[np.ndarray]):
    """Clips of a corpus in the state of those that they are put into."""

    def __init__(self, corpus: AudioCorpus) -> None:
        self.corpus = corpus

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: Any) -> Any:
        return _prepared(self.corpus[index], self.corpus.sample_rate)[0]
