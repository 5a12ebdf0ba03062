"""How far a metric may be from its value, when clips come in groups."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..._utils.validation import check_confidence_level, check_number


def bootstrap_interval(
    metric: Callable[..., Any],
    groups: Sequence[Any],
    *data: Any,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> tuple[Any, Any]:
    """Confidence interval of a metric by drawing groups of clips, such as speakers.

    Clips of one speaker are alike, so intervals from drawing clips would be too narrow. As many groups as
    there are get drawn with replacement, each with all of its clips, and the metric is computed anew; the
    ends of the interval are quantiles of the results (the percentile method).

    Parameters
    ----------
    metric : callable
        From the drawn rows of each of `data` to a number, or to an array of numbers with an interval each.
    groups : sequence of length n_clips
        To which group each clip belongs; any values that can be in a set.
    *data : ndarray or list of length n_clips
        What the metric takes: labels and scores, or segments of each clip.
    n_resamples : int, default=1000
        How often groups are drawn.
    confidence_level : float, default=0.95
        Between 0 and 1.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws.

    Returns
    -------
    low, high : float or ndarray
        Ends of the interval. Draws in which the metric is NaN are left out; NaN where it always is.

    Raises
    ------
    ValueError
        If lengths differ, a group is missing (None or NaN), or there is only one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import accuracy_score
    >>> from mmestim.voice.metrics import bootstrap_interval
    >>> y_true, y_pred = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 0, 0, 1])
    >>> low, high = bootstrap_interval(accuracy_score, list("aabbcc"), y_true, y_pred, random_state=0)
    >>> print(round(low, 2), round(high, 2))
    0.5 1.0
    """
    check_number("n_resamples", n_resamples, low=1, integer=True)
    check_confidence_level(confidence_level)
    if unequal := [len(rows) for rows in data if len(rows) != len(groups)]:
        raise ValueError(f"data has {unequal[0]} rows and groups {len(groups)}: give a group for each row.")
    members: dict[Any, list[int]] = {}
    for row, group in enumerate(groups):
        if group is None or group != group:
            raise ValueError(f"groups has no value for row {row}. Leave the row out, or give it a group of its own.")
        members.setdefault(group, []).append(row)
    if len(members) < 2:
        raise ValueError(f"groups has {len(members)} group: there is nothing to draw from. Give at least 2.")
    clips = [np.array(rows) for rows in members.values()]
    rng = check_random_state(random_state)
    values = []
    for _ in range(n_resamples):
        drawn = np.concatenate([clips[group] for group in rng.randint(len(clips), size=len(clips))])
        values.append(metric(*(_taken(rows, drawn) for rows in data)))
    tail = (1 - confidence_level) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        low, high = np.nanquantile(np.asarray(values, dtype=np.float64), [tail, 1 - tail], axis=0)
    return (float(low), float(high)) if np.ndim(low) == 0 else (low, high)


def _taken(rows, drawn):
    return rows[drawn] if isinstance(rows, np.ndarray) else [rows[row] for row in drawn]
