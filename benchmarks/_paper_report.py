"""Report of papers.py: published figures beside ours."""

from __future__ import annotations

from typing import Any

import torch

import mmestim
from _paper_figures import TABLES, Row
from _report import aligned
from _results import Metric, modalities_of

SCORES = (Metric("accuracy", "accuracy", 100, 2, 1), Metric("macro_f1", "F1", 100, 2, 1))
Results = dict[str, dict[int, dict[str, Any]]]  # by estimator and seed


def markdown(title: str, data_set: str, results: Results, notes: list[str]) -> str:
    """Return the tables of the papers for one data set."""
    lines = [
        f"# The papers' protocol on {title}\n",
        "Accuracy and F1 in %. **Published** figures are those of the papers. The others are measured here: means over "
        "the seeds, which draw the initial weights, and half-widths of 95 % t-intervals. F1 is the mean over the "
        f"classes. mmestim {mmestim.__version__}, torch {torch.__version__}.\n",
        *(f"- {note}" for note in notes),
    ]
    for table in TABLES:
        rows = [row for row in table.rows if data_set in row.published or row.estimator in results]
        if any(row.estimator in results for row in rows):
            lines += [f"\n## {table.title}\n", *([f"{table.note}\n"] if table.note else [])]
            lines += table_lines(rows, data_set, results)
    lines += ["\n## Modalities\n", *modality_lines(results)]
    return "\n".join(lines) + "\n"


def table_lines(rows: list[Row], data_set: str, results: Results) -> list[str]:
    """Return the lines of one table."""
    cells = [["method", "accuracy, published", "F1, published", "accuracy", "F1", "seeds"]]
    for row in rows:
        published = ["" if figure is None else f"{figure:.2f}" for figure in row.published.get(data_set, (None, None))]
        runs = results.get(row.estimator or "", {})
        measured = ["", ""]
        if runs:
            measured = [metric.cell(scores(runs, metric.field, row.modality)) for metric in SCORES]
        cells.append([row.method, *published, *measured, str(len(runs)) if runs else ""])
    return aligned(cells)


def scores(runs: dict[int, dict[str, Any]], field: str, modality: int | None) -> list[float]:
    """Return a score of each run, of the fused output or of one modality."""
    if modality is None:
        return [run[field] for run in runs.values()]
    return [list(run[f"{field}_alone"].values())[modality] for run in runs.values()]


def modality_lines(results: Results) -> list[str]:
    """Return the accuracy of each modality within each estimator, the anchors and the mean weights of guidance."""
    runs_by_name = {
        name: {seed: {"alone": run["accuracy_alone"]} for seed, run in runs.items()} for name, runs in results.items()
    }
    modalities = modalities_of(runs_by_name)
    cells = [["accuracy alone", *modalities, "seeds as anchor", "consistency, complementarity"]]
    for name, runs in results.items():
        alone = [SCORES[0].cell([run["accuracy_alone"][modality] for run in runs.values()]) for modality in modalities]
        anchors = [run["anchor"] for run in runs.values() if run["anchor"]]
        counts = ", ".join(f"{modality} {anchors.count(modality)}" for modality in modalities if modality in anchors)
        weights = [list(run["guidance"].values()) for run in runs.values() if run["guidance"]]
        means = ", ".join(f"{sum(values) / len(values):.2f}" for values in zip(*weights, strict=True))
        cells.append([name, *alone, counts, means])
    return aligned(cells)
