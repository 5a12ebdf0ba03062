"""Check of a detector on files as people have them: unedited and edited clips of unknown speakers in many formats.

Every clip is written as a file under each acquisition, and the detector reads the files. Unedited clips count false
alarms, and whether the codec of a compressed file is named. Edited clips count recall, beside that of 16 kHz WAV files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from _acquisitions import ACQUISITIONS, REFERENCE, Acquisition
from _detection import describe_call, prepared, runs_and_data
from _detection_data import EvaluationData
from _detection_runs import END_METRIC, Run, RunEvaluation, append_part, read_parts, rounded, stored_runs
from _detection_scores import Line
from _simulation_tables import head, row
from mmestim.voice import TAXONOMY
from mmestim.voice.metrics import bootstrap_interval
from mmestim.voice.taxonomy import CHANGED_CONTENT, PROCESSING

SOURCES = {"LJSpeech, 22.05 kHz": "LJSpeech", "RAVDESS, 48 kHz": "RAVDESS"}
ANY, MEAN = "any", "mean of all"
ALARMS = (ANY, PROCESSING, CHANGED_CONTENT)
N_EDITED, N_EDITED_QUICK = 20, 1  # per label


class Clips(NamedTuple):
    """Clips at 16 kHz with their speakers, and the label of their edit, or none."""

    waveforms: list[np.ndarray]
    speakers: np.ndarray
    labels: np.ndarray


def measure_field(options: argparse.Namespace, command: str) -> None:
    """Measure false alarms and recall on files under each acquisition."""
    with prepared(options) as work:
        results = options.out / "voice-field"
        runs, data = runs_and_data(options, work, results)
        setting = [*describe_call(command), *described(data)]
        for run in runs:
            path, evaluation = results / run.file, RunEvaluation(run, data, options, work)
            stored = read_parts(path)
            for part, compute in field_parts(evaluation, options).items():
                if part in stored:
                    continue
                start = time.perf_counter()
                lines = [*compute(), Line("", END_METRIC, time.perf_counter() - start)]
                append_part(path, part, [rounded(line) for line in lines])
                print(f"{run.model}, seed {run.seed}: {part}, {lines[-1].value:.0f} s", flush=True)
        report = "\n".join(field_report(stored_runs(results, runs[0].config), setting))
        (options.out / "voice-field.md").write_text(report + "\n")
        print(report)


def field_parts(evaluation: RunEvaluation, options: argparse.Namespace) -> dict[str, Callable[[], list[Line]]]:
    """Return the parts of the evaluation of a run by name."""
    data, n_resamples = evaluation.data, options.n_resamples
    unedited, edited = unedited_clips(data), edited_clips(data, N_EDITED_QUICK if options.quick else N_EDITED)

    def under(acquisition: Acquisition) -> list[Line]:
        is_detected = detected_in_files(evaluation, unedited, acquisition)
        lines = alarm_lines(is_detected, evaluation.labels[1:], unedited.speakers, acquisition.codec, n_resamples)
        if acquisition.keeps_edits:
            is_detected = detected_in_files(evaluation, edited, acquisition)
            lines += recall_lines(is_detected, evaluation.labels[1:], edited, n_resamples)
        return lines

    def recorded(source: str) -> list[Line]:
        folder = options.speech.parent.parent / "speech_rates"
        table = pd.read_csv(folder / "clips.csv", dtype={"speaker": str})
        table = table[table["source"].str.startswith(source)][:: 8 if options.quick else 1]
        is_detected = detected([str(folder / name) for name in table["file"]], evaluation)
        # The clips of a single speaker are resampled by themselves.
        groups = table["speaker"] if table["speaker"].nunique() > 1 else table["file"]
        return alarm_lines(is_detected, evaluation.labels[1:], groups.to_numpy(), None, n_resamples)

    parts: dict[str, Callable[[], list[Line]]] = {
        name: partial(under, acquisition) for name, acquisition in ACQUISITIONS.items()
    }
    return parts | {name: partial(recorded, source) for name, source in SOURCES.items()}


# Clips and files -----------------------------------------------------------------------------------


def unedited_clips(data: EvaluationData) -> Clips:
    """Return the clips of unknown speakers as they are."""
    assert data.val.speakers is not None
    return Clips([waveform for _, waveform in data.val.read()], data.val.speakers, np.full(len(data.val), ""))


def edited_clips(data: EvaluationData, n_per_label: int) -> Clips:
    """Return clips of unknown speakers with one audible edit each, before their acquisition."""
    clips = data.edited_before_acquisition(n_per_label * len(data.edits))
    rows = [number for number, record in enumerate(clips.records) if record.labels and not record.inaudible]
    labels = np.array([clips.records[number].labels[0] for number in rows])
    return Clips([clips.clip(number) / np.float32(32768) for number in rows], clips.speakers[rows], labels)


def detected_in_files(evaluation: RunEvaluation, clips: Clips, acquisition: Acquisition) -> np.ndarray:
    """Write clips as files under an acquisition, and return which labels are detected in them."""
    with tempfile.TemporaryDirectory(prefix="mmestim-") as folder:
        targets = (Path(folder) / f"{number:04}" for number in range(len(clips.waveforms)))
        n_jobs = evaluation.options.n_jobs
        files = Parallel(n_jobs)(map(delayed(acquisition.write), clips.waveforms, targets))
        return detected(list(map(str, files)), evaluation)


def detected(paths: Sequence[str], evaluation: RunEvaluation) -> np.ndarray:
    """Return which labels are detected in files, without 'unaltered'."""
    parts = np.array_split(paths, min(evaluation.options.n_jobs, len(paths)))
    predicted = Parallel(len(parts))(delayed(evaluation.detector.predict)(part.tolist()) for part in parts)
    return np.concatenate(predicted)[:, 1:] == 1


# Figures -------------------------------------------------------------------------------------------


def alarm_lines(
    is_detected: np.ndarray, labels: Sequence[str], speakers: np.ndarray, codec: str | None, n_resamples: int
) -> list[Line]:
    """Return the fraction of unedited clips with each label, and with any that is false, also of each kind."""
    is_false = np.array([label != codec for label in labels])
    is_changed = np.array([TAXONOMY[label].kind == CHANGED_CONTENT for label in labels])
    groups = {ANY: is_false, PROCESSING: is_false & ~is_changed, CHANGED_CONTENT: is_false & is_changed}

    def rates(is_detected: np.ndarray) -> np.ndarray:
        of_groups = (is_detected[:, group].any(axis=1).mean() for group in groups.values())
        return np.array([*is_detected.mean(axis=0), *of_groups])

    low, high = bootstrap_interval(rates, speakers, is_detected, n_resamples=n_resamples, random_state=0)
    return [
        Line(name, "named" if name == codec else "false_alarm_rate", *map(float, values))
        for name, *values in zip([*labels, *groups], rates(is_detected), low, high, strict=True)
    ]


def recall_lines(is_detected: np.ndarray, labels: Sequence[str], clips: Clips, n_resamples: int) -> list[Line]:
    """Return the recall of each label on clips with one edit, and the mean over the labels."""
    present = [label for label in labels if label in clips.labels]
    is_hit = is_detected[np.arange(len(clips.labels)), [list(labels).index(label) for label in clips.labels]]
    is_label = np.array([clips.labels == label for label in present]).T

    def recalls(is_hit: np.ndarray, is_label: np.ndarray) -> np.ndarray:
        per_label = (is_hit[:, None] & is_label).sum(axis=0) / np.maximum(is_label.sum(axis=0), 1)
        return np.array([*per_label, per_label.mean()])

    low, high = bootstrap_interval(recalls, clips.speakers, is_hit, is_label, n_resamples=n_resamples, random_state=0)
    return [
        Line(name, "recall", *map(float, values))
        for name, *values in zip([*present, MEAN], recalls(is_hit, is_label), low, high, strict=True)
    ]


# Report --------------------------------------------------------------------------------------------


def described(data: EvaluationData) -> list[str]:
    """Return paragraphs about the clips."""
    return [
        f"{len(data.val)} unedited clips of about 8 s by {len(set(data.val.speakers))} speakers of LibriSpeech that no "
        "detector was trained or calibrated on, written as files under each acquisition. LibriSpeech was made from MP3 "
        "files, so a detector cannot fully separate the two. Real recordings: 16 clips of one speaker of LJSpeech, and "
        "32 of 16 actors of RAVDESS.",
        "The call above is the most recent one; the tables contain all stored runs with its settings. "
        "Any: clips with any label but that of the file's codec; processing and changed content: with such a label of "
        "that kind. Named: clips whose codec is detected. Brackets contain 95 % intervals, bootstrapped over speakers, "
        "for LJSpeech over clips.",
    ]


def field_report(parts: dict[Run, dict[str, list[Line]]], setting: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# Files as people have them\n"
    for paragraph in setting:
        yield f"{paragraph}\n"
    for run, lines_by_part in parts.items():
        figures = {part: {(line.label, line.metric): line for line in lines} for part, lines in lines_by_part.items()}
        yield f"## Unedited files: {run.model}, seed {run.seed}\n"
        yield from head("acquisition", *(f"{kind}, %" for kind in ALARMS), "most frequent, %", "codec named, %")
        for part, lines in figures.items():
            named = [line for (_, metric), line in lines.items() if metric == "named"]
            alarms = [lines[name, "false_alarm_rate"] for name in ALARMS]
            others = [
                line for (name, metric), line in lines.items() if metric == alarms[0].metric and line not in alarms
            ]
            worst = max(others, key=lambda line: line.value)
            most_frequent = f"{worst.label} {100 * worst.value:.0f}" if worst.value else "-"
            yield row(part, *map(percent, alarms), most_frequent, percent(named[0]) if named else "-")
        yield f"\n## Recall on edited files: {run.model}, seed {run.seed}\n"
        reference = figures[REFERENCE]
        yield from head("acquisition", "mean recall, %", "minus that of 16 kHz", "largest loss of a label")
        for part, lines in figures.items():
            recalls = {name: line for (name, metric), line in lines.items() if metric == "recall"}
            if not recalls:
                continue
            changes = {name: 100 * (line.value - reference[name, "recall"].value) for name, line in recalls.items()}
            worst_label = min(changes, key=lambda name: changes[name])
            loss = f"{worst_label} {changes[worst_label]:+.0f}" if changes[worst_label] < 0 else "-"
            yield row(part, percent(recalls[MEAN]), f"{changes[MEAN]:+.1f}", loss)
        yield ""


def percent(line: Line) -> str:
    """Format a fraction and its interval in percent."""
    return f"{100 * line.value:.0f} ({100 * line.low:.0f}-{100 * line.high:.0f})"
