"""Confidence intervals of metrics over clips that come in groups."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ..._utils.types import Seed
from ..._utils.validation import check_confidence_level, check_number


def bootstrap_interval(
    metric: Callable[..., Any],
    groups: Sequence[Hashable] | NDArray[Any],
    *data: Any,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Seed = None,
) -> tuple[Any, Any]:
    """Compute the confidence interval of a metric by resampling groups of clips, such as speakers.

    Clips of one speaker resemble each other, so resampling single clips would give intervals that are too narrow. Each
    resample draws as many groups as there are, with replacement and with all of their clips. The bounds of the interval
    are quantiles of the metric over the resamples (the percentile method).

    Parameters
    ----------
    metric : callable
        Function of the resampled rows of each of `data`. It returns a number, or an array of numbers, which get one
        interval each.
    groups : sequence of length n_clips
        Group of each clip; any hashable values.
    *data : ndarray or list of length n_clips
        Arguments of the metric, such as labels and scores, or segments of each clip.
    n_resamples : int, default=1000
        Number of resamples.
    confidence_level : float, default=0.95
        Probability that the interval is to contain the metric, between 0 and 1.
    random_state : int, RandomState instance or None, default=None
        Seed of the resampling.

    Returns
    -------
    low, high : float or ndarray
        Bounds of the interval. Resamples in which the metric is NaN are skipped; NaN if it is NaN in all of them.

    Raises
    ------
    ValueError
        If lengths differ, the group of a clip is missing (None or NaN), or there is only one group.

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
        raise ValueError(f"data has {unequal[0]} rows, but groups has {len(groups)}. Give one group for each row.")
    rows_of_group: dict[Any, list[int]] = {}
    for row, group in enumerate(groups):
        if group is None or group != group:
            raise ValueError(f"groups has no value for row {row}. Leave the row out, or give it a group of its own.")
        rows_of_group.setdefault(group, []).append(row)
    if len(rows_of_group) < 2:
        raise ValueError(f"groups has {len(rows_of_group)} group, which cannot be resampled. Give at least 2.")
    group_rows = [np.array(rows) for rows in rows_of_group.values()]
    rng = check_random_state(random_state)
    values = []
    for _ in range(n_resamples):
        resampled = np.concatenate([group_rows[i] for i in rng.randint(len(group_rows), size=len(group_rows))])
        values.append(metric(*(_take(rows, resampled) for rows in data)))
    tail = (1 - confidence_level) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        low, high = np.nanquantile(np.asarray(values, dtype=np.float64), [tail, 1 - tail], axis=0)
    return (float(low), float(high)) if np.ndim(low) == 0 else (low, high)


def _take(rows: Any, indices: np.ndarray) -> Any:
    return rows[indices] if isinstance(rows, np.ndarray) else [rows[i] for i in indices]
