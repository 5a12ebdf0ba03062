"""Report of balance.py: Markdown tables of the stored results."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import mmestim
from _aims import aims
from _estimators import BASELINE
from _ranks import ranks
from _references import REFERENCES
from _results import (
    ACCURACY,
    CALIBRATION_ERROR,
    LOG_LOSS,
    Metric,
    Runs,
    best_of,
    gains_over_best_branch,
    grouped,
    mean,
    modalities_of,
    on_common_seeds,
    paired_differences,
    values_of,
)

METRICS = (ACCURACY, LOG_LOSS, CALIBRATION_ERROR)


def markdown(results: list[dict[str, Any]], notes: dict[str, str], split: str, baseline: str = BASELINE) -> str:
    """Return the report: the aims, an overview and the tables of each data set."""
    groups = grouped(results)
    n_states = len({result["code"] for result in results} - {""})
    text = [
        "# Balance\n",
        f"Scores on {split} rows: means over the seeds and half-widths of 95 % t-intervals. Accuracy and expected "
        "calibration error (top label, 15 bins of equal width) are in %, log-loss is in nats. A seed draws training "
        "rows and initial weights, and the scored rows too unless these are fixed. Differences are paired by seed; "
        "rows with fewer seeds use the first ones, so compare them by their difference. scikit-learn's rows are "
        f"{', '.join(REFERENCES)}; the best of them on a data set is the one with the best mean there. Seconds: CPU "
        f"time of one fit on one thread. mmestim {mmestim.__version__}, torch {torch.__version__}.",
    ]
    if n_states > 1:
        text.append(f"\n{n_states} states of the package's code computed these rows; --fresh repeats them with one.")
    text += aims(results)
    text += overview(groups, baseline)
    for data_set, estimators in groups.items():
        text += ["", f"## {data_set}\n", *([notes[data_set] + "\n"] if notes[data_set] else [])]
        text += [*score_table(estimators, baseline), ""]
        text += [*modality_table(estimators), *weight_table(estimators)]
    return "\n".join(text) + "\n"


# Overview ----------------------------------------------------------------------------------------


def overview(groups: dict[str, dict[str, Runs]], baseline: str) -> list[str]:
    """Return tables of mean ranks, of differences in accuracy and of log-losses, on common seeds."""
    if len(groups) < 2:
        return []
    groups = {data_set: on_common_seeds(estimators) for data_set, estimators in groups.items()}
    text = ["", "## Overview\n"]
    text.append("All figures are on the seeds that all estimators share on a data set (number in brackets).")
    text += rank_table(groups)
    names = list(dict.fromkeys(name for estimators in groups.values() for name in estimators))
    header = ["estimator", *(f"{data_set} ({len(next(iter(e.values())))})" for data_set, e in groups.items())]
    if all(baseline in estimators for estimators in groups.values()):
        text += ["", f"Accuracy of {baseline}, and differences from it in points:\n"]
        text += aligned([header, *([name, *difference_cells(groups, name, baseline)] for name in names)])
    text += ["", "Log-loss:\n"]
    cells = {
        name: [LOG_LOSS.cell(values_of(e[name], "log_loss")) if name in e else "" for e in groups.values()]
        for name in names
    }
    return [*text, *aligned([header, *([name, *cells[name]] for name in names)])]


def difference_cells(groups: dict[str, dict[str, Runs]], name: str, baseline: str) -> list[str]:
    cells = []
    for estimators in groups.values():
        if name not in estimators:
            cells.append("")
        elif name == baseline:
            cells.append(f"{mean(estimators[name], 'accuracy'):.1f}")
        else:
            cells.append(ACCURACY.cell(paired_differences(estimators[name], estimators[baseline], "accuracy"), "+"))
    return cells


def rank_table(groups: dict[str, dict[str, Runs]]) -> list[str]:
    """Return the mean ranks and the mean scores of the estimators that ran on every data set."""
    results = [run for e in groups.values() for runs in e.values() for run in runs.values()]
    names, accuracy_ranks = ranks(results, ACCURACY)
    if len(names) < 2:
        return []
    log_loss_ranks = ranks(results, LOG_LOSS)[1]
    rows = [["estimator", "mean rank in accuracy", "mean rank in log-loss", *(f"mean {m.name}" for m in METRICS)]]
    for column in accuracy_ranks.mean(axis=0).argsort(kind="stable"):
        name = names[column]
        means = [np.mean([np.mean(values_of(e[name], m.field)) for e in groups.values()]) for m in METRICS]
        rows.append(
            [
                name,
                f"{accuracy_ranks[:, column].mean():.2f}",
                f"{log_loss_ranks[:, column].mean():.2f}",
                *(f"{m.scale * value:.{m.digits}f}" for m, value in zip(METRICS, means, strict=True)),
            ]
        )
    title = f"Mean ranks over {len(groups)} data sets (1 is the best), for the estimators that ran on all of them:"
    return ["", title + "\n", *aligned(rows)]


# Tables of one data set ---------------------------------------------------------------------------


def score_table(estimators: dict[str, Runs], baseline: str) -> list[str]:
    """Return scores and their differences from the baseline, the best scikit-learn row and the own best branch."""
    references: list[tuple[str, Metric, Runs]] = []  # columns of differences
    for metric in (ACCURACY, LOG_LOSS):
        if baseline in estimators:
            references.append((baseline, metric, estimators[baseline]))
        if best := best_of(estimators, REFERENCES, metric):
            references.append((f"best scikit-learn ({best})", metric, estimators[best]))
    header = ["estimator", "seeds", *(metric.name for metric in METRICS)]
    header += [f"{metric.name} minus {name}" for name, metric, _ in references]
    rows = [[*header, "won, lost, tied", "accuracy minus own best branch"]]
    for name, runs in estimators.items():
        row = [name, str(len(runs)), *(metric.cell(values_of(runs, metric.field)) for metric in METRICS)]
        row += [difference_cell(runs, reference, metric) for _, metric, reference in references]
        row += [outcomes(runs, estimators.get(baseline, {}))]
        gains = gains_over_best_branch(runs)
        rows.append([*row, ACCURACY.cell(gains, "+") if len(gains) else ""])
    return aligned(rows)


def difference_cell(runs: Runs, reference: Runs, metric: Metric) -> str:
    differences = paired_differences(runs, reference, metric.field)
    return metric.cell(differences, "+") if len(differences) and runs is not reference else ""


def outcomes(runs: Runs, reference: Runs) -> str:
    """Return the numbers of seeds on which the accuracy is above, below and equal to that of a reference."""
    differences = paired_differences(runs, reference, "accuracy")
    if not len(differences) or runs is reference:
        return ""
    return ", ".join(str(outcome.sum()) for outcome in (differences > 0, differences < 0, differences == 0))


def modality_table(estimators: dict[str, Runs]) -> list[str]:
    """Return the accuracy of each modality alone, that of a linear probe of its features in brackets, and seconds."""
    modalities = modalities_of(estimators)
    rows = [["accuracy alone (linear probe)", *modalities, "seconds"]]
    for name, runs in estimators.items():
        cells = [alone_and_probe(runs, modality) for modality in modalities]
        rows.append([name, *cells, f"{np.mean(values_of(runs, 'fit_seconds')):.1f}"])
    return aligned(rows)


def alone_and_probe(runs: Runs, name: str) -> str:
    """Return the mean accuracy of a modality alone and, in brackets, that of a linear probe of its features."""
    texts = [
        f"{mean(runs, field, name):.1f}"
        for field in ("alone", "probe")
        if all(name in result[field] for result in runs.values())
    ]
    return " (".join(texts) + ")" * (len(texts) - 1)


def weight_table(estimators: dict[str, Runs]) -> list[str]:
    """Return the mean weights of fusion and of guidance, and the anchors; nothing where no estimator has any."""
    rows = []
    for name, runs in estimators.items():
        for modality in modalities_of(estimators):
            keys = {"fusion_weights": [modality]}
            keys["guidance"] = [f"{modality}.{loss}" for loss in ("consistency", "complementarity")]
            values = [
                [run[field][key] for run in runs.values() if key in run[field]] for field in keys for key in keys[field]
            ]
            cells = [f"{np.mean(v):.2f}" if v else "" for v in values]
            n_anchor = sum(run["anchor"] == modality for run in runs.values())
            cells.append(str(n_anchor) if n_anchor else "")
            if any(cells):
                rows.append([name, modality, *cells])
    if not rows:
        return []
    header = ["weights", "modality", "fusion", "consistency", "complementarity", "seeds as anchor"]
    return ["", "Mean weights of fusion, and of the losses that guide a modality.\n", *aligned([header, *rows])]


def aligned(rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [f"| {' | '.join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True))} |" for cells in rows]
