"""Mean ranks of estimators over data sets, with the critical difference of Nemenyi (Demsar, JMLR 2006)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from _results import ACCURACY, LOG_LOSS, Metric, grouped, on_common_seeds, values_of


def ranks(results: list[dict[str, Any]], metric: Metric = ACCURACY) -> tuple[list[str], np.ndarray]:
    """Return the estimators that ran on every data set, and their ranks of shape (n_data_sets, n_estimators).

    Rank 1 is the best. The scores on a data set are means over the seeds that all estimators share.
    """
    groups = grouped(results)
    names = [name for name in next(iter(groups.values())) if all(name in estimators for estimators in groups.values())]
    if not names:
        return [], np.empty((len(groups), 0))
    shared = [on_common_seeds({name: estimators[name] for name in names}) for estimators in groups.values()]
    scores = [[np.mean(values_of(runs, metric.field)) for runs in estimators.values()] for estimators in shared]
    return names, rankdata(-metric.sign * np.round(scores, 6), axis=1)


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
    figure = Figure(figsize=(13, 1.2 + 0.25 * len(names)), layout="constrained")
    for panel, metric in zip(figure.subplots(1, 2), (ACCURACY, LOG_LOSS), strict=True):
        draw_metric(panel, names, ranks(results, metric)[1], metric)
    figure.suptitle("Band: no significant difference from the best at the 5 % level (Nemenyi)", fontsize=9)
    figure.savefig(path, dpi=150)
    return True


def draw_metric(panel: Any, names: list[str], table: np.ndarray, metric: Metric) -> None:
    """Draw the rank of each estimator on each data set and its mean rank."""
    mean_ranks, difference = table.mean(axis=0), critical_difference(len(names), len(table))
    order = mean_ranks.argsort(kind="stable")
    positions = np.arange(len(names))
    panel.plot(table[:, order].T, positions, "|", color="tab:gray", alpha=0.5)
    panel.plot(mean_ranks[order], positions, "o", color="tab:blue")
    best = mean_ranks[order[0]]
    panel.axvspan(best, best + difference, color="tab:blue", alpha=0.12, linewidth=0)
    panel.set_yticks(positions, [names[number] for number in order])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel("rank on each data set and mean rank (1 is the best)")
    p_value = friedmanchisquare(*table.T).pvalue
    panel.set_title(f"{metric.name}, {len(table)} data sets. Friedman: p = {p_value:.2g}", loc="left", fontsize=9)
    panel.grid(axis="x", alpha=0.3)
