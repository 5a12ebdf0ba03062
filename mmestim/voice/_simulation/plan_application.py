"""Application of a plan: its edits one after another, and the place of each in the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .._audio.acquisition import Acquisition
from ..edits import EDITS
from ..edits.base import AudioPool, Interval, rms
from ..records import EditPlan, EditRecord
from ..taxonomy import LABELS, UNALTERED
from ..time_map import TimeMap

_MAX_PEAK = 0.99
# A step is inaudible if it changes the samples by less than this fraction of their level,
_MIN_RELATIVE_CHANGE = 1e-3
# or if fewer than these seconds of it remain.
_MIN_SECONDS = 0.05


def apply_plan(waveform: np.ndarray, plan: EditPlan, pool: AudioPool) -> tuple[np.ndarray, EditRecord]:
    """Trim, condition, record and edit a clip, then crop, level and store it.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
        The clip, floats at the plan's rate.
    plan : EditPlan
        Plan for a clip of this duration.
    pool : AudioPool
        Audio that the plan was drawn for.

    Returns
    -------
    edited : ndarray of shape (n_samples_after,)
        The edited clip, float32.
    record : EditRecord
        The edits and where they are.

    Raises
    ------
    ValueError
        If the clip is not the plan's, or a step lacks its parameters or its audio.
    """
    rate = plan.sample_rate
    clip = _check_waveform(waveform, plan)
    first, last = round(plan.trim[0] * rate), len(clip) - round(plan.trim[1] * rate)
    original = edited = condition(clip[first:last], plan.seed)
    if plan.acquisition is not None:
        edited = plan.acquisition.record(edited, rate)
    full_map = _time_map_of_slice(first, last, len(clip), rate)
    intervals: dict[str, list[Interval]] = {}
    points: dict[str, list[float]] = {}
    is_audible: dict[str, bool] = {}
    for step in plan.steps:
        parameters = {key: value for key, value in step.items() if key != "edit"}
        label, before = step["edit"], edited
        try:
            edited, time_map, new_intervals, new_points, copies = EDITS[label].apply(before, rate, pool, **parameters)
        except TypeError as error:
            raise ValueError(
                f"the step {step} does not have the parameters of {label!r}, or their types are wrong: {error}."
            ) from error
        full_map = full_map.then(time_map)
        intervals = {name: _move_intervals(spans, time_map, copies) for name, spans in intervals.items()}
        points = {name: _move_points(moments, time_map, copies) for name, moments in points.items()}
        intervals[label] = _merge_intervals(intervals.get(label, []) + new_intervals)
        points[label] = sorted({*points.get(label, []), *new_points})
        is_step_audible = _is_audible(before, edited, new_intervals, rate)
        is_audible[label] = is_audible.get(label, False) or is_step_audible
        # Scaled rather than clipped, because an encoder that follows would clip.
        edited = edited * np.float32(min(1.0, _MAX_PEAK / max(np.abs(edited).max(), 1e-9)))
    first, last = round(plan.crop[0] * rate), len(edited) - round(plan.crop[1] * rate)
    if first >= last:
        raise ValueError(f"crop={plan.crop!r} leaves nothing of the {len(edited) / rate:.3f} s after the edits.")
    crop_map = _time_map_of_slice(first, last, len(edited), rate)
    edited, gain = _set_level(edited[first:last], rms(original), plan.gain)
    edited = (plan.acquisition or Acquisition()).store(edited, rate, np.random.default_rng([plan.seed, 1]))
    start, end = first / rate, last / rate
    intervals = {label: _move_intervals(spans, crop_map, []) for label, spans in intervals.items()}
    points = {label: [t - start for t in moments if start < t < end] for label, moments in points.items()}
    remaining = [label for label in LABELS if intervals.get(label) or points.get(label)]
    intervals = {label: [span for span in intervals[label] if span[1] - span[0] >= _MIN_SECONDS] for label in remaining}
    present = [label for label in remaining if is_audible[label] and (intervals[label] or points[label])]
    inaudible = [label for label in remaining if label not in present]
    record = EditRecord(
        labels=present or ([] if inaudible else [UNALTERED]),
        plan=plan,
        intervals={label: intervals[label] for label in present if intervals[label]},
        points={label: points[label] for label in present if points[label]},
        inaudible=inaudible,
        time_map=full_map.then(crop_map),
        duration=len(edited) / rate,
        sample_rate=rate,
        gain=gain,
    )
    return edited, record


def condition(waveform: np.ndarray, seed: int) -> np.ndarray:
    """Remove the constant offset of a clip and add noise of half a 16-bit step."""
    # Steps in the offset would reveal joins. Samples on a 16-bit grid would reveal unedited clips.
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, len(waveform)) / 32768
    return (waveform - waveform.mean(dtype=np.float64) + noise).astype(np.float32)


def _check_waveform(waveform: np.ndarray, plan: EditPlan) -> np.ndarray:
    """Return the clip as float32 after checks against its plan."""
    clip = np.asarray(waveform)
    if clip.ndim != 1 or clip.dtype.kind != "f":
        raise ValueError(
            f"waveform has shape {clip.shape} and dtype {clip.dtype}: it must be a 1-D array of floats, full scale "
            "1. AudioCorpus converts other formats to it."
        )
    if abs(len(clip) / plan.sample_rate - plan.duration) > 1.5 / plan.sample_rate:
        seconds = len(clip) / plan.sample_rate
        raise ValueError(
            f"the plan is for {plan.duration:.3f} s at {plan.sample_rate} Hz, and the waveform has {len(clip)} "
            f"samples, {seconds:.3f} s. Draw a plan for this waveform, after any resampling."
        )
    if not np.isfinite(clip).all():
        raise ValueError("waveform has NaN or infinite samples.")
    return clip.astype(np.float32, copy=False)


def _is_audible(before: np.ndarray, edited: np.ndarray, spans: Sequence[Interval], rate: int) -> bool:
    """Return whether a step changed the samples, or their number at a place where there is sound."""
    floor = _MIN_RELATIVE_CHANGE * rms(before)
    if len(edited) == len(before):
        return rms(edited - before) > floor
    return not spans or any(rms(edited[round(a * rate) : round(b * rate)]) > floor for a, b in spans)


def _set_level(waveform: np.ndarray, level: float, gain: float) -> tuple[np.ndarray, float]:
    """Scale a waveform to a level plus a gain in dB, below full scale.

    The gain that was applied is returned as well, in dB.
    """
    current = rms(waveform)
    factor = 10 ** (gain / 20) * (level / current if current > 0 else 1.0)
    factor = min(factor, _MAX_PEAK / max(float(np.abs(waveform).max()), 1e-9))
    return (waveform * np.float32(factor)).astype(np.float32), float(20 * np.log10(factor))


# Places --------------------------------------------------------------------------------------------


def _time_map_of_slice(first: int, last: int, n_samples: int, rate: int) -> TimeMap:
    """Return the time map of retaining the samples from `first` to `last`."""
    return TimeMap(np.array([0, first, last, n_samples]) / rate, np.array([0, 0, last - first, last - first]) / rate)


def _move_intervals(
    spans: Iterable[Interval], time_map: TimeMap, copies: Iterable[tuple[float, float, float]]
) -> list[Interval]:
    """Return intervals after an edit, including the parts of them that it copied."""
    spans = list(spans)
    moved = [piece for span in spans for piece in time_map.intervals(*span)]
    for start, end, at in copies:
        shared = [(max(first, start), min(last, end)) for first, last in spans]
        moved += [(first - start + at, last - start + at) for first, last in shared if last > first]
    return _merge_intervals(moved)


def _move_points(
    moments: Sequence[float], time_map: TimeMap, copies: Iterable[tuple[float, float, float]]
) -> list[float]:
    """Return points after an edit, including those that it copied."""
    moved = [float(moment) for moment in time_map(moments)]
    moved += [moment - start + at for start, end, at in copies for moment in moments if start < moment < end]
    return sorted(moved)


def _merge_intervals(spans: Iterable[Interval]) -> list[Interval]:
    """Return intervals in order, with adjacent and overlapping ones merged."""
    merged: list[Interval] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1e-9:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
