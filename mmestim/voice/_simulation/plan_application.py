"""The edits of a plan, one after another, and where each is in the end."""

from __future__ import annotations

import numpy as np

from ..edits import EDITS
from ..edits.base import AudioPool, Interval, rms
from ..records import EditPlan, EditRecord
from ..taxonomy import LABELS, UNALTERED
from ..time_map import TimeMap

_PEAK = 0.99
# A step that changes the samples by less than this share of their level is neither there nor absent.
_AUDIBLE = 1e-3
# Nor is one of which less than these seconds are left.
_SHORTEST = 0.05


def apply_plan(waveform: np.ndarray, plan: EditPlan, pool: AudioPool) -> tuple[np.ndarray, EditRecord]:
    """Trim and prepare a clip, edit it, and bring it into the state that every clip is left in."""
    rate = plan.sample_rate
    given = _checked(waveform, plan)
    first, last = round(plan.trim[0] * rate), len(given) - round(plan.trim[1] * rate)
    original = edited = condition(given[first:last], plan.seed)
    whole = _keeping(first, last, len(given), rate)
    intervals: dict[str, list[Interval]] = {}
    points: dict[str, list[float]] = {}
    heard: dict[str, bool] = {}
    for step in plan.steps:
        parameters = {key: value for key, value in step.items() if key != "edit"}
        label, before = step["edit"], edited
        try:
            edited, time_map, new_intervals, new_points, copies = EDITS[label].apply(before, rate, pool, **parameters)
        except TypeError as error:
            raise ValueError(
                f"the step {step} has not the parameters of {label!r}, or not of their types: {error}."
            ) from error
        whole = whole.then(time_map)
        intervals = {name: _moved(spans, time_map, copies) for name, spans in intervals.items()}
        points = {name: _moved_points(moments, time_map, copies) for name, moments in points.items()}
        intervals[label] = _merged(intervals.get(label, []) + new_intervals)
        points[label] = sorted({*points.get(label, []), *new_points})
        is_heard = _is_heard(before, edited, new_intervals, rate)
        heard[label] = heard.get(label, False) or is_heard
        # Scaled, not clipped: an encoder after it would clip.
        edited = edited * np.float32(min(1.0, _PEAK / max(np.abs(edited).max(), 1e-9)))
    first, last = round(plan.crop[0] * rate), len(edited) - round(plan.crop[1] * rate)
    if first >= last:
        raise ValueError(f"crop={plan.crop!r} leaves nothing of the {len(edited) / rate:.3f} s after the edits.")
    cropping = _keeping(first, last, len(edited), rate)
    edited, gain = _leveled(edited[first:last], rms(original), plan.gain)
    ends = (first / rate, last / rate)
    spans = {label: _moved(s, cropping, []) for label, s in intervals.items()}
    moments = {label: [t - ends[0] for t in ts if ends[0] < t < ends[1]] for label, ts in points.items()}
    left = [label for label in LABELS if spans.get(label) or moments.get(label)]
    spans = {label: [span for span in spans[label] if span[1] - span[0] >= _SHORTEST] for label in left}
    there = [label for label in left if heard[label] and (spans[label] or moments[label])]
    inaudible = [label for label in left if label not in there]
    record = EditRecord(
        labels=there or ([] if inaudible else [UNALTERED]),
        plan=plan,
        intervals={label: spans[label] for label in there if spans[label]},
        points={label: moments[label] for label in there if moments[label]},
        inaudible=inaudible,
        time_map=whole.then(cropping),
        duration=len(edited) / rate,
        sample_rate=rate,
        gain=gain,
    )
    return edited, record


def condition(waveform: np.ndarray, seed: int) -> np.ndarray:
    """A clip without a constant offset and with noise of half a step of 16 bits.

    Steps in the offset tell of joins; so do samples that are on a grid of 16 bits where those of edited clips
    are not.
    """
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, len(waveform)) / 32768
    return (waveform - waveform.mean(dtype=np.float64) + noise).astype(np.float32)


def _is_heard(before, edited, spans, rate):
    """Whether a step changed the samples, or their number where they can be heard."""
    floor = _AUDIBLE * rms(before)
    if len(edited) == len(before):
        return rms(edited - before) > floor
    return not spans or any(rms(edited[round(a * rate) : round(b * rate)]) > floor for a, b in spans)


def _checked(waveform, plan):
    """The clip as the plan wants it."""
    given = np.asarray(waveform)
    if given.ndim != 1 or given.dtype.kind != "f":
        raise ValueError(
            f"waveform has shape {given.shape} and dtype {given.dtype}: it must be a 1-D array of floats, full scale "
            "1. AudioCorpus makes them of anything."
        )
    if abs(len(given) / plan.sample_rate - plan.duration) > 1.5 / plan.sample_rate:
        seconds = len(given) / plan.sample_rate
        raise ValueError(
            f"the plan is for {plan.duration:.3f} s at {plan.sample_rate} Hz, and the waveform has {len(given)} "
            f"samples, {seconds:.3f} s. Draw one for it, after any resampling."
        )
    if not np.isfinite(given).all():
        raise ValueError("waveform has NaN or infinite samples.")
    return given.astype(np.float32, copy=False)


def _keeping(first, last, n_samples, rate):
    """The time map of keeping some samples."""
    return TimeMap(np.array([0, first, last, n_samples]) / rate, np.array([0, 0, last - first, last - first]) / rate)


def _leveled(waveform, level, gain):
    """The waveform at a level and a gain over it, below full scale, through 16 bits; and the gain in dB that it got."""
    now = rms(waveform)
    factor = 10 ** (gain / 20) * (level / now if now > 0 else 1.0)
    factor = min(factor, _PEAK / max(float(np.abs(waveform).max()), 1e-9))
    return (np.round(waveform * (factor * 32767)) / 32768).astype(np.float32), float(20 * np.log10(factor))


def _moved(spans, time_map, copies):
    """Intervals after an edit, what it copied of them included."""
    moved = [piece for span in spans for piece in time_map.intervals(*span)]
    for start, end, at in copies:
        shared = [(max(first, start), min(last, end)) for first, last in spans]
        moved += [(first - start + at, last - start + at) for first, last in shared if last > first]
    return _merged(moved)


def _moved_points(moments, time_map, copies):
    moved = [float(moment) for moment in time_map(moments)]
    moved += [moment - start + at for start, end, at in copies for moment in moments if start < moment < end]
    return sorted(moved)


def _merged(spans):
    """Intervals in their order, those that touch made one."""
    merged: list[Interval] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1e-9:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
