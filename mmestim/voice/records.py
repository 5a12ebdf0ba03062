"""What is to be done to a clip, and what was done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .taxonomy import CATEGORIES, LABELS, TAXONOMY
from .time_map import TimeMap

_VERSION = 1


@dataclass(frozen=True)
class EditPlan:  # numpydoc ignore=PR02
    """What is to be done to one clip: edits with all their parameters, then what every clip goes through.

    Parameters
    ----------
    duration : float
        Seconds of the clip that it is drawn for.
    sample_rate : int
        Rate of the clip, in Hz.
    steps : list of dict
        Edits in their order, each with its label as ``edit`` and its parameters.
    crop : (float, float), default=(0, 0)
        Seconds taken off the start and the end after the edits.
    gain : float, default=0.0
        Level of the result over that of the clip, in dB.

    Examples
    --------
    >>> from mmestim.voice import EditPlan
    >>> plan = EditPlan(3.0, 16000, [{"edit": "mp3", "bitrate": 16, "engine": "soundfile"}])
    >>> EditPlan.from_json(plan.to_json()) == plan
    True
    """

    duration: float
    sample_rate: int
    steps: list[dict[str, Any]] = field(default_factory=list)
    crop: tuple[float, float] = (0.0, 0.0)
    gain: float = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not self.duration > 0:
            raise ValueError(f"duration={self.duration!r} must be above 0, in seconds.")
        if len(self.crop) != 2 or min(self.crop) < 0:
            raise ValueError(f"crop={self.crop!r} must be two numbers of seconds, at least 0.")

    def to_json(self) -> str:
        """The plan as a line of JSON."""
        return json.dumps({"version": _VERSION, **vars(self)})

    @classmethod
    def from_json(cls, text: str) -> EditPlan:
        """The plan from what `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON.

        Returns
        -------
        EditPlan
            The plan.

        Raises
        ------
        ValueError
            If the text is no plan, is of a later version or names an edit that does not exist.
        """
        values = _read(text, "EditPlan", set(cls.__dataclass_fields__))
        return cls(**{**values, "crop": tuple(values["crop"])})


@dataclass(frozen=True)
class EditRecord:  # numpydoc ignore=PR02
    """What was done to one clip, in seconds of the result.

    Parameters
    ----------
    labels : list of str
        What the result shows, in the order of the taxonomy; ``unaltered`` where nothing was done. A
        step of which nothing is left, or to be heard, has none.
    steps : list of dict
        Edits in the order in which they were made, each with its label as ``edit`` and its parameters,
        whose times are of the clip as the step found it.
    intervals : dict of str to list of (float, float)
        Start and end of what each label covers; cuts have none.
    points : dict of str to list of float
        Where something was cut.
    inaudible : list of str
        Labels of steps that changed next to nothing: neither there nor absent.
    time_map : TimeMap
        From seconds of the clip before the edits to those after.
    duration : float
        Seconds of the result.
    sample_rate : int
        Its rate, in Hz.
    gain : float
        Factor of the level at the end, in dB, that of keeping the peak below full scale included.
    clip : int or None, default=None
        Number of the clip in what was given to `EditSimulator.simulate`.

    Examples
    --------
    >>> import numpy as np
    >>> from mmestim.voice import EditPlan, EditRecord, EditSimulator
    >>> clip = np.random.default_rng(0).normal(scale=0.1, size=16000)
    >>> plan = EditPlan(1.0, 16000, [{"edit": "speed_change", "rate": 0.8, "engine": "polyphase"}])
    >>> slower, record = EditSimulator().apply(clip, plan)
    >>> record.labels, record.categories, record.duration
    (['speed_change'], ['modulation'], 1.25)
    >>> EditRecord.from_json(record.to_json()) == record
    True
    """

    labels: list[str]
    steps: list[dict[str, Any]]
    intervals: dict[str, list[tuple[float, float]]]
    points: dict[str, list[float]]
    inaudible: list[str]
    time_map: TimeMap
    duration: float
    sample_rate: int
    gain: float
    clip: int | None = None

    @property
    def categories(self) -> list[str]:
        """Categories of the labels but ``unaltered``, in the order of the taxonomy."""
        present = {TAXONOMY[label].category for label in self.labels if label != "unaltered"}
        return [category for category in CATEGORIES if category in present]

    def to_json(self) -> str:
        """The record as a line of JSON."""
        knots = {"before": self.time_map.before.tolist(), "after": self.time_map.after.tolist()}
        return json.dumps({"version": _VERSION, **vars(self), "time_map": knots})

    @classmethod
    def from_json(cls, text: str) -> EditRecord:
        """The record from what `to_json` wrote.

        Parameters
        ----------
        text : str
            JSON.

        Returns
        -------
        EditRecord
            The record.

        Raises
        ------
        ValueError
            If the text is no record, is of a later version or names an edit that does not exist.
        """
        values = _read(text, "EditRecord", set(cls.__dataclass_fields__))
        _check_steps(values["steps"])
        intervals = {label: [tuple(span) for span in spans] for label, spans in values["intervals"].items()}
        return cls(**{**values, "time_map": TimeMap(**values["time_map"]), "intervals": intervals})


def _read(text: str, kind: str, fields: set[str]) -> dict[str, Any]:
    """Fields from JSON."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is no JSON of an {kind}: {error}.") from None
    version = values.pop("version", None) if isinstance(values, dict) else None
    if version is None or set(values) != fields:
        raise ValueError(f"this is JSON, but not of an {kind}: it must have 'version' and {sorted(fields)}.")
    if version != _VERSION:
        raise ValueError(f"this {kind} has version {version}, and this release reads {_VERSION}: use a later one.")
    return dict(values)


def _check_steps(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        if step.get("edit") not in LABELS[1:]:
            raise ValueError(f"the step {step} must have as 'edit' one of {list(LABELS[1:])}.")
