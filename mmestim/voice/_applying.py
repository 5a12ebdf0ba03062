"""The edits of a plan, one after another, and where each is in the end."""

from __future__ import annotations

import numpy as np

from .edits import EDITS
from .edits._base import Bank, rms
from .records import EditPlan, EditRecord
from .taxonomy import LABELS
from .time_map import TimeMap

_PEAK = 0.99
# A step that changes the samples by less than this share of their level is neither there nor absent.
_AUDIBLE = 1e-3


def apply_plan(waveform: np.ndarray, plan: EditPlan, bank: Bank) -> tuple[np.ndarray, EditRecord]:
    """The edits of a plan one after another, then what every clip goes through."""
    rate = plan.sample_rate
    original = edited = np.ascontiguousarray(waveform, dtype=np.float32)
    if abs(len(original) / rate - plan.duration) > 1.5 / rate:
        raise ValueError(
            f"the plan is for {plan.duration:.3f} s at {rate} Hz, and the waveform has {len(original)} samples, "
            f"{len(original) / rate:.3f} s. Draw one for it, after any trimming or resampling."
        )
    whole, inaudible = TimeMap.identity(len(original) / rate), []
    intervals: dict[str, list] = {}
    points: dict[str, list] = {}
    for step in plan.steps:
        parameters = {key: value for key, value in step.items() if key != "edit"}
        label, before = step["edit"], edited
        edited, time_map, new_intervals, new_points = EDITS[label].apply(before, rate, bank, **parameters)
        whole, intervals, points = whole.then(time_map), _moved(intervals, time_map), _moved_points(points, time_map)
        intervals[label], points[label] = new_intervals, new_points
        if len(edited) == len(before) and rms(edited - before) <= _AUDIBLE * rms(before):
            inaudible.append(label)
        # Scaled, not clipped: an encoder after it would clip.
        edited = edited * np.float32(min(1.0, _PEAK / max(np.abs(edited).max(), 1e-9)))
    first, last = round(plan.crop[0] * rate), len(edited) - round(plan.crop[1] * rate)
    cropping = TimeMap(
        np.array([0, first, last, len(edited)]) / rate, np.array([0, 0, last - first, last - first]) / rate
    )
    edited = edited[first:last]
    whole, intervals, points = whole.then(cropping), _moved(intervals, cropping), _cropped(points, first, last, rate)
    edited, gain = _leveled(edited, rms(original), plan.gain)
    there = [label for label in LABELS if (intervals.get(label) or points.get(label)) and label not in inaudible]
    record = EditRecord(
        labels=there or ([] if inaudible else ["unaltered"]), steps=[dict(step) for step in plan.steps],
        intervals={label: intervals[label] for label in there if intervals[label]},
        points={label: points[label] for label in there if points[label]},
        inaudible=inaudible, time_map=whole, duration=len(edited) / rate, sample_rate=rate, gain=gain,
    )  # fmt: skip
    return edited, record


def _leveled(waveform, level, gain):
    """The waveform at a level and a gain over it, below full scale, through 16 bits; and the gain in dB that it got."""
    now = rms(waveform)
    factor = 10 ** (gain / 20) * (level / now if now > 0 else 1.0)
    factor = min(factor, _PEAK / max(float(np.abs(waveform).max()), 1e-9))
    return (np.round(waveform * (factor * 32767)) / 32768).astype(np.float32), float(20 * np.log10(factor))


def _moved(intervals, time_map):
    moved = {label: [time_map.interval(*span) for span in spans] for label, spans in intervals.items()}
    return {label: [span for span in spans if span is not None] for label, spans in moved.items()}


def _moved_points(points, time_map):
    return {label: [float(moment) for moment in time_map(moments)] for label, moments in points.items()}


def _cropped(points, first, last, rate):
    return {
        label: [moment - first / rate for moment in moments if first / rate < moment < last / rate]
        for label, moments in points.items()
    }
