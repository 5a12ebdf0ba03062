"""Card of the detector that comes with the package, written from the stored figures of its file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2

from _csv_files import SUFFIX
from _detection_report import AIMS_WINDOW, SEEN, Group
from _detection_runs import Run, pretrained_name, read_parts
from _detection_scores import OF_ALL, Line
from _field import ALARMS, MEAN, percent
from _simulation_tables import head, row
from _synthesizers import synthesizer_table
from mmestim.voice import LABELS, TAXONOMY, VoiceEditDetector
from mmestim.voice.pretrained import pretrained_file

TEMPLATE = Path(__file__).with_name("model_card.md")
CARD = "MODEL_CARD.md"
SINGLE = "seen, single"


def write_card(options: argparse.Namespace, command: str) -> None:
    """Write the card beside the detector."""
    with pretrained_file() as path:
        path.with_name(CARD).write_text(card(options.out), encoding="utf-8")


def card(results: Path) -> str:
    """Return the card, with figures from a folder of results."""
    name = pretrained_name()
    detection, field, synthesizers = (
        figures_of(results / folder, name) for folder in ("voice-detection", "voice-field", "voice-synthesizers")
    )
    group = Group(name, AIMS_WINDOW, 1.0, [detection])
    detector = VoiceEditDetector.from_pretrained(device="cpu")
    with pretrained_file() as path:
        megabytes = path.stat().st_size / 1e6
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=name.split()[1],
        megabytes=f"{megabytes:.1f}",
        report=detector.training_report_,
        windows=f"{detector.training_report_[f'window {AIMS_WINDOW:g}']['n_windows']:,}",
        not_tested=[label for label in LABELS[1:] if label not in detector.labels_],
        means=group,
        of_all=OF_ALL,
        labels="\n".join(label_table(group, detector)),
        acquisitions="\n".join(acquisition_table(field)),
        synthesizers="\n".join(synthesizer_table(synthesizers)),
    )


def figures_of(folder: Path, name: str) -> dict[str, list[Line]]:
    """Return the stored parts of the evaluation of the detector."""
    runs = [path for path in folder.glob(f"*{SUFFIX}") if Run.from_file(path).model == name]
    if len(runs) != 1:
        raise SystemExit(f"{folder} has {len(runs)} files with figures of {name}, expected 1: run `make card`.")
    return read_parts(runs[0])


def label_table(group: Group, detector: VoiceEditDetector) -> Iterator[str]:
    """Yield a table of the scores of each label."""
    yield from head(
        "label", "kind", "ROC-AUC, none to three edits", "average precision", "recall", "ROC-AUC, one edit", "threshold"
    )
    for label, threshold in zip(detector.labels_, detector.thresholds_, strict=True):
        kind = TAXONOMY[label].kind if label in TAXONOMY and label != "unaltered" else "-"
        figures = (group(*key) for key in ((SEEN, label, "roc_auc"), (SEEN, label, "average_precision")))
        recall = f"{group(SEEN, label, 'recall').value:.2f}"
        single = group(SINGLE, label, "roc_auc")
        yield row(label, kind, *figures, recall, single, "-" if kind == "-" else f"{threshold:.2f}")


def acquisition_table(parts: dict[str, list[Line]]) -> Iterator[str]:
    """Yield a table of the false alarms and the recall under each acquisition."""
    yield from head("files", *(f"{kind}, %" for kind in ALARMS), "mean recall, %", "codec named, %")
    for name, lines in parts.items():
        figures = {(line.label, line.metric): line for line in lines}
        alarms = [percent(figures[label, "false_alarm_rate"]) for label in ALARMS]
        named: Sequence[Line] = [line for line in lines if line.metric == "named"]
        recall = figures.get((MEAN, "recall"))
        yield row(name, *alarms, percent(recall) if recall else "-", percent(named[0]) if named else "-")
