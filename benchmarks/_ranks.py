"""Mean ranks of estimators over data sets, with the critical difference of Nemenyi (Demsar, JMLR 2006)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from _report import grouped


def ranks(results: list[dict[str, Any]]) -> tuple[list[str], np.ndarray]:
    """Return the estimators that ran on every data set, and their ranks of shape (n_data_sets, n_estimators).

    Rank 1 is the best. The accuracies on a data set are means over the seeds that all estimators share.
    """
    groups = grouped(results)
    names = [name for name in next(iter(groups.values())) if all(name in estimators for estimators in groups.values())]
    accuracy = []
    for estimators in groups.values():
        seeds = set.intersection(*(set(estimators[name]) for name in names))
        accuracy.append([np.mean([estimators[name][seed]["accuracy"] for seed in seeds]) for name in names])
    return names, rankdata(-np.round(accuracy, 6), axis=1)


def critical_difference(n_estimators: int, n_data_sets: int) -> float:
    """Return the difference of mean ranks at which two estimators differ significantly at the 5 % level."""
    quantile = studentized_range.ppf(0.95, n_estimators, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(n_estimators * (n_estimators + 1) / (6 * n_data_sets)))


def draw_ranks(results: list[dict[str, Any]], path: Path) -> bool:
    """Plot the ranks and return True; return False with fewer than three data sets or three estimators."""
    from matplotlib.figure import Figure  # unlike pyplot, has no global state

    names, table = ranks(results)
    if min(table.shape) < 3:
        return False
    mean_ranks, difference = table.mean(axis=0), critical_difference(len(names), len(table))
    order = mean_ranks.argsort(kind="stable")
    figure = Figure(figsize=(8, 1.2 + 0.25 * len(names)), layout="constrained")
    panel = figure.subplots()
    positions = np.arange(len(names))
    panel.plot(table[:, order].T, positions, "|", color="tab:gray", alpha=0.5)
    panel.plot(mean_ranks[order], positions, "o", color="tab:blue")
    best = mean_ranks[order[0]]
    panel.axvspan(best, best + difference, color="tab:blue", alpha=0.12, linewidth=0)
    panel.set_yticks(positions, [names[number] for number in order])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel("rank on each data set and mean rank (1 is the best)")
    panel.set_title(
        f"{len(table)} data sets, some of which share rows. Friedman: p = {friedmanchisquare(*table.T).pvalue:.2g}.\n"
        "Band: no significant difference from the best at the 5 % level (Nemenyi)",
        loc="left",
        fontsize=9,
    )
    panel.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)
    return True
