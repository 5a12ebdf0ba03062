"""Labels that `EditSimulator` can draw, and samplers of its plans."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

from ..._utils.validation import check_choice
from .._audio.acquisition import draw_acquisition
from ..edits import EDITS
from ..edits.base import AudioPool, NoUsableRecording
from ..records import EditPlan
from ..taxonomy import EDIT_LABELS, LABELS, TAXONOMY, Between, Either, FirstInstalled, OneOf, Range

# Canonical order of the categories in a plan.
CATEGORY_ORDER = ("source", "temporal", "modulation", "spectral", "spatial", "encoding")
_SHUFFLED_PROBABILITY = 0.2
# Every clip, edited or not, is cropped and scaled within these limits, so that neither reveals an edit.
_MAX_CROP_SECONDS, _MAX_GAIN_DB = 0.18, 6.0
# A clip of this length is long enough for every edit.
_LONG_CLIP_SECONDS = 60.0

Ranges = dict[str, dict[str, Range]]
# Names of the ranges of a label in the taxonomy, and the values of the parameter `edits`.
RangesName = Literal["train", "held_out", "implementation"]
Edits = Literal["all"] | list[str] | tuple[str, ...] | Mapping[str, RangesName | Mapping[str, Range]]
Order = Literal["canonical", "fixed", "random"]


class Sampler(Protocol):
    """Sampler of plans, as a worker uses it."""

    @property
    def n_edits(self) -> tuple[int, int]:
        """Minimum and maximum number of edits."""
        ...

    def sample(self, rng: np.random.Generator, duration: float, pool: AudioPool) -> EditPlan:
        """Sample a plan."""
        ...


@dataclass(frozen=True)
class PlanSampler:  # numpydoc ignore=PR02
    """Sampler of plans with at most one edit of each category.

    Parameters
    ----------
    ranges : dict of str to dict of str to range
        Labels to choose from, each with the ranges of its parameters.
    n_edits : (int, int)
        Minimum and maximum number of edits.
    order : {'canonical', 'fixed', 'random'}
        Order of the edits, as in `EditSimulator`.
    sample_rate : int
        Rate of the clips in Hz.
    acquires : bool, default=True
        Whether plans vary how clips were recorded and stored.
    """

    ranges: Ranges
    n_edits: tuple[int, int]
    order: str
    sample_rate: int
    acquires: bool = True

    def sample(self, rng: np.random.Generator, duration: float, pool: AudioPool) -> EditPlan:
        """Sample edits, their parameters, and the crop, gain and acquisition that every clip gets.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        duration : float
            Duration of the clip in seconds.
        pool : AudioPool
            Audio that the clip may use.

        Returns
        -------
        EditPlan
            The plan, for a clip of that duration.
        """
        n_drawn = int(rng.integers(*self.n_edits, endpoint=True))
        is_shuffled = self.order == "random" or (rng.random() < _SHUFFLED_PROBABILITY and self.order == "canonical")
        candidates = [label for label, ranges in self.ranges.items() if EDITS[label].can_draw(duration, ranges, pool)]
        # All labels are equally likely, and only the first label of a category counts.
        first_labels: dict[str, str] = {}
        for number in rng.permutation(len(candidates)):
            first_labels.setdefault(TAXONOMY[candidates[number]].category, candidates[number])
        chosen = list(first_labels.items())[:n_drawn]
        if not is_shuffled:
            chosen.sort(key=lambda item: CATEGORY_ORDER.index(item[0]))
        steps: list[dict[str, Any]] = []
        length = duration
        for category, first_label in chosen:
            # After a previous edit the clip may be too short for the first label.
            for label in [first_label, *(label for label in candidates if TAXONOMY[label].category == category)]:
                if not EDITS[label].can_draw(length, self.ranges[label], pool):
                    continue
                with contextlib.suppress(NoUsableRecording):
                    step, length = sample_step(rng, label, length, self.sample_rate, self.ranges[label], pool)
                    steps.append(step)
                    break
        max_crop = min(_MAX_CROP_SECONDS, length / 10)
        return EditPlan(
            duration,
            self.sample_rate,
            steps,
            crop=(float(rng.uniform(0, max_crop)), float(rng.uniform(0, max_crop))),
            gain=float(rng.uniform(-_MAX_GAIN_DB, _MAX_GAIN_DB)),
            seed=int(rng.integers(2**31)),
            acquisition=draw_acquisition(rng) if self.acquires else None,
        )


def sample_step(
    rng: np.random.Generator,
    label: str,
    duration: float,
    sample_rate: int,
    ranges: Mapping[str, Range],
    pool: AudioPool,
) -> tuple[dict[str, Any], float]:
    """Sample one step of a plan; return it with the duration of the clip after it, in seconds."""
    parameters = EDITS[label].draw(rng, duration, sample_rate, ranges, pool)
    return {"edit": label, **parameters}, EDITS[label].duration_after(duration, **parameters)


# Labels and their ranges ---------------------------------------------------------------------------


def resolve_ranges(edits: Edits) -> Ranges:
    """Return the ranges of the parameters of each label that the parameter `edits` of `EditSimulator` names."""
    requested: Mapping[str, Any]
    if isinstance(edits, str):
        check_choice("edits", edits, ["all"], ", a list of labels, or a dict of labels to ranges")
        requested = dict.fromkeys(EDIT_LABELS, "train")
    elif isinstance(edits, Mapping):
        requested = edits
    elif isinstance(edits, list | tuple):
        requested = dict.fromkeys(edits, "train")
    else:
        raise TypeError(f"edits={edits!r} must be 'all', a list of labels, or a dict of labels to ranges.")
    if not requested:
        raise ValueError(f"edits={edits!r} has no label. For clips without edits use n_edits=0.")
    return {label: _resolve_label(label, request) for label, request in requested.items()}


def _resolve_label(label: str, request: Any) -> dict[str, Range]:
    """Return the ranges of one label from the name of a variant or a dict of ranges to replace."""
    if label not in EDIT_LABELS:
        raise ValueError(f"edits has {label!r}, which is not supported. Use labels of {list(EDIT_LABELS)}.")
    if isinstance(request, str):
        check_choice(f"edits[{label!r}]", request, get_args(RangesName), ", or a dict")
        if request != "train" and not getattr(TAXONOMY[label], request):
            raise ValueError(f"edits[{label!r}]={request!r}: the taxonomy has no such ranges for it.")
        _check_implementation_differs(label, request)
        return TAXONOMY[label].variant(request)
    if not isinstance(request, Mapping):
        raise TypeError(f"edits[{label!r}]={request!r} must be the name of ranges, or a dict of them.")
    info = TAXONOMY[label]
    parameters = {**info.implementation, **info.held_out, **info.ranges}
    for name, values in request.items():
        if name not in parameters:
            raise ValueError(f"edits[{label!r}] has {name!r}, which is not among {list(parameters)}.")
        if not isinstance(values, Range):
            raise TypeError(
                f"edits[{label!r}][{name!r}]={values!r} must be a range, such as Between(0.1, 0.2) or "
                "OneOf((0.1,)) of mmestim.voice."
            )
        if isinstance(values, OneOf) and not values.values:
            raise ValueError(f"edits[{label!r}][{name!r}]={values!r} has no value to draw.")
        if isinstance(values, Between | Either) and _holds_strings(parameters[name]):
            raise TypeError(
                f"edits[{label!r}][{name!r}]={values!r} must be a OneOf with values from: {parameters[name]}."
            )
    return {**info.ranges, **request}


def available_labels(ranges: Ranges, pools: Iterable[AudioPool]) -> list[str]:
    """Return the labels that some clip can have, in the order of the taxonomy."""
    drawable = {
        label
        for pool in pools
        for label, label_ranges in ranges.items()
        if EDITS[label].can_draw(_LONG_CLIP_SECONDS, label_ranges, pool)
    }
    return [label for label in LABELS if label in drawable]


def check_audio(ranges: Ranges, pools: Iterable[AudioPool]) -> None:
    """Raise a ValueError if a label cannot be drawn from any of the pools."""
    available = available_labels(ranges, pools)
    for label in ranges:
        if label not in available:
            raise ValueError(
                f"edits has {label!r}, which needs audio that was not given. 'tts' and 'vc' need sources={{'tts': "
                "..., 'vc': ...}; 'mix' needs clips of another speaker or sources={'voices': ...}, and babble needs "
                "four of them; noise files need noises=; measured rooms need impulse_responses=; pasted segments of "
                "the same speaker need clips with speakers."
            )


def _holds_strings(values: Range) -> bool:
    return isinstance(values, FirstInstalled) or (isinstance(values, OneOf) and isinstance(values.values[0], str))


def _check_implementation_differs(label: str, variant: str) -> None:
    """Raise an ImportError if training, for want of a package, uses the implementation reserved for tests."""
    for name, values in getattr(TAXONOMY[label], variant, {}).items():
        trained = TAXONOMY[label].ranges.get(name)
        if isinstance(trained, FirstInstalled) and isinstance(values, OneOf) and values.values == (trained.first(),):
            raise ImportError(
                f"edits[{label!r}]={variant!r}: without python-stretch, training uses {trained.first()!r} too. "
                'pip install "mmestim[engines]"'
            )
