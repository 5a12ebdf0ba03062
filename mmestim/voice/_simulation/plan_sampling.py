"""What `EditSimulator` may draw, and a draw of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..._utils.validation import check_choice
from ..edits import EDITS
from ..edits.base import AudioPool, NoUsableRecording
from ..records import EditPlan
from ..taxonomy import LABELS, TAXONOMY, Between, Either, FirstInstalled, OneOf, Range

ORDER = ("source", "temporal", "modulation", "spectral", "spatial", "encoding")
_SHUFFLED_SHARE = 0.2
# What every clip goes through, edited or not, so that none of it tells which was.
_MOST_CROPPED, _GAIN_DB = 0.18, 6.0
_LONG = 60.0  # seconds of a clip for which no edit is too long


def resolve_ranges(edits: Any) -> dict[str, dict[str, Range]]:
    """Of each label that may be drawn, what its parameters are drawn from."""
    given: Mapping[str, Any]
    if isinstance(edits, str):
        check_choice("edits", edits, ["all"], ", a list of labels, or a dict of labels to ranges")
        given = dict.fromkeys(LABELS[1:], "train")
    elif isinstance(edits, Mapping):
        given = edits
    elif isinstance(edits, list | tuple):
        given = dict.fromkeys(edits, "train")
    else:
        raise TypeError(f"edits={edits!r} must be 'all', a list of labels, or a dict of labels to ranges.")
    if not given:
        raise ValueError(f"edits={edits!r} has no label. For clips without edits use n_edits=0.")
    ranges = {}
    for label, wanted in given.items():
        if label not in LABELS[1:]:
            raise ValueError(f"edits has {label!r}, which is not known. Use labels of {list(LABELS[1:])}.")
        if isinstance(wanted, str):
            check_choice(f"edits[{label!r}]", wanted, ["train", "held_out", "implementation"], ", or a dict")
            if wanted != "train" and not getattr(TAXONOMY[label], wanted):
                raise ValueError(f"edits[{label!r}]={wanted!r}: the taxonomy has no such ranges for it.")
            ranges[label] = TAXONOMY[label].variant(wanted)
            _check_differs(label, wanted)
        elif not isinstance(wanted, Mapping):
            raise TypeError(f"edits[{label!r}]={wanted!r} must be the name of ranges, or a dict of them.")
        else:
            for name, values in wanted.items():
                info = TAXONOMY[label]
                if name not in (known := {**info.implementation, **info.held_out, **info.ranges}):
                    raise ValueError(f"edits[{label!r}] has {name!r}, which is not among {list(known)}.")
                if not isinstance(values, Range):
                    raise TypeError(
                        f"edits[{label!r}][{name!r}]={values!r} must be a range, such as Between(0.1, 0.2) or "
                        "OneOf((0.1,)) of mmestim.voice."
                    )
                if isinstance(values, OneOf) and not values.values:
                    raise ValueError(f"edits[{label!r}][{name!r}]={values!r} has no value to draw.")
                if isinstance(values, Between | Either) and _is_of_words(known[name]):
                    raise TypeError(f"edits[{label!r}][{name!r}]={values!r} must be OneOf some of: {known[name]}.")
            ranges[label] = {**TAXONOMY[label].ranges, **wanted}
    return ranges


def check_audio(ranges: dict[str, dict[str, Range]], pools: Iterable[AudioPool]) -> None:
    """Raise if a label can be drawn with none of the pools."""
    found = available_labels(ranges, pools)
    for label in ranges:
        if label not in found:
            raise ValueError(
                f"edits has {label!r}, which needs audio that is not there. 'tts' and 'vc' need sources={{'tts': "
                "..., 'vc': ...}; 'mix' clips of another speaker, or sources={'voices': ...}, and babble four; noise "
                "files noises=; measured rooms impulse_responses=; passages of the same speaker clips with speakers."
            )


def available_labels(ranges: dict[str, dict[str, Range]], pools: Iterable[AudioPool]) -> list[str]:
    """Labels that some clip can have, in the order of the taxonomy."""
    found = {label for pool in pools for label, own in ranges.items() if EDITS[label].can_draw(_LONG, own, pool)}
    return [label for label in LABELS if label in found]


def sample_plan(
    rng: np.random.Generator,
    duration: float,
    sample_rate: int,
    ranges: dict[str, dict[str, Range]],
    n_edits: tuple[int, int],
    order: str,
    pool: AudioPool,
) -> EditPlan:
    """Edits and parameters for a clip of so many seconds, and what every clip goes through."""
    n_drawn = int(rng.integers(*n_edits, endpoint=True))
    shuffled = order == "random" or (rng.random() < _SHUFFLED_SHARE and order == "canonical")
    available_labels = [label for label, own in ranges.items() if EDITS[label].can_draw(duration, own, pool)]
    # Every label is as likely as the others, and of a category only the first counts.
    firsts: dict[str, str] = {}
    for number in rng.permutation(len(available_labels)):
        firsts.setdefault(TAXONOMY[available_labels[number]].category, available_labels[number])
    chosen = list(firsts.items())[:n_drawn]
    steps, length = [], duration
    for category, first in chosen if shuffled else sorted(chosen, key=lambda item: ORDER.index(item[0])):
        # An edit before it may have left too little for the first.
        for label in [first, *(other for other in available_labels if TAXONOMY[other].category == category)]:
            if not EDITS[label].can_draw(length, ranges[label], pool):
                continue
            with contextlib.suppress(NoUsableRecording):
                parameters = EDITS[label].draw(rng, length, sample_rate, ranges[label], pool)
                length = EDITS[label].duration_after(length, **parameters)
                steps.append({"edit": label, **parameters})
                break
    most = min(_MOST_CROPPED, length / 10)
    return EditPlan(
        duration,
        sample_rate,
        steps,
        crop=(float(rng.uniform(0, most)), float(rng.uniform(0, most))),
        gain=float(rng.uniform(-_GAIN_DB, _GAIN_DB)),
        seed=int(rng.integers(2**31)),
    )


def _is_of_words(values):
    return isinstance(values, FirstInstalled) or (isinstance(values, OneOf) and isinstance(values.values[0], str))


def _check_differs(label, variant):
    """Raise where the other implementation is the one to train on, for want of a better one."""
    for name, values in getattr(TAXONOMY[label], variant, {}).items():
        own = TAXONOMY[label].ranges.get(name)
        if isinstance(own, FirstInstalled) and isinstance(values, OneOf) and values.values == (own.first(),):
            raise ImportError(
                f"edits[{label!r}]={variant!r}: without python-stretch {own.first()!r} is what training uses as well. "
                'pip install "mmestim[engines]"'
            )
