"""Checks of balance.py: whether the default late fusion and UDI reach the aims that the benchmark sets for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from _estimators import ESTIMATORS, LATE, UDI
from _ranks import ranks
from _references import REFERENCES
from _results import (
    ACCURACY,
    LOG_LOSS,
    Runs,
    best_of,
    gains_over_best_branch,
    grouped,
    interval,
    is_positive,
    paired_differences,
)

DEFAULTS = (LATE, UDI)
BELOW_REFERENCE, BELOW_BRANCH, COLLAPSE = 1.0, 0.5, 20.0  # largest accepted losses, in points of accuracy


def aims(results: list[dict[str, Any]]) -> list[str]:
    """Return a list of the aims with the outcome of each; nothing unless the defaults and scikit-learn's rows ran."""
    groups = grouped(results)
    names = {name for estimators in groups.values() for name in estimators}
    if not {*DEFAULTS, *REFERENCES} <= names:
        return []
    checks = [
        *(rank_check(results, metric) for metric in (ACCURACY, LOG_LOSS)),
        (
            f"{' and '.join(DEFAULTS)}: nowhere more than {BELOW_REFERENCE:g} point below the best scikit-learn row "
            "with an interval clear of zero",
            [text for name in DEFAULTS for text in below_references(groups, name)],
        ),
        (
            f"{' and '.join(DEFAULTS)}: nowhere more than {BELOW_BRANCH:g} points below their own best branch",
            [text for name in DEFAULTS for text in below_branches(groups, name)],
        ),
        (
            f"no seed of the package's estimators is more than {COLLAPSE:g} points below the median of all rows on its "
            "split",
            collapses(groups),
        ),
    ]
    lines = [f"- {'FAIL' if failures else 'pass'}: {aim}. {'; '.join(failures)}".rstrip() for aim, failures in checks]
    return ["", "## Aims\n", f"Computed from the tables below, on {len(groups)} data sets.\n", *lines]


def rank_check(results: list[dict[str, Any]], metric: Any) -> tuple[str, list[str]]:
    """Check that the defaults have better mean ranks than all other rows."""
    names, table = ranks(results, metric)
    aim = f"{' and '.join(DEFAULTS)}: best mean ranks in {metric.name}"
    if missing := [name for name in DEFAULTS if name not in names]:
        return aim, [f"{', '.join(missing)} did not run on every data set"]
    mean_ranks = dict(zip(names, table.mean(axis=0), strict=True))
    worst = max(mean_ranks[name] for name in DEFAULTS)
    better = sorted(name for name in names if name not in DEFAULTS and mean_ranks[name] <= worst)
    ordered = ", ".join(f"{name} {mean_ranks[name]:.2f}" for name in sorted(names, key=mean_ranks.__getitem__))
    return f"{aim} ({ordered})", [f"not behind: {', '.join(better)}"] if better else []


def below_references(groups: dict[str, dict[str, Runs]], name: str) -> list[str]:
    """Return the data sets on which an estimator is clearly below the best scikit-learn row."""
    failures = []
    for data_set, estimators in groups.items():
        best = best_of(estimators, REFERENCES, ACCURACY)
        if best is None or name not in estimators:
            failures.append(f"{name} or scikit-learn's rows are missing on {data_set}")
            continue
        differences = paired_differences(estimators[name], estimators[best], "accuracy")
        value, half_width = interval(differences)
        if value < -BELOW_REFERENCE and is_positive(-value, half_width):
            failures.append(f"{name} on {data_set} {ACCURACY.cell(differences, '+')} from {best}")
    return failures


def below_branches(groups: dict[str, dict[str, Runs]], name: str) -> list[str]:
    """Return the data sets on which an estimator is below the modality that is its best one alone."""
    failures = []
    for data_set, estimators in groups.items():
        gains = gains_over_best_branch(estimators[name]) if name in estimators else np.array([])
        if len(gains) and interval(gains)[0] < -BELOW_BRANCH:
            failures.append(f"{name} on {data_set} {ACCURACY.cell(gains, '+')}")
    return failures


def collapses(groups: dict[str, dict[str, Runs]]) -> list[str]:
    """Return the runs whose accuracy is far below the median of all estimators on the same split."""
    failures = []
    for data_set, estimators in groups.items():
        for name in (name for name in estimators if name.partition("@")[0] in ESTIMATORS):
            for seed, run in estimators[name].items():
                peers = [runs[seed]["accuracy"] for runs in estimators.values() if seed in runs]
                if 100 * (np.median(peers) - run["accuracy"]) > COLLAPSE:
                    failures.append(f"{name} on {data_set}, seed {seed}: {100 * run['accuracy']:.1f}")
    return failures
