"""Table, picture and conclusion from the runs of balance.py; every number and every claim is computed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t

import mmestim

BASELINE = "joint-concat"
ALONE = "late"  # Its branches are the modalities trained alone.
Runs = dict[int, dict[str, Any]]  # by seed


def grouped(results: list[dict[str, Any]]) -> dict[str, dict[str, Runs]]:
    """Runs by data set, estimator and seed, in the order of the plan."""
    groups: dict[str, dict[str, Runs]] = {}
    for run in results:
        groups.setdefault(run["data_set"], {}).setdefault(run["estimator"], {})[run["seed"]] = run
    return groups


def shipped(estimators: Iterable[str]) -> str | None:
    """The UDI that is the default, or else the first."""
    names = [name for name in estimators if name.startswith("udi-") and "@" not in name]
    default = f"udi-{mmestim.UDIClassifier().guidance}"
    return default if default in names else next(iter(names), None)


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half of the 95 % t-interval, in per cent."""
    values = 100 * np.array(list(values))
    n = len(values)
    return values.mean(), t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5 if n > 1 else np.nan


def paired(runs: Runs, others: Runs, *path: str) -> np.ndarray:
    """Differences on the seeds that both have, of accuracies or of what `path` leads to."""

    def value(run):
        for step in path or ("accuracy",):
            run = run[step]
        return run

    return np.array([value(run) - value(others[seed]) for seed, run in runs.items() if seed in others])


# The table ---------------------------------------------------------------------------------------


def markdown(results: list[dict[str, Any]], notes: dict[str, str], split: str) -> str:
    """A table for each data set."""
    text = [
        "# Balance\n",
        f"Accuracy in % on {split} rows: the mean over seeds and the half width of its 95 % t-interval. A seed draws "
        f"training rows and initial weights, so intervals say nothing about other {split} rows. Differences are paired "
        f"by seed. Under a modality's name: accuracy from it alone and, in brackets, that of a linear probe of its "
        f"features. Seconds are of one fit on one thread. mmestim {mmestim.__version__}, torch {torch.__version__}.",
    ]
    for data_set, estimators in grouped(results).items():
        first = next(iter(next(iter(estimators.values())).values()))
        modalities = list(first["alone"])
        head = ["estimator", "seeds", "accuracy", f"against {BASELINE}", "won, lost, tied", *modalities, "seconds"]
        rows = [head] + [row(name, runs, estimators, modalities) for name, runs in estimators.items()]
        text += ["", f"## {data_set}\n", *([notes[data_set] + "\n"] if notes[data_set] else []), *aligned(rows)]
    return "\n".join(text) + "\n"


def row(name: str, runs: Runs, estimators: dict[str, Runs], modalities: list[str]) -> list[str]:
    differences = paired(runs, estimators.get(BASELINE, {}))
    against, score = "", ""
    if len(differences) and name != BASELINE:
        against = "{:+.1f} ± {:.1f}".format(*interval(differences))
        score = f"{(differences > 0).sum()}, {(differences < 0).sum()}, {(differences == 0).sum()}"
    branches = [f"{mean(runs, 'alone', m):.1f} ({mean(runs, 'probe', m):.1f})" for m in modalities]
    accuracy = "{:.1f} ± {:.1f}".format(*interval(run["accuracy"] for run in runs.values()))
    return [name, str(len(runs)), accuracy, against, score, *branches, f"{mean(runs, 'fit_seconds') / 100:.1f}"]


def mean(runs: Runs, field: str, modality: str | None = None) -> float:
    return interval(run[field] if modality is None else run[field][modality] for run in runs.values())[0]


def aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table that also reads well on a screen."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [f"| {' | '.join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True))} |" for cells in rows]


# The conclusion ----------------------------------------------------------------------------------


def conclusion(results: list[dict[str, Any]]) -> str:
    """What the runs say of the modality that the joint network uses least, a sentence or two for each data set."""
    return "\n".join(
        f"{data_set}: {verdict(estimators)}"
        for data_set, estimators in grouped(results).items()
        if {BASELINE, ALONE} <= set(estimators) and len(paired(estimators[ALONE], estimators[BASELINE]))
    )


def verdict(estimators: dict[str, Runs]) -> str:
    joint, alone, udi = estimators[BASELINE], estimators[ALONE], shipped(estimators)
    modalities = next(iter(joint.values()))["alone"]
    # Judged by the probe, which is kinder to the joint network: its head was never asked to use one modality alone.
    gaps = {m: interval(paired(alone, joint, "probe", m)) for m in modalities}
    worst = max(gaps, key=lambda m: gaps[m][0])
    wasted = gaps[worst][0] > gaps[worst][1]  # False, too, where one seed gives no interval.

    def both(runs):
        return f"{mean(runs, 'alone', worst):.1f} % (probe of its features {mean(runs, 'probe', worst):.1f} %)"

    text = (
        f"the joint network {'wastes' if wasted else 'does not clearly waste any modality; nearest to it is'} {worst}. "
        f"From {worst} alone it gets {both(joint)}, a network trained on {worst} alone {both(alone)}."
    )
    if udi is None:
        return text
    kept, fused = (interval(paired(estimators[udi], joint, *path)) for path in (("probe", worst), ()))
    if wasted:
        keeps = "does not waste it" if kept[0] > kept[1] else "is not clearly better at it"
        text += f" {udi} {keeps}: {both(estimators[udi])}."
    return text + (
        f" With all modalities {udi} is at {mean(estimators[udi], 'accuracy'):.1f} %, the joint network at "
        f"{mean(joint, 'accuracy'):.1f} %: a difference of {fused[0]:+.1f} ± {fused[1]:.1f} points"
        f"{'.' if abs(fused[0]) > fused[1] else ', which may be chance.'}"
    )


# The picture -------------------------------------------------------------------------------------


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Fused accuracies on the left, each modality's own on the right, a row of panels for each data set."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    groups = grouped(results)
    udi = shipped(name for estimators in groups.values() for name in estimators)
    colors = {BASELINE: "tab:red", ALONE: "black", udi: "tab:blue"}
    heights = [1.2 + 0.28 * max(len(e), 1.3 * len(first_modalities(e))) for e in groups.values()]
    figure = Figure(figsize=(11, 0.6 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (data_set, estimators), (left, right) in zip(groups.items(), panels, strict=True):
        draw_fused(left, estimators, colors)
        draw_branches(right, estimators, colors)
        left.set_title(f"{data_set}: all modalities", loc="left", fontsize=10)
        right.set_title(f"{data_set}: each modality by itself", loc="left", fontsize=10)
        for panel in (left, right):
            panel.invert_yaxis()
            panel.grid(axis="x", alpha=0.3)
            panel.spines[["top", "right", "left"]].set_visible(False)
            panel.tick_params(left=False)
    for panel in panels[-1]:
        panel.set_xlabel("accuracy, %")
    handles, labels = panels[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def first_modalities(estimators: dict[str, Runs]) -> list[str]:
    return list(next(iter(next(iter(estimators.values())).values()))["alone"])


def draw_fused(panel: Any, estimators: dict[str, Runs], colors: dict[str | None, str]) -> None:
    """Mean, 95 % interval and every seed; the line is the joint network's mean."""
    for y, (name, runs) in enumerate(estimators.items()):
        seeds = [100 * run["accuracy"] for run in runs.values()]
        middle, half = interval(run["accuracy"] for run in runs.values())
        color = colors.get(name, "tab:gray")
        panel.plot(seeds, [y] * len(seeds), "|", color=color, alpha=0.35)
        panel.errorbar(middle, y, xerr=np.nan_to_num(half), fmt="o", color=color, capsize=3)
        if name == BASELINE:
            panel.axvline(middle, color=color, linewidth=0.8, linestyle=":")
    panel.set_yticks(range(len(estimators)), list(estimators))


def draw_branches(panel: Any, estimators: dict[str, Runs], colors: dict[str | None, str]) -> None:
    """Inside the joint network against trained alone: the bar between the two is the wasted part."""
    modalities = first_modalities(estimators)
    texts = {BASELINE: "inside the joint network", ALONE: "trained alone"}
    for name, color in colors.items():
        runs = estimators.get(name or "")
        if runs is None:
            continue
        for field, marker, fill, offset in (("alone", "o", color, -0.15), ("probe", "D", "none", 0.15)):
            means = [mean(runs, field, m) for m in modalities]
            label = f"{texts.get(name, f'in {name}')}, {'by its own head' if field == 'alone' else 'linear probe'}"
            places = np.arange(len(modalities)) + offset
            panel.plot(means, places, marker, color=color, markerfacecolor=fill, label=label, linestyle="none")
            if name == BASELINE and ALONE in estimators:
                reached = [mean(estimators[ALONE], field, m) for m in modalities]
                panel.hlines(places, means, reached, color="tab:red", alpha=0.25, linewidth=6, zorder=0)
    panel.set_yticks(range(len(modalities)), modalities)
    panel.set_ylim(-0.6, len(modalities) - 0.4)
