"""Report of runs as tables, with a comparison of figures and goals. Every number and verdict is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from _detection_data import BRICK_WALLS_HZ, VARIANTS
from _detection_scores import BOTH_EXTENTS, IN_PART, OF_17, OF_ALL, OF_CHANGED, PROTOTYPE, RECALL, THROUGHOUT, Line
from _report import aligned
from mmestim.voice import LABELS

SEEN = "seen, composed"
TRAINING_RANGES = "Compositions, with the parameter ranges of training."


class Aim(NamedTuple):
    """Goal of a model for one figure."""

    description: str
    model: str
    part: str
    label: str
    metric: str
    goal: float
    at_most: bool = False


AIMS = [
    Aim("ROC-AUC, mean of the 17 labels", "pretrained", SEEN, OF_17, "roc_auc", 0.96),
    Aim("average precision, mean of the 17", "pretrained", SEEN, OF_17, "average_precision", 0.86),
    Aim("ROC-AUC of unaltered", "pretrained", SEEN, "unaltered", "roc_auc", 0.985),
    *(
        Aim(f"ROC-AUC of {label}, {kind}", "pretrained", f"seen, {kind}", label, "roc_auc", goal)
        for label, goals in {"cut": (0.88, 0.88), "paste": (0.91, 0.92), "mix": (0.92, 0.96)}.items()
        for kind, goal in zip(("composed", "single"), goals, strict=True)
    ),
    Aim(
        "localization F1 at an IoU of 0.5",
        "pretrained",
        "located, composed",
        OF_ALL,
        "intervals: segment_f1@0.5",
        0.5,
    ),
    *(
        Aim(f"false alarms: {label}, {part}", "pretrained", part, label, "false_alarm_rate", goal, True)
        for part, label, goal in (
            *((f"unedited, below {hz} Hz", "mp3", 0.1) for hz in BRICK_WALLS_HZ),
            ("unedited", "any", 0.06),
            ("unedited, whole clips", "any", 0.06),
        )
    ),
    Aim("seconds of fit, on two cores", "hybrid", "fit", "", "fit", 3600, True),
    Aim("ROC-AUC, mean of the 17 labels", "features", SEEN, OF_17, "roc_auc", 0.91),
    Aim("seconds of fit, on two cores", "features", "fit", "", "fit", 300, True),
]
AIMS_WINDOW = 4.05


class Figure(NamedTuple):
    """Mean over the seeds of a value and of both ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return short(self.value) + ("" if np.isnan(self.low) else f" ({short(self.low)}-{short(self.high)})")


MISSING = Figure(np.nan, np.nan, np.nan)


class Group:
    """Runs of a model, a window length and a training budget, with different seeds."""

    def __init__(self, model: str, window: float, training_budget: float, runs: list[dict[str, list[Line]]]) -> None:
        self.model, self.window, self.training_budget, self.n_seeds = model, window, training_budget, len(runs)
        self._values: dict[tuple[str, str, str], list[tuple[float, ...]]] = {}
        for run in runs:
            for part, lines in run.items():
                for line in lines:
                    self._values.setdefault((part, line.label, line.metric), []).append(line[2:])

    @property
    def name(self) -> str:
        """Model, window length and training budget, unless it is 1."""
        return f"{self.model}, {self.window:g} s" + (
            f", budget {self.training_budget:g}" if self.training_budget != 1 else ""
        )

    def __call__(self, part: str, label: str, metric: str) -> Figure:
        """Return a figure; its value is NaN if no run has it."""
        values = self._values.get((part, label, metric))
        return MISSING if values is None else Figure(*np.mean(values, axis=0))

    def seed_range(self, part: str, label: str, metric: str) -> float:
        """Return the difference between the highest and the lowest seed; NaN for one seed."""
        values = [value for value, _, _ in self._values.get((part, label, metric), [])]
        return float(np.ptp(values)) if len(values) > 1 else np.nan

    def labels(self, part: str, metric: str) -> list[str]:
        """Return the labels for which a part has the metric, in the order of the file."""
        return [label for name, label, label_metric in self._values if (name, label_metric) == (part, metric)]

    def metrics(self, part: str) -> list[str]:
        """Return the metrics of a part that belong to no label."""
        return [metric for name, label, metric in self._values if (name, label) == (part, "")]


def short(value: float) -> str:
    """Format a value with three decimals, from 100 on without decimals, and NaN as a dash."""
    return "-" if np.isnan(value) else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def markdown(runs: Mapping[Any, dict[str, list[Line]]], setting: Iterable[str]) -> str:
    """Return the report of runs, which have a model, a window and a training budget, below paragraphs of setting."""
    by_group: dict[tuple[str, float, float], list[dict[str, list[Line]]]] = {}
    for run, parts in runs.items():
        by_group.setdefault((run.model, run.window, run.training_budget), []).append(parts)
    groups = [Group(*key, group_runs) for key, group_runs in by_group.items()]
    text = ["# Detection of voice edits\n", *(f"{line}\n" for line in setting)]
    text.append(
        "Figures are means over the seeds. Brackets contain 95 % intervals, bootstrapped over speakers, whose ends are "
        "averaged over the seeds; they do not cover the variation between seeds."
    )
    for section in (
        aims_section(groups),
        overview_section(groups),
        calibration_section(groups),
        *[
            section
            for group in groups
            for section in (
                label_section(group),
                decision_section(group),
                extent_section(group),
                variant_section(group),
                category_section(group),
                localization_section(group),
            )
        ],
        false_alarm_section(groups),
        time_section(groups),
    ):
        title, notes, rows = section
        if len(rows) > 1:
            text += ["", f"## {title}\n", *([notes + "\n"] if notes else []), *aligned(rows)]
    return "\n".join(text) + "\n"


Section = tuple[str, str, list[list[str]]]


def aims_section(groups: list[Group]) -> Section:
    """Compare each goal with the figures of all models; the verdict is on the model of the goal."""
    groups = [group for group in groups if group.window == AIMS_WINDOW and group.training_budget == 1]
    rows = [["aim", "model", "goal", *(group.model for group in groups), "verdict"]]
    for aim in AIMS:
        figures = {group.model: group(aim.part, aim.label, aim.metric) for group in groups}
        goal = f"{'at most' if aim.at_most else 'at least'} {aim.goal:g}"
        figure = next((figure for model, figure in figures.items() if model.split()[0] == aim.model), MISSING)
        verdict = verdict_of(aim, figure)
        rows.append([aim.description, aim.model, goal, *map(str, figures.values()), verdict])
    notes = (
        f"Windows of {AIMS_WINDOW:g} s, training budget 1. The verdict depends on the mean; it is uncertain if the "
        "interval contains the goal."
    )
    return "Aims", notes, rows


def verdict_of(aim: Aim, figure: Figure) -> str:
    """Return whether a figure meets the goal."""
    if np.isnan(figure.value):
        return "not run"
    is_met = figure.value <= aim.goal if aim.at_most else figure.value >= aim.goal
    return ("met" if is_met else "missed") + (", within the interval" if figure.low <= aim.goal <= figure.high else "")


def overview_section(groups: list[Group]) -> Section:
    """Return the means over the labels of the ranking on each set of clips."""
    rows = [
        [
            "model",
            "seeds",
            "clips",
            "AUC of the 17",
            "range of seeds",
            "AP of the 17",
            "AUC of all",
            "AP of all",
            "AUC of changed",
            "unaltered",
        ]
    ]
    for group, part in measured_parts(groups):
        rows.append(
            [
                group.name,
                str(group.n_seeds),
                part,
                str(group(part, OF_17, "roc_auc")),
                short(group.seed_range(part, OF_17, "roc_auc")),
                str(group(part, OF_17, "average_precision")),
                str(group(part, OF_ALL, "roc_auc")),
                str(group(part, OF_ALL, "average_precision")),
                str(group(part, OF_CHANGED, "roc_auc")),
                str(group(part, "unaltered", "roc_auc")),
            ]
        )
    notes = (
        "Means over labels. 'Changed' labels are those whose edits differ from training; clips with single edits have "
        "only these. AUC: ROC-AUC. AP: average precision, which depends on the frequency of a label, so compare it "
        "only within composed or within single clips. Range of seeds: ROC-AUC of the best seed minus the worst."
    )
    return "Overview", notes, rows


def calibration_section(groups: list[Group]) -> Section:
    """Return the means over the labels of calibration and decisions on each set of clips."""
    rows = [["model", "clips", "ECE", "bias", "F1"]]
    for group, part in measured_parts(groups):
        values = (short(group(part, OF_ALL, metric).value) for metric in ("ece", "bias", "f1"))
        rows.append([group.name, part, *values])
    notes = (
        "Means over labels. Bias: mean probability minus the fraction of windows with the label. F1: at the threshold "
        "that the detector chose."
    )
    return "Calibration and decisions", notes, rows


def measured_parts(groups: list[Group]) -> Iterator[tuple[Group, str]]:
    """Yield each group with the sets of edited clips on which it was measured."""
    for group in groups:
        for part in (f"{variant}, {kind}" for kind in ("composed", "single") for variant in VARIANTS):
            if not np.isnan(group(part, OF_ALL, "roc_auc").value):
                yield group, part


def prototype_scores(label: str) -> str:
    """Return the ROC-AUC and the average precision of the prototype, or a dash."""
    return " / ".join(map(short, PROTOTYPE[label])) if label in PROTOTYPE else "-"


def label_section(group: Group) -> Section:
    """Return how well each label is ranked on clips with the parameter ranges of training."""
    rows = [["label", "windows", "AUC", "reported AUC", "AP", "prototype", "EER", "AUC, single"]]
    for label in seen_labels(group):
        rows.append(
            [
                label,
                f"{group(SEEN, label, 'n_positive').value:.0f}",
                str(group(SEEN, label, "roc_auc")),
                short(group("fit", label, "roc_auc").value),
                str(group(SEEN, label, "average_precision")),
                prototype_scores(label),
                short(group(SEEN, label, "eer").value),
                str(group("seen, single", label, "roc_auc")),
            ]
        )
    notes = (
        f"{TRAINING_RANGES} Prototype: AUC / AP, for edits of the whole clip only. Reported: estimates in the "
        "detector's training report, on training speakers held out from its models."
    )
    return f"Labels: {group.name}", notes, rows


def decision_section(group: Group) -> Section:
    """Return the decisions on each label, and its calibration, on clips with the parameter ranges of training."""
    rows = [["label", "threshold", "recall", "F1", "bias", "ECE", "reported ECE"]]
    for label in seen_labels(group):
        values = [group(SEEN, label, metric).value for metric in ("threshold", "recall", "f1", "bias", "ece")]
        rows.append([label, *map(short, [*values, group("fit", label, "ece").value])])
    notes = (
        f"{TRAINING_RANGES} Recall and F1: at the threshold that the detector chose. Bias: mean probability minus the "
        "fraction of windows with the label. Reported: in the detector's training report."
    )
    return f"Decisions: {group.name}", notes, rows


def seen_labels(group: Group) -> list[str]:
    """Return the labels of the clips with the parameter ranges of training."""
    return [label for label in LABELS if not np.isnan(group(SEEN, label, "n_positive").value)]


def extent_section(group: Group) -> Section:
    """Return the scores of edits that cover the whole window, and of those that cover a part of it."""
    shown = ("n_positive", "roc_auc", "average_precision")
    heads = ("windows", "AUC", "AP")
    rows = [["label", *(head + extent for extent in (THROUGHOUT, IN_PART) for head in heads), "prototype"]]
    for label in (*(label for label in LABELS if label == "unaltered" or label in BOTH_EXTENTS), OF_17):
        figures = [group(SEEN, label, metric + extent) for extent in (THROUGHOUT, IN_PART) for metric in shown]
        if any(np.isfinite(figure.value) for figure in figures):
            cells = [
                f"{figure.value:.0f}" if number % len(shown) == 0 and np.isfinite(figure.value) else str(figure)
                for number, figure in enumerate(figures)
            ]
            rows.append([label, *cells, prototype_scores(label)])
    notes = (
        f"{TRAINING_RANGES} Throughout: the edit covers the whole window; in part: a part of it. Each leaves out the "
        "windows with the label in the other extent, and for 'unaltered' those with any label in the other extent. The "
        "mean throughout is over all 17 labels of the prototype, whose edits covered whole clips; labels with only one "
        "extent are scored on all windows. The mean in part is over the labels with both extents."
    )
    return f"Full and partial edits of a window: {group.name}", notes, rows


def variant_section(group: Group) -> Section:
    """Return the scores of each label on each set of clips."""
    parts = [f"{variant}, {kind}" for kind in ("composed", "single") for variant in VARIANTS]
    rows = [["label", *parts]]
    for label in LABELS:
        cells = []
        for part in parts:
            values = [group(part, label, metric).value for metric in ("roc_auc", RECALL, "recall")]
            is_changed = label in VARIANTS[part.split(", ")[0]].changes
            cells.append("-" if np.isnan(values[0]) else " / ".join(map(short, values)) + " *" * is_changed)
        if set(cells) != {"-"}:
            rows.append([label, *cells])
    notes = (
        "AUC / recall at a false alarm rate of 5 % / recall at the detector's threshold. An asterisk marks changed "
        "labels, and for 'seen' all labels."
    )
    return f"Other parameters, engines, noises and rooms: {group.name}", notes, rows


def category_section(group: Group) -> Section:
    """Return the scores of detecting any label of a category."""
    rows = [["category", "AUC", "AP", "F1"]]
    for name in group.labels(SEEN, "roc_auc"):
        if name.startswith("category "):
            figures = (str(group(SEEN, name, metric)) for metric in ("roc_auc", "average_precision", "f1"))
            rows.append([name.removeprefix("category "), *figures])
    return f"Categories: {group.name}", TRAINING_RANGES, rows


def localization_section(group: Group) -> Section:
    """Return the localization scores of partial edits."""
    shown = {
        "intervals": (
            "segment_f1@0.3",
            "segment_f1@0.5",
            "segment_f1@0.7",
            "average_precision@0.5",
            "average_precision@0.75",
            "average_recall@20",
        ),
        "points": ("hit_rate", "precision", "f1", "mean_error", "median_error"),
    }
    rows = [
        [
            "clips",
            "label",
            "references",
            "predictions",
            *(
                name.replace("segment_f1", "F1").replace("average_precision", "AP").replace("average_recall", "AR")
                for name in shown["intervals"]
            ),
        ]
    ]
    points = []
    for kind in ("composed", "single"):
        part = f"located, {kind}"
        for label in group.labels(part, "intervals: segment_f1@0.5"):
            counts = (f"{group(part, label, f'intervals: {n}').value:.0f}" for n in ("n_references", "n_predictions"))
            if label == OF_ALL:
                counts = iter(("", ""))
            rows.append(
                [
                    kind,
                    label,
                    *counts,
                    *(short(group(part, label, f"intervals: {metric}").value) for metric in shown["intervals"]),
                ]
            )
        for label in group.labels(part, "points: hit_rate"):
            values = {name: short(group(part, label, f"points: {name}").value) for name in shown["points"]}
            points.append(f"{label}, {kind}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    notes = (
        "Whole clips; edits that cover a whole clip are left out. Points match within 50 ms, and their errors are in "
        f"seconds. {'; '.join(points)}."
    )
    return f"Localization: {group.name}", notes, rows


def false_alarm_section(groups: list[Group]) -> Section:
    """Return the false alarm rates on unedited clips."""
    shown = ("any", "mp3", "opus", "vorbis_aac", "telephone", "low_pass", "cut", "paste")
    rows = [["model", "clips", *shown, "most frequent"]]
    for group in groups:
        for part in ("unedited", "unedited, whole clips", *(f"unedited, below {hz} Hz" for hz in BRICK_WALLS_HZ)):
            figures = {label: group(part, label, "false_alarm_rate") for label in shown}
            if np.isnan(figures["any"].value):
                continue
            rates = {label: group(part, label, "false_alarm_rate").value for label in LABELS}
            rates = {label: rate for label, rate in rates.items() if rate > 0}
            highest = sorted(rates, key=lambda label: -rates[label])[:3]
            most_frequent = ", ".join(f"{label} {short(rates[label])}" for label in highest)
            rows.append([group.name, part, *map(str, figures.values()), most_frequent])
    notes = (
        "Fraction of clips in which a label is detected. 'Below' a frequency: a brick-wall low-pass filter removed all "
        "higher frequencies."
    )
    return "False alarms", notes, rows


def time_section(groups: list[Group]) -> Section:
    """Return the costs of fit and prediction."""
    rows = [["model", "figure", "value"]]
    for group in groups:
        for part in ("fit", "speed"):
            names = [name for name in group.metrics(part) if name != "seconds"]
            rows += [[group.name, f"{part}: {name}", short(group(part, "", name).value)] for name in names]
    notes = (
        "Fit: seconds in total ('fit'), for the simulation of edits ('data') and for statistics, networks, trees and "
        "calibration ('training'); training windows; size of the file. Speed: prediction from files, including "
        "reading. Shares: fractions of the time of one process."
    )
    return "Time", notes, rows
