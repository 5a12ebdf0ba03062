"""What the runs of balance.py leave behind: lines of a CSV file, and from those a table, a picture, a conclusion.

Every number and every claim is computed from the lines.
"""

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
ALONE = "late"  # its branches are the modalities trained alone
KEY = ("data_set", "estimator", "seed", "split", "config")
FIELDS = (*KEY, "accuracy", "alone", "probe", "anchor", "n_iter", "fit_seconds", "device")
Runs = dict[int, dict[str, Any]]  # by seed

# The lines -----------------------------------------------------------------------------------------


def append(path: Path, line: list[str]) -> dict[str, str]:
    """The line as a dict, after one write to the file: it is stored wholly or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([line] if path.exists() else [FIELDS, line])
    with path.open("ab", buffering=0) as file:
        file.write(text.getvalue().encode())
    return dict(zip(FIELDS, line, strict=True))


def stored(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Results of earlier calls by key; the last line of a key counts."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            sys.exit(f"{path} has other columns than this script writes: move it away or choose another --out.")
        whole = [line for line in reader if None not in line and None not in line.values()]
    return {tuple(line[field] for field in KEY): unpack(line) for line in whole}


def pack(values: dict[str, float]) -> str:
    """One field for all modalities: "audio=0.95;image=0.91"."""
    return ";".join(f"{name}={value:.5f}" for name, value in values.items())


def unpack(line: dict[str, str]) -> dict[str, Any]:
    """A line with its numbers as numbers."""
    result: dict[str, Any] = {**line, "seed": int(line["seed"])}
    result |= {field: float(line[field]) for field in ("accuracy", "fit_seconds")}
    for field in ("alone", "probe"):
        pairs = (part.split("=") for part in line[field].split(";"))
        result[field] = {name: float(value) for name, value in pairs}
    return result


def grouped(results: list[dict[str, Any]]) -> dict[str, dict[str, Runs]]:
    """Results by data set, estimator and seed, in the order of the plan."""
    groups: dict[str, dict[str, Runs]] = {}
    for result in results:
        groups.setdefault(result["data_set"], {}).setdefault(result["estimator"], {})[result["seed"]] = result
    return groups


def modalities_of(estimators: dict[str, Runs]) -> list[str]:
    return list(next(iter(next(iter(estimators.values())).values()))["alone"])


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % t-interval, in per cent; one value has no interval (NaN)."""
    values = 100 * np.array(list(values))
    n = len(values)
    return values.mean(), t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5 if n > 1 else np.nan


def mean(runs: Runs, *path: str) -> float:
    return interval(reach(result, path) for result in runs.values())[0]


def paired(runs: Runs, others: Runs, *path: str) -> np.ndarray:
    """Differences of what `path` leads to, on the seeds that both have."""
    return np.array([reach(runs[seed], path) - reach(others[seed], path) for seed in runs if seed in others])


def reach(result: Any, path: Iterable[str]) -> float:
    for step in path:
        result = result[step]
    return result


# The table -----------------------------------------------------------------------------------------


def markdown(results: list[dict[str, Any]], notes: dict[str, str], default: str, split: str) -> str:
    """A table for each data set."""
    text = [
        "# Balance\n",
        f"Accuracy in % on {split} rows: mean over the seeds and half width of its 95 % t-interval. A seed draws "
        f"training rows and initial weights: the intervals say nothing about other {split} rows. Differences are "
        "paired by seed. Below the name of a modality: accuracy from it alone and, in brackets, that of a linear probe "
        f"of its features. Seconds: one fit on one thread. Rows with fewer seeds have the first of them: compare "
        f"those by their difference. UDIClassifier's default is {default}. mmestim "
        f"{mmestim.__version__}, torch {torch.__version__}.",
    ]
    text += overview(grouped(results))
    for data_set, estimators in grouped(results).items():
        modalities = modalities_of(estimators)
        rows = [["estimator", "seeds", "accuracy", f"less {BASELINE}", "won, lost, tied", *modalities, "seconds"]]
        rows += [table_row(name, runs, estimators.get(BASELINE, {}), modalities) for name, runs in estimators.items()]
        text += ["", f"## {data_set}\n", *([notes[data_set] + "\n"] if notes[data_set] else []), *aligned(rows)]
    return "\n".join(text) + "\n"


def overview(groups: dict[str, dict[str, Runs]]) -> list[str]:
    """Differences to the baseline of all estimators on all data sets, each set on the seeds that all have."""
    groups = {data_set: estimators for data_set, estimators in groups.items() if BASELINE in estimators}
    if len(groups) < 2:
        return []
    names = list(dict.fromkeys(name for estimators in groups.values() for name in estimators))
    cells: dict[str, list[str]] = {name: [] for name in names}
    head = ["estimator"]
    for data_set, estimators in groups.items():
        seeds = sorted(set.intersection(*map(set, estimators.values())))
        head.append(f"{data_set} ({len(seeds)})")
        for name in names:
            if name not in estimators:
                cells[name].append("")
                continue
            runs = {seed: estimators[name][seed] for seed in seeds}
            against = interval(paired(runs, estimators[BASELINE], "accuracy"))
            cells[name].append(f"{mean(runs, 'accuracy'):.1f}" if name == BASELINE else with_interval(*against, "+"))
    intro = (
        f"Points over {BASELINE}, paired, on the seeds that all estimators have on a data set (how many in brackets); "
        f"{BASELINE}'s own line has its accuracy."
    )
    return ["", "## Overview\n", intro + "\n", *aligned([head, *([name, *cells[name]] for name in names)])]


def table_row(name: str, runs: Runs, baseline: Runs, modalities: list[str]) -> list[str]:
    differences = paired(runs, baseline, "accuracy")
    against = score = ""
    if len(differences) and name != BASELINE:
        against = with_interval(*interval(differences), "+")
        score = ", ".join(str(hits.sum()) for hits in (differences > 0, differences < 0, differences == 0))
    accuracy = with_interval(*interval(result["accuracy"] for result in runs.values()))
    branches = [f"{mean(runs, 'alone', m):.1f} ({mean(runs, 'probe', m):.1f})" for m in modalities]
    seconds = np.mean([result["fit_seconds"] for result in runs.values()])
    return [name, str(len(runs)), accuracy, against, score, *branches, f"{seconds:.1f}"]


def with_interval(middle: float, half: float, sign: str = "") -> str:
    return f"{middle:{sign}z.1f}" + ("" if np.isnan(half) else f" ± {half:.1f}")


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table that also reads well on a screen."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [f"| {' | '.join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True))} |" for cells in rows]


# The conclusion ------------------------------------------------------------------------------------


def conclusion(results: list[dict[str, Any]], udi: str | None) -> str:
    """What the joint network makes of the modality that it uses least, and what `udi` does, for each data set."""
    return "".join(
        f"{data_set}: {verdict(estimators, udi)}\n"
        for data_set, estimators in grouped(results).items()
        if set(estimators.get(BASELINE, ())) & set(estimators.get(ALONE, ()))
    )


def verdict(estimators: dict[str, Runs], udi: str | None) -> str:
    joint, alone = estimators[BASELINE], estimators[ALONE]
    # By the probe, which is kinder to the joint network: its head was never asked to do with one modality.
    gaps = {m: interval(paired(alone, joint, "probe", m)) for m in modalities_of(estimators)}
    worst = max(gaps, key=lambda m: gaps[m][0])
    wasted = clear(*gaps[worst])

    def both(runs):
        return f"{mean(runs, 'alone', worst):.1f} % (probe {mean(runs, 'probe', worst):.1f} %)"

    text = (
        f"the joint network {'wastes' if wasted else 'wastes no modality for certain; nearest to it comes'} {worst}. "
        f"From {worst} alone it gets {both(joint)}, where a network trained on {worst} alone gets {both(alone)}."
    )
    if not set(estimators.get(udi or "", ())) & set(joint):
        return text
    guided = estimators[udi]
    if wasted:
        better = clear(*interval(paired(guided, joint, "probe", worst)))
        text += (
            f" {udi} {'does not waste it:' if better else 'may do better, which this does not show:'} {both(guided)}."
        )
    fused = interval(paired(guided, joint, "accuracy"))
    return (
        f"{text} With all modalities {udi} gets {mean(guided, 'accuracy'):.1f} % and the joint network "
        f"{mean(joint, 'accuracy'):.1f} %: {with_interval(*fused, '+')} points"
        f"{'.' if clear(*fused) or clear(-fused[0], fused[1]) else ', which may be chance.'}"
    )


def clear(middle: float, half: float) -> bool:
    """Whether an interval lies above zero; no interval does not."""
    return middle > half


# The picture ---------------------------------------------------------------------------------------


def draw(results: list[dict[str, Any]], udi: str | None, path: Path) -> None:
    """All modalities on the left, each by itself on the right, two panels for each data set."""
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    groups = grouped(results)
    shown = {BASELINE: ("in the joint network", "tab:red"), ALONE: ("trained alone", "black")}
    if udi is not None:
        shown[udi] = (f"in {udi}", "tab:blue")
    heights = [1.0 + 0.3 * max(len(estimators), 1.5 * len(modalities_of(estimators))) for estimators in groups.values()]
    figure = Figure(figsize=(11, 0.7 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (data_set, estimators), (left, right) in zip(groups.items(), panels, strict=True):
        draw_fused(left, estimators, shown)
        draw_branches(right, estimators, shown)
        left.set_title(f"{data_set}: all modalities", loc="left", fontsize=10)
        right.set_title(f"{data_set}: each modality by itself", loc="left", fontsize=10)
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


def draw_fused(panel: Any, estimators: dict[str, Runs], shown: dict[str, tuple[str, str]]) -> None:
    """Mean, 95 % interval and every seed; the line is the joint network's mean."""
    for y, (name, runs) in enumerate(estimators.items()):
        _, color = shown.get(name, ("", "tab:gray"))
        middle, half = interval(result["accuracy"] for result in runs.values())
        panel.plot([100 * result["accuracy"] for result in runs.values()], [y] * len(runs), "|", color=color, alpha=0.4)
        panel.errorbar(middle, y, xerr=np.nan_to_num(half), fmt="o", color=color, capsize=3)
        if name == BASELINE:
            panel.axvline(middle, color=color, linewidth=0.8, linestyle=":")


def draw_branches(panel: Any, estimators: dict[str, Runs], shown: dict[str, tuple[str, str]]) -> None:
    """In the joint network against trained alone: the bar between the two is what is wasted."""
    modalities = modalities_of(estimators)
    for field, marker, y in (("alone", "o", -0.15), ("probe", "D", 0.15)):
        places = np.arange(len(modalities)) + y
        means = {name: [mean(estimators[name], field, m) for m in modalities] for name in shown if name in estimators}
        if {BASELINE, ALONE} <= set(means):
            bars = {"color": "tab:red", "alpha": 0.25, "linewidth": 7, "zorder": 0}
            reached = np.maximum(means[BASELINE], means[ALONE])
            panel.hlines(places, means[BASELINE], reached, label="wasted", **bars)
        for size, (name, values) in zip((6, 8, 4), means.items(), strict=False):  # the small on top of the large
            text, color = shown[name]
            label = text if field == "alone" else f"{text}, linear probe"
            fill = color if field == "alone" else "none"
            panel.plot(values, places, marker, color=color, markerfacecolor=fill, ms=size, label=label, ls="none")
