"""What a detector found, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..localization import EditSegment
from ..taxonomy import LABELS, TAXONOMY, UNALTERED


def explanation(
    duration: float,
    proba: Mapping[str, float],
    found: Sequence[str],
    segments: Sequence[EditSegment],
    recalls: Mapping[str, float],
) -> str:
    """A paragraph on one recording that can be quoted.

    Parameters
    ----------
    duration : float
        Seconds of it.
    proba : dict of str to float
        Probability of each label that was looked for, of 'unaltered' too.
    found : sequence of str
        Edits that were found, in the order to tell them.
    segments : sequence of EditSegment
        Where.
    recalls : dict of str to float
        How often each label is found where it is; NaN where that was never tried, as no clip was long enough.
    """
    edits = list(found)
    if edits:
        parts = [
            _described(label, proba[label], duration, [segment for segment in segments if segment.label == label])
            for label in edits
        ]
        first = f"The recording of {duration:.1f} s shows signs of {_listed(parts)}."
    else:
        first = (
            f"The recording of {duration:.1f} s shows no sign of the edits that were looked for; the probability that "
            f"none of them was made is {percent(proba[UNALTERED])}."
        )
    others = [label for label in proba if label not in (*edits, UNALTERED) and not math.isnan(recalls[label])]
    seen, missed = ([_named(label) for label in others if (recalls[label] < 0.5) == often] for often in (False, True))
    absent = f" Looked for and not found: {_listed(seen)}." if seen else ""
    if missed:
        absent += f" Not found either, though in tests more often missed than found: {_listed(missed)}."
    untested = [label for label in LABELS[1:] if label not in (*edits, *others)]
    missing = f" Not tested for: {_listed([_named(label) for label in untested])}." if untested else ""
    return (
        f"{first}{absent}{missing} Probabilities hold for speech like that which the detector was trained on, and are "
        "no proof."
    )


def _described(label, proba, duration, segments):
    where = ""
    points = [f"{s.start:.2f} s" for s in segments if s.is_point]
    spans = [f"{s.start:.2f} to {s.end:.2f} s" for s in segments if not s.is_point and s.duration < 0.98 * duration]
    if points:
        where += f" at {_listed(points)}"
    if spans:
        where += f" from {_listed(spans)}"
    return f"{_named(label)}{where} (probability {percent(proba)})"


def _named(label):
    return f"{label} ({TAXONOMY[label].imitates})" if label in TAXONOMY else label


def percent(proba: float) -> str:
    """A probability in words that promise no more than it can tell."""
    if math.isnan(proba):
        return "unknown"
    return f"{100 * proba:.0f} %" if 0.01 <= proba <= 0.99 else "below 1 %" if proba < 0.5 else "above 99 %"


def _listed(parts):
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
