"""Plans of edits, and records of the edits that were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._utils.validation import check_number
from ._audio.acquisition import Acquisition
from .taxonomy import CATEGORIES, EDIT_LABELS, TAXONOMY, UNALTERED
from .time_map import TimeMap

_VERSION = 1
_MAX_SECONDS = 86400.0


@dataclass(frozen=True)
class EditPlan:  # numpydoc ignore=PR02
    """Plan for one clip: edits with all their parameters, and the treatment that every clip gets.

    >>> from mmestim.voice import EditPlan
    >>> plan = EditPlan(3.0, 16000, [{"edit": "mp3", "bitrate": 16, "engine": "soundfile"}])
    >>> EditPlan.from_json(plan.to_json()) == plan
    True

    Parameters
    ----------
    duration : float
        Duration of the clip in seconds.
    sample_rate : int
        Sample rate of the clip in Hz.
    steps : list of dict
        Edits in order, each with its label as ``edit`` and its parameters.
    trim : (float, float), default=(0, 0)
        Seconds that are trimmed off the start and the end before the edits.
    crop : (float, float), default=(0, 0)
        Seconds that are cropped off the start and the end after the edits.
    gain : float, default=0.0
        Level of the result relative to the clip in dB, before the gain of the acquisition.
    seed : int, default=0
        Seed of the noise of half a 16-bit step that every clip gets before the edits, and of the dither after them.
    acquisition : Acquisition or None, default=None
        Recording of the clip before the edits and storage after them; None stores it in 16 bits at its rate.
    """

    duration: float
    sample_rate: int
    steps: list[dict[str, Any]] = field(default_factory=list)
    trim: tuple[float, float] = (0.0, 0.0)
    crop: tuple[float, float] = (0.0, 0.0)
    gain: float = 0.0
    seed: int = 0
    acquisition: Acquisition | None = None

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        check_number("duration", self.duration, high=_MAX_SECONDS, closed=False)
        check_number("sample_rate", self.sample_rate, low=1, integer=True)
        check_number("gain", self.gain, low=-200, high=200)
        check_number("seed", self.seed, integer=True)
        for name, ends in (("trim", self.trim), ("crop", self.crop)):
            if not isinstance(ends, tuple | list) or len(ends) != 2:
                raise ValueError(f"{name}={ends!r} must be two numbers of seconds, at least 0.")
            for end in ends:
                check_number(name, end)
        if sum(self.trim) >= self.duration:
            raise ValueError(f"trim={self.trim!r} leaves nothing of {self.duration} s.")

    def to_json(self) -> str:
        """Return the plan as a line of JSON."""
        return json.dumps(_plan_dict(self))

    @classmethod
    def from_json(cls, text: str) -> EditPlan:
        """Read a plan from the JSON of `to_json`.

        Parameters
        ----------
        text : str
            JSON text.

        Returns
        -------
        EditPlan
            The plan.

        Raises
        ------
        ValueError
            If the text is not a plan, has a later version or names an edit that does not exist.
        """
        return cls(**_plan_fields(_read(text, "EditPlan", set(cls.__dataclass_fields__))))


@dataclass(frozen=True)
class EditRecord:  # numpydoc ignore=PR02
    """Record of the edits of one clip, in seconds of the result.

    >>> import numpy as np
    >>> from mmestim.voice import EditPlan, EditRecord, EditSimulator
    >>> clip = np.random.default_rng(0).normal(scale=0.1, size=16000)
    >>> plan = EditPlan(1.0, 16000, [{"edit": "speed_change", "rate": 0.8, "engine": "polyphase"}])
    >>> slower, record = EditSimulator().apply(clip, plan)
    >>> record.labels, record.categories, record.duration
    (['speed_change'], ['modulation'], 1.25)
    >>> EditRecord.from_json(record.to_json()) == record
    True

    Parameters
    ----------
    labels : list of str
        Labels of the result, in the order of the taxonomy; ``unaltered`` if there was no edit. Steps of which
        nothing remains, and steps without an audible change, contribute no label.
    plan : EditPlan
        Plan of the edits. The times in a step refer to the clip as it was before that step. Applied to the same clip,
        the plan gives the same samples.
    intervals : dict of str to list of (float, float)
        Start and end of the intervals that each label covers; cuts have none.
    points : dict of str to list of float
        Points at which segments were cut out.
    inaudible : list of str
        Labels of steps without an audible change, or of which less than 50 ms remains. They count as neither present
        nor absent.
    time_map : TimeMap
        Map from times of the clip before the edits to times of the result.
    duration : float
        Duration of the result in seconds.
    sample_rate : int
        Sample rate of the result in Hz.
    gain : float
        Gain in dB before the acquisition, including the reduction that prevents peaks above full scale.
    clip : int or None, default=None
        Number of the clip in the input of `EditSimulator.simulate`.
    """

    labels: list[str]
    plan: EditPlan
    intervals: dict[str, list[tuple[float, float]]]
    points: dict[str, list[float]]
    inaudible: list[str]
    time_map: TimeMap
    duration: float
    sample_rate: int
    gain: float
    clip: int | None = None

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Steps of the plan."""
        return self.plan.steps

    @property
    def categories(self) -> list[str]:
        """Categories of the labels other than ``unaltered``, in the order of the taxonomy."""
        present = {TAXONOMY[label].category for label in self.labels if label != UNALTERED}
        return [category for category in CATEGORIES if category in present]

    def to_json(self) -> str:
        """Return the record as a line of JSON."""
        knots = {"before": self.time_map.before.tolist(), "after": self.time_map.after.tolist()}
        return json.dumps({"version": _VERSION, **vars(self), "time_map": knots, "plan": _plan_dict(self.plan)})

    @classmethod
    def from_json(cls, text: str) -> EditRecord:
        """Read a record from the JSON of `to_json`.

        Parameters
        ----------
        text : str
            JSON text.

        Returns
        -------
        EditRecord
            The record.

        Raises
        ------
        ValueError
            If the text is not a record, has a later version or names an edit that does not exist.
        """
        values = _read(text, "EditRecord", set(cls.__dataclass_fields__))
        plan = EditPlan.from_json(json.dumps(values["plan"]))
        intervals = {label: [tuple(span) for span in spans] for label, spans in values["intervals"].items()}
        return cls(**{**values, "plan": plan, "time_map": TimeMap(**values["time_map"]), "intervals": intervals})


def _plan_dict(plan: EditPlan) -> dict[str, Any]:
    acquisition = None if plan.acquisition is None else plan.acquisition.to_dict()
    return {"version": _VERSION, **vars(plan), "acquisition": acquisition}


def _plan_fields(values: dict[str, Any]) -> dict[str, Any]:
    acquisition = values.get("acquisition")
    acquisition = None if acquisition is None else Acquisition(**acquisition)
    return {**values, "trim": tuple(values["trim"]), "crop": tuple(values["crop"]), "acquisition": acquisition}


def _read(text: str, kind: str, fields: set[str]) -> dict[str, Any]:
    """Return the fields of a plan or record from JSON."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not the JSON of an {kind}: {error}.") from None
    version = values.pop("version", None) if isinstance(values, dict) else None
    if isinstance(version, int) and version > _VERSION:
        raise ValueError(f"this {kind} has version {version}, and this release reads {_VERSION}: use a later release.")
    # Plans of earlier releases have no acquisition.
    if version != _VERSION or set(values) | {"acquisition"} != fields | {"acquisition"}:
        raise ValueError(f"this is JSON, but not of an {kind}: it must have 'version' and {sorted(fields)}.")
    return dict(values)


def _check_steps(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        if not isinstance(step, Mapping) or step.get("edit") not in EDIT_LABELS:
            raise ValueError(f"the step {step!r} must be a dict and have as 'edit' one of {list(EDIT_LABELS)}.")
