"""The figures of runs as tables, beside what was aimed at. Every number and verdict is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from _detection_data import BRICK_WALLS_HZ, VARIANTS
from _detection_scores import EITHER, IN_PART, OF_17, OF_ALL, OF_CHANGED, PROTOTYPE, RECALL, THROUGHOUT, Line
from _report import aligned
from mmestim.voice import LABELS

SEEN = "seen, composed"


class Aim(NamedTuple):
    """A figure that a model is to reach."""

    about: str
    model: str
    part: str
    label: str
    metric: str
    goal: float
    at_most: bool = False


AIMS = [
    Aim("ROC-AUC, mean of the 17 labels", "hybrid", SEEN, OF_17, "roc_auc", 0.95),
    Aim("average precision, mean of the 17", "hybrid", SEEN, OF_17, "average_precision", 0.83),
    Aim("ROC-AUC of unaltered", "hybrid", SEEN, "unaltered", "roc_auc", 0.985),
    *(
        Aim(f"ROC-AUC of {label}, {kind}", "hybrid", f"seen, {kind}", label, "roc_auc", goal)
        for label, goals in {"cut": (0.77, 0.88), "paste": (0.81, 0.92), "mix": (0.90, 0.96)}.items()
        for kind, goal in zip(("composed", "single"), goals, strict=True)
    ),
    *(
        Aim(f"false alarms: {label}, {part}", "hybrid", part, label, "false_alarm_rate", goal, True)
        for part, label, goal in (
            *((f"unedited, below {hz} Hz", "mp3", 0.1) for hz in BRICK_WALLS_HZ),
            ("unedited", "any", 0.05),
            ("unedited, whole clips", "any", 0.05),
        )
    ),
    Aim("seconds of fit, on two cores", "hybrid", "fit", "", "fit", 3600, True),
    Aim("ROC-AUC, mean of the 17 labels", "features", SEEN, OF_17, "roc_auc", 0.91),
    Aim("seconds of fit, on two cores", "features", "fit", "", "fit", 300, True),
]
AIMED_WINDOW = 4.05


class Figure(NamedTuple):
    """The mean over the seeds, and of the ends of their intervals."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return plain(self.value) + ("" if np.isnan(self.low) else f" ({plain(self.low)}-{plain(self.high)})")


NONE = Figure(np.nan, np.nan, np.nan)


class Group:
    """All seeds of a model, a length of windows and a training budget."""

    def __init__(self, model: str, window: float, training_budget: float, runs: list[dict[str, list[Line]]]) -> None:
        self.model, self.window, self.training_budget, self.n_seeds = model, window, training_budget, len(runs)
        self._found: dict[tuple[str, str, str], list[tuple[float, ...]]] = {}
        for run in runs:
            for part, lines in run.items():
                for line in lines:
                    self._found.setdefault((part, line.label, line.metric), []).append(line[2:])

    @property
    def name(self) -> str:
        return f"{self.model}, {self.window:g} s" + (
            f", budget {self.training_budget:g}" if self.training_budget != 1 else ""
        )

    def __call__(self, part: str, label: str, metric: str) -> Figure:
        values = self._found.get((part, label, metric))
        return NONE if values is None else Figure(*np.mean(values, axis=0))

    def spread(self, part: str, label: str, metric: str) -> float:
        """From the lowest to the highest seed."""
        values = [own[0] for own in self._found.get((part, label, metric), [])]
        return float(np.ptp(values)) if len(values) > 1 else np.nan

    def labels(self, part: str, metric: str) -> list[str]:
        """Those that a part has the metric of, in its order."""
        return [label for own, label, name in self._found if (own, name) == (part, metric)]

    def metrics(self, part: str) -> list[str]:
        """Those of a part that are of no label."""
        return [name for own, label, name in self._found if (own, label) == (part, "")]


def plain(value: float) -> str:
    """A figure in three decimals, a large one in none, one that is not there as a dash."""
    return "-" if np.isnan(value) else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def markdown(runs: Mapping[Any, dict[str, list[Line]]], setting: Iterable[str]) -> str:
    """The report of some runs, which have a model, a window and a training budget."""
    by_group: dict[tuple[str, float, float], list[dict[str, list[Line]]]] = {}
    for run, parts in runs.items():
        by_group.setdefault((run.model, run.window, run.training_budget), []).append(parts)
    groups = [Group(*key, own) for key, own in by_group.items()]
    text = ["# Detection of voice edits\n", *(f"{line}\n" for line in setting)]
    text.append(
        "Figures are means over the seeds, with 95 % intervals in brackets from draws of speakers, ends averaged over "
        "the seeds; the intervals do not say what other seeds do."
    )
    for section in (
        aims,
        overview,
        *[
            part
            for group in groups
            for part in (
                of_labels(group),
                of_extents(group),
                of_variants(group),
                of_categories(group),
                of_places(group),
            )
        ],
        alarms,
        times,
    ):
        title, notes, rows = section(groups) if callable(section) else section
        if len(rows) > 1:
            text += ["", f"## {title}\n", *([notes + "\n"] if notes else []), *aligned(rows)]
    return "\n".join(text) + "\n"


Section = tuple[str, str, list[list[str]]]


def aims(groups: list[Group]) -> Section:
    """Each aim beside what every model reached, with a verdict on the model that it is of."""
    own = [group for group in groups if group.window == AIMED_WINDOW and group.training_budget == 1]
    rows = [["aim", "of", "goal", *(group.model for group in own), "verdict"]]
    for aim in AIMS:
        figures = {group.model: group(aim.part, aim.label, aim.metric) for group in own}
        goal = f"{'at most' if aim.at_most else 'at least'} {aim.goal:g}"
        verdict = verdict_of(aim, figures.get(aim.model, NONE))
        rows.append([aim.about, aim.model, goal, *map(str, figures.values()), verdict])
    notes = (
        f"At {AIMED_WINDOW:g} s, training budget 1. The mean decides; an interval with the goal in it leaves it open."
    )
    return "Aims", notes, rows


def verdict_of(aim: Aim, figure: Figure) -> str:
    """Whether it is met."""
    if np.isnan(figure.value):
        return "not run"
    met = figure.value <= aim.goal if aim.at_most else figure.value >= aim.goal
    return ("met" if met else "missed") + (", within the interval" if figure.low <= aim.goal <= figure.high else "")


def overview(groups: list[Group]) -> Section:
    """Means over the labels, for each set of clips."""
    rows = [
        [
            "model",
            "seeds",
            "clips",
            "AUC of the 17",
            "spread",
            "AP of the 17",
            "AUC of all",
            "AP of all",
            "AUC of changed",
            "unaltered",
            "ECE",
            "bias",
            "F1",
        ]
    ]
    for group in groups:
        for part in (f"{variant}, {kind}" for kind in ("composed", "single") for variant in VARIANTS):
            rows.append(
                [
                    group.name,
                    str(group.n_seeds),
                    part,
                    str(group(part, OF_17, "roc_auc")),
                    plain(group.spread(part, OF_17, "roc_auc")),
                    str(group(part, OF_17, "average_precision")),
                    str(group(part, OF_ALL, "roc_auc")),
                    str(group(part, OF_ALL, "average_precision")),
                    str(group(part, OF_CHANGED, "roc_auc")),
                    str(group(part, "unaltered", "roc_auc")),
                    *(plain(group(part, OF_ALL, metric).value) for metric in ("ece", "bias", "f1")),
                ]
            )
    notes = (
        "Means over labels. 'Changed' are the labels in which the clips differ from those that are trained on; single "
        "edits are of these alone. The average precision depends on how frequent a label is: compare it within a kind "
        "of clips. Spread: of the seeds. Bias: mean probability less the share that has the label."
    )
    return "Overview", notes, rows


def known(label: str) -> str:
    """What the prototype reached."""
    return " / ".join(map(plain, PROTOTYPE[label])) if label in PROTOTYPE else "-"


def of_labels(group: Group) -> Section:
    """Every label of the clips as those that are trained on."""
    shown = {
        "eer": "EER",
        "f1": "F1",
        "recall": "recall",
        "threshold": "threshold",
        "ece": "ECE",
        "bias": "bias",
    }
    rows = [["label", "windows", "AUC", "AP", "prototype", *shown.values(), "own AUC, ECE", "AUC, single"]]
    for label in LABELS:
        if np.isnan(group(SEEN, label, "n_positive").value):
            continue
        own = ", ".join(plain(group("fit", label, metric).value) for metric in ("roc_auc", "ece"))
        rows.append(
            [
                label,
                f"{group(SEEN, label, 'n_positive').value:.0f}",
                str(group(SEEN, label, "roc_auc")),
                str(group(SEEN, label, "average_precision")),
                known(label),
                *(plain(group(SEEN, label, name).value) for name in shown),
                own,
                str(group("seen, single", label, "roc_auc")),
            ]
        )
    notes = (
        "Compositions, by ranges that are trained on. Prototype: AUC / AP, of whole-clip edits alone. Bias: mean "
        "probability less the share that has the label. Recall and F1 at the threshold, which the detector chose. Own: "
        "what its report says of speakers that it kept from its models."
    )
    return f"Labels: {group.name}", notes, rows


def of_extents(group: Group) -> Section:
    """Edits of all of a window and of a part of it."""
    shown = ("n_positive", "roc_auc", "average_precision")
    heads = ("windows", "AUC", "AP")
    rows = [["label", *(head + extent for extent in (THROUGHOUT, IN_PART) for head in heads), "prototype"]]
    for label in (*(label for label in LABELS if label == "unaltered" or label in EITHER), OF_17):
        figures = [group(SEEN, label, metric + extent) for extent in (THROUGHOUT, IN_PART) for metric in shown]
        if any(np.isfinite(figure.value) for figure in figures):
            cells = [str(f) if i % 3 or np.isnan(f.value) else f"{f.value:.0f}" for i, f in enumerate(figures)]
            rows.append([label, *cells, known(label)])
    notes = (
        "Compositions, by ranges that are trained on. Windows that have the label the other way are left out, and for "
        "'unaltered' those that have any so. The mean throughout is of all 17 labels of the prototype, all of whose "
        "edits were so, the others of them as they are; the mean in part is of those that can be."
    )
    return f"All of a window or a part of it: {group.name}", notes, rows


def of_variants(group: Group) -> Section:
    """Every label on every set of clips."""
    parts = [f"{variant}, {kind}" for kind in ("composed", "single") for variant in VARIANTS]
    rows = [["label", *parts]]
    for label in LABELS:
        cells = []
        for part in parts:
            values = [group(part, label, metric).value for metric in ("roc_auc", RECALL, "recall")]
            changed = label in VARIANTS[part.split(", ")[0]].changes
            cells.append("-" if np.isnan(values[0]) else " / ".join(map(plain, values)) + " *" * changed)
        if set(cells) != {"-"}:
            rows.append([label, *cells])
    notes = (
        "AUC / recall where 5 % of the others are false alarms / recall at the detector's threshold. * labels in which "
        "the clips differ from those that are trained on; for 'seen', all."
    )
    return f"Other parameters, engines, noises and rooms: {group.name}", notes, rows


def of_categories(group: Group) -> Section:
    """Any label of a category."""
    rows = [["category", "AUC", "AP", "F1"]]
    for name in group.labels(SEEN, "roc_auc"):
        if name.startswith("category "):
            figures = (str(group(SEEN, name, metric)) for metric in ("roc_auc", "average_precision", "f1"))
            rows.append([name.removeprefix("category "), *figures])
    return f"Categories: {group.name}", "Compositions, by ranges that are trained on.", rows


def of_places(group: Group) -> Section:
    """Where edits are."""
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
            "there",
            "found",
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
                    *(plain(group(part, label, f"intervals: {metric}").value) for metric in shown["intervals"]),
                ]
            )
        for label in group.labels(part, "points: hit_rate"):
            values = {name: plain(group(part, label, f"points: {name}").value) for name in shown["points"]}
            points.append(f"{label}, {kind}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    notes = (
        "Whole clips with edits of a part of them; those of all of a clip say nothing about where. Errors in seconds, "
        f"of points within 50 ms. {'; '.join(points)}."
    )
    return f"Where: {group.name}", notes, rows


def alarms(groups: list[Group]) -> Section:
    """What is found where nothing was edited."""
    codecs = ("any", "mp3", "opus", "vorbis_aac", "telephone", "low_pass", "cut", "paste")
    rows = [["model", "clips", *codecs, "most often"]]
    for group in groups:
        for part in ("unedited", "unedited, whole clips", *(f"unedited, below {hz} Hz" for hz in BRICK_WALLS_HZ)):
            figures = {label: group(part, label, "false_alarm_rate") for label in codecs}
            others = {label: group(part, label, "false_alarm_rate").value for label in LABELS}
            others = {label: value for label, value in others.items() if value > 0}
            most = sorted(others, key=lambda label: -others[label])[:3]
            rows.append(
                [group.name, part, *map(str, figures.values()), ", ".join(f"{m} {plain(others[m])}" for m in most)]
            )
    return "False alarms", "Share of clips in which a label is found. A clip below a frequency has nothing above.", rows


def times(groups: list[Group]) -> Section:
    """What a fit takes, and a scan."""
    rows = [["model", "what", "value"]]
    for group in groups:
        for part in ("fit", "speed"):
            names = [name for name in group.metrics(part) if name != "seconds"]
            rows += [[group.name, f"{part}: {name}", plain(group(part, "", name).value)] for name in names]
    notes = (
        "Fit: seconds of data (edits made), of training (statistics, networks, trees, calibration), and in all; "
        "windows to learn from; size of the pickle. Speed: files read, from the first sample to probabilities."
    )
    return "Time", notes, rows
