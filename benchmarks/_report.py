"""Reports of balance.py: lines of a CSV file, and the table, plot and conclusion that are computed from them."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t

import mmestim

BASELINE = "joint-concat"
ALONE = "late"  # its branches are modalities trained alone
KEY = ("data_set", "estimator", "seed", "split", "config")
FIELDS = (*KEY, "accuracy", "alone", "probe", "anchor", "n_iter", "fit_seconds", "device")
Runs = dict[int, dict[str, Any]]  # by seed

# Lines -----------------------------------------------------------------------------------------


def append_line(path: Path, line: list[str]) -> dict[str, str]:
    """Append a line in a single write, so that no partial line is stored, and return it as a dict."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([line] if path.exists() else [FIELDS, line])
    with path.open("ab", buffering=0) as file:
        file.write(text.getvalue().encode())
    return dict(zip(FIELDS, line, strict=True))


def load_results(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the results of earlier calls by key; the last line of a key counts."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            sys.exit(f"{path} does not have the columns that this script writes. Move it away or choose another --out.")
        complete_lines = [line for line in reader if None not in line and None not in line.values()]
    return {tuple(line[field] for field in KEY): parse_line(line) for line in complete_lines}


def format_scores(scores: dict[str, float]) -> str:
    """Format the scores of all modalities as one field, such as "audio=0.95;image=0.91"."""
    return ";".join(f"{name}={value:.5f}" for name, value in scores.items())


def parse_line(line: dict[str, str]) -> dict[str, Any]:
    """Convert the numeric fields of a line to numbers."""
    result: dict[str, Any] = {**line, "seed": int(line["seed"])}
    result |= {field: float(line[field]) for field in ("accuracy", "fit_seconds")}
    for field in ("alone", "probe"):
        pairs = (part.split("=") for part in line[field].split(";"))
        result[field] = {name: float(value) for name, value in pairs}
    return result


def grouped(results: list[dict[str, Any]]) -> dict[str, dict[str, Runs]]:
    """Return the results by data set, estimator and seed, in the order of the runs."""
    groups: dict[str, dict[str, Runs]] = {}
    for result in results:
        groups.setdefault(result["data_set"], {}).setdefault(result["estimator"], {})[result["seed"]] = result
    return groups


def modalities_of(estimators: dict[str, Runs]) -> list[str]:
    return list(next(iter(next(iter(estimators.values())).values()))["alone"])


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % t-interval in percent; the latter is NaN for a single value."""
    values = 100 * np.array(list(values))
    n = len(values)
    return values.mean(), t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5 if n > 1 else np.nan


def mean(runs: Runs, *path: str) -> float:
    return interval(get_nested(result, path) for result in runs.values())[0]


def paired_differences(runs: Runs, reference: Runs, *path: str) -> np.ndarray:
    """Return the differences of the value at `path`, on the seeds that both have."""
    seeds = [seed for seed in runs if seed in reference]
    return np.array([get_nested(runs[seed], path) - get_nested(reference[seed], path) for seed in seeds])


def get_nested(result: Any, path: Iterable[str]) -> float:
    for key in path:
        result = result[key]
    return result


# Table -----------------------------------------------------------------------------------------


def markdown(results: list[dict[str, Any]], notes: dict[str, str], default: str, split: str) -> str:
    """Return the report with one table per data set."""
    text = [
        "# Balance\n",
        f"Accuracy in % on {split} rows: mean over the seeds and half-width of its 95 % t-interval. A seed draws "
        f"training rows and initial weights, so the intervals do not cover the choice of {split} rows. Differences are "
        "paired by seed. Columns of modalities: accuracy from that modality alone and, in brackets, that of a linear "
        "probe of its features. Seconds: one fit on one thread. Rows with fewer seeds use the first seeds, so compare "
        f"them by their difference. The default of UDIClassifier is {default}. mmestim "
        f"{mmestim.__version__}, torch {torch.__version__}.",
    ]
    text += overview(grouped(results))
    for data_set, estimators in grouped(results).items():
        modalities = modalities_of(estimators)
        rows = [["estimator", "seeds", "accuracy", f"minus {BASELINE}", "won, lost, tied", *modalities, "seconds"]]
        rows += [table_row(name, runs, estimators.get(BASELINE, {}), modalities) for name, runs in estimators.items()]
        text += ["", f"## {data_set}\n", *([notes[data_set] + "\n"] if notes[data_set] else []), *aligned(rows)]
    return "\n".join(text) + "\n"


def overview(groups: dict[str, dict[str, Runs]]) -> list[str]:
    """Return a table of differences from the baseline, on the seeds that all estimators share on a data set."""
    groups = {data_set: estimators for data_set, estimators in groups.items() if BASELINE in estimators}
    if len(groups) < 2:
        return []
    names = list(dict.fromkeys(name for estimators in groups.values() for name in estimators))
    cells: dict[str, list[str]] = {name: [] for name in names}
    header = ["estimator"]
    for data_set, estimators in groups.items():
        seeds = sorted(set.intersection(*map(set, estimators.values())))
        header.append(f"{data_set} ({len(seeds)})")
        for name in names:
            if name not in estimators:
                cells[name].append("")
                continue
            runs = {seed: estimators[name][seed] for seed in seeds}
            difference = interval(paired_differences(runs, estimators[BASELINE], "accuracy"))
            cells[name].append(f"{mean(runs, 'accuracy'):.1f}" if name == BASELINE else with_interval(*difference, "+"))
    intro = (
        f"Paired differences from {BASELINE} in percentage points, on the seeds that all estimators share on a data "
        f"set (number in brackets). The line of {BASELINE} has its accuracy."
    )
    return ["", "## Overview\n", intro + "\n", *aligned([header, *([name, *cells[name]] for name in names)])]


def table_row(name: str, runs: Runs, baseline: Runs, modalities: list[str]) -> list[str]:
    differences = paired_differences(runs, baseline, "accuracy")
    difference = score = ""
    if len(differences) and name != BASELINE:
        difference = with_interval(*interval(differences), "+")
        score = ", ".join(str(outcomes.sum()) for outcomes in (differences > 0, differences < 0, differences == 0))
    accuracy = with_interval(*interval(result["accuracy"] for result in runs.values()))
    branches = [f"{mean(runs, 'alone', m):.1f} ({mean(runs, 'probe', m):.1f})" for m in modalities]
    seconds = np.mean([result["fit_seconds"] for result in runs.values()])
    return [name, str(len(runs)), accuracy, difference, score, *branches, f"{seconds:.1f}"]


def with_interval(value: float, half_width: float, sign: str = "") -> str:
    return f"{value:{sign}z.1f}" + ("" if np.isnan(half_width) else f" ± {half_width:.1f}")


def aligned(rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [f"| {' | '.join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True))} |" for cells in rows]


# Conclusion ------------------------------------------------------------------------------------


def conclusion(results: list[dict[str, Any]], udi: str | None) -> str:
    """Compare, on each data set, the least used modality in the joint network, in `udi` and trained alone."""
    return "".join(
        f"{data_set}: {verdict(estimators, udi)}\n"
        for data_set, estimators in grouped(results).items()
        if set(estimators.get(BASELINE, ())) & set(estimators.get(ALONE, ()))
    )


def verdict(estimators: dict[str, Runs], udi: str | None) -> str:
    joint, alone = estimators[BASELINE], estimators[ALONE]
    # Compare by the probe, which favours the joint network: its head was not trained on single modalities.
    gaps = {m: interval(paired_differences(alone, joint, "probe", m)) for m in modalities_of(estimators)}
    worst = max(gaps, key=lambda m: gaps[m][0])
    is_wasted = is_positive(*gaps[worst])

    def accuracies(runs: Runs) -> str:
        return f"{mean(runs, 'alone', worst):.1f} % (probe {mean(runs, 'probe', worst):.1f} %)"

    finding = "wastes" if is_wasted else "wastes no modality significantly; the largest gap is that of"
    text = (
        f"the joint network {finding} {worst}. From {worst} alone it reaches {accuracies(joint)}; a network trained on "
        f"{worst} alone reaches {accuracies(alone)}."
    )
    if not set(estimators.get(udi or "", ())) & set(joint):
        return text
    guided = estimators[udi]
    if is_wasted:
        is_better = is_positive(*interval(paired_differences(guided, joint, "probe", worst)))
        claim = "does not waste it:" if is_better else "is not significantly better:"
        text += f" {udi} {claim} {accuracies(guided)}."
    fused = interval(paired_differences(guided, joint, "accuracy"))
    is_significant = is_positive(*fused) or is_positive(-fused[0], fused[1])
    return (
        f"{text} With all modalities, {udi} reaches {mean(guided, 'accuracy'):.1f} % and the joint network "
        f"{mean(joint, 'accuracy'):.1f} %: {with_interval(*fused, '+')} points"
        f"{'.' if is_significant else ', which is not significant.'}"
    )


def is_positive(value: float, half_width: float) -> bool:
    """Return whether an interval lies above zero; False without an interval."""
    return value > half_width


# Plot ---------------------------------------------------------------------------------------


def draw(results: list[dict[str, Any]], udi: str | None, path: Path) -> None:
    """Plot two panels per data set: all modalities on the left, each one alone on the right."""
    from matplotlib.figure import Figure  # unlike pyplot, has no global state

    groups = grouped(results)
    series = {BASELINE: ("in the joint network", "tab:red"), ALONE: ("trained alone", "black")}
    if udi is not None:
        series[udi] = (f"in {udi}", "tab:blue")
    heights = [1.0 + 0.3 * max(len(estimators), 1.5 * len(modalities_of(estimators))) for estimators in groups.values()]
    figure = Figure(figsize=(11, 0.7 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (data_set, estimators), (left, right) in zip(groups.items(), panels, strict=True):
        draw_fused(left, estimators, series)
        draw_branches(right, estimators, series)
        left.set_title(f"{data_set}: all modalities", loc="left", fontsize=10)
        right.set_title(f"{data_set}: each modality alone", loc="left", fontsize=10)
        for panel, labels in ((left, list(estimators)), (right, modalities_of(estimators))):
            panel.set_yticks(range(len(labels)), labels)
            panel.set_ylim(len(labels) - 0.5, -0.5)
            panel.grid(axis="x", alpha=0.3)
            panel.spines[["top", "right", "left"]].set_visible(False)
            panel.tick_params(left=False)
    for panel in panels[-1]:
        panel.set_xlabel("accuracy, %")
    handles = {
        label: handle
        for panel in panels[:, 1]
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def draw_fused(panel: Any, estimators: dict[str, Runs], series: dict[str, tuple[str, str]]) -> None:
    """Draw the mean, its 95 % interval and every seed; the dotted line is the mean of the joint network."""
    for y, (name, runs) in enumerate(estimators.items()):
        _, color = series.get(name, ("", "tab:gray"))
        center, half_width = interval(result["accuracy"] for result in runs.values())
        panel.plot([100 * result["accuracy"] for result in runs.values()], [y] * len(runs), "|", color=color, alpha=0.4)
        panel.errorbar(center, y, xerr=np.nan_to_num(half_width), fmt="o", color=color, capsize=3)
        if name == BASELINE:
            panel.axvline(center, color=color, linewidth=0.8, linestyle=":")


def draw_branches(panel: Any, estimators: dict[str, Runs], series: dict[str, tuple[str, str]]) -> None:
    """Draw each modality in the joint network and trained alone; the bar between both is the wasted accuracy."""
    modalities = modalities_of(estimators)
    for field, marker, y in (("alone", "o", -0.15), ("probe", "D", 0.15)):
        positions = np.arange(len(modalities)) + y
        means = {name: [mean(estimators[name], field, m) for m in modalities] for name in series if name in estimators}
        if {BASELINE, ALONE} <= set(means):
            bars = {"color": "tab:red", "alpha": 0.25, "linewidth": 7, "zorder": 0}
            upper = np.maximum(means[BASELINE], means[ALONE])
            panel.hlines(positions, means[BASELINE], upper, label="wasted", **bars)
        for size, (name, values) in zip((6, 8, 4), means.items(), strict=False):  # small markers on top of large ones
            text, color = series[name]
            label = text if field == "alone" else f"{text}, linear probe"
            fill = color if field == "alone" else "none"
            panel.plot(values, positions, marker, color=color, markerfacecolor=fill, ms=size, label=label, ls="none")
