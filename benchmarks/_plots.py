"""Plots of balance.py: accuracy with all modalities and with each one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from _estimators import BASELINE, LATE
from _results import Runs, grouped, interval, mean, modalities_of


def draw(results: list[dict[str, Any]], udi: str | None, path: Path) -> None:
    """Plot two panels per data set: all modalities on the left, each one alone on the right."""
    from matplotlib.figure import Figure  # unlike pyplot, has no global state

    groups = grouped(results)
    series = {BASELINE: ("in the joint network", "tab:red"), LATE: ("trained alone", "black")}
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
        if {BASELINE, LATE} <= set(means):
            bars = {"color": "tab:red", "alpha": 0.25, "linewidth": 7, "zorder": 0}
            upper = np.maximum(means[BASELINE], means[LATE])
            panel.hlines(positions, means[BASELINE], upper, label="wasted", **bars)
        for size, (name, values) in zip((6, 8, 4), means.items(), strict=False):  # small markers on top of large ones
            text, color = series[name]
            label = text if field == "alone" else f"{text}, linear probe"
            fill = color if field == "alone" else "none"
            panel.plot(values, positions, marker, color=color, markerfacecolor=fill, ms=size, label=label, ls="none")
