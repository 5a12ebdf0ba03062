"""Evaluation of one detector in parts, and the file that stores the figures of each part."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from _csv_files import SUFFIX, append_rows, read_rows
from _detection_data import BRICK_WALLS_HZ, VARIANTS, ClipSet, EvaluationData, WindowSet, brick_wall
from _detection_scores import Line, detection_lines, false_alarm_lines, localization_lines
from mmestim.voice import AudioCorpus, VoiceEditDetector
from mmestim.voice._models import features as _features
from mmestim.voice._models import hybrid as _hybrid
from mmestim.voice._models import network as _network
from mmestim.voice._models.boosted_trees import BoostedTrees
from mmestim.voice.pretrained import pretrained_file

FIELDS = ("part", "label", "metric", "value", "low", "high")
# Metric of the last line of a part.
END_METRIC = "seconds"
# Value of --models for the detector that comes with the package. Its runs are named after the hash of its file.
PRETRAINED = "pretrained"
BATCH_SIZE = 256

# Stored figures --------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One fit, which names the file of its figures."""

    model: str
    window: float
    training_budget: float
    seed: int
    config: str

    @property
    def name(self) -> str:
        model = self.model.replace(" ", "_")
        return f"{model}-{self.window:g}-{self.training_budget:g}-{self.seed}-{self.config}"

    @property
    def file(self) -> str:
        """Name of the file of its figures."""
        return self.name + SUFFIX

    @classmethod
    def from_file(cls, path: Path) -> Run:
        """Return the run whose figures a file has."""
        model, window, training_budget, seed, config = path.name.removesuffix(SUFFIX).rsplit("-", 4)
        return cls(model.replace("_", " "), float(window), float(training_budget), int(seed), config)


def pretrained_name() -> str:
    """Return the name of the detector that comes with the package in runs."""
    with pretrained_file() as path:
        return f"{PRETRAINED} {hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"


def read_parts(path: Path) -> dict[str, list[Line]]:
    """Return the parts in the file of a run."""
    parts: dict[str, list[Line]] = {}
    for row in read_rows(path, FIELDS):
        numbers = (float(row[field] or "nan") for field in ("value", "low", "high"))
        parts.setdefault(row["part"], []).append(Line(row["label"], row["metric"], *numbers))
    return parts


def stored_runs(results: Path, config: str) -> dict[Run, dict[str, list[Line]]]:
    """Return the parts of all runs with these settings, in the order of the reports."""
    parts = {Run.from_file(path): read_parts(path) for path in results.glob(f"*-{config}{SUFFIX}")}
    in_order = sorted(parts, key=lambda run: (-run.training_budget, run.model, -run.window, run.seed))
    return {run: parts[run] for run in in_order}


def append_part(path: Path, part: str, lines: list[Line]) -> None:
    """Append the lines of a part to the file of a run."""
    rows = []
    for line in lines:
        numbers = ("" if np.isnan(number) else repr(number) for number in line[2:])
        rows.append(dict(zip(FIELDS, (part, line.label, line.metric, *numbers), strict=True)))
    append_rows(path, FIELDS, rows)


def rounded(line: Line) -> Line:
    """Round a line as in the file, so that a report is the same from stored and from new figures."""
    return Line(line.label, line.metric, *(float(f"{number:.5g}") for number in line[2:]))


# A run -----------------------------------------------------------------------------------------------


class RunEvaluation:
    """Evaluation of a run, whose detector is fitted or loaded at its first use."""

    def __init__(self, run: Run, data: EvaluationData, options: argparse.Namespace, work: Path) -> None:
        self.run, self.data, self.options, self.folder = run, data, options, work / "runs" / run.name
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def _detector_and_facts(self) -> tuple[VoiceEditDetector, dict[str, float]]:
        if self.run.model.startswith(PRETRAINED):
            detector = VoiceEditDetector.from_pretrained(device=self.options.device)
            with pretrained_file() as path:
                facts = {"megabytes": path.stat().st_size / 1e6}
            return detector.set_params(n_jobs=self.options.n_jobs), facts
        path = self.folder / "detector.pkl"
        if not path.exists():
            detector = VoiceEditDetector(
                self.options.edits,
                window=self.run.window,
                model=self.run.model,
                weights=self.options.weights,
                n_clips=self.options.n_clips,
                training_budget=self.run.training_budget,
                sources={"tts": self.data.voices},
                noises=self.data.noises,
                device=self.options.device,
                n_jobs=self.options.n_jobs,
                verbose=1,
                random_state=self.run.seed,
            )
            load, start = os.getloadavg()[0], time.perf_counter()
            detector.fit(self.data.train)
            facts = {"load at the start": load, "cores": os.cpu_count() or 0, "fit": time.perf_counter() - start}
            facts["megabytes"] = len(pickle.dumps(detector)) / 1e6
            incomplete = path.with_suffix(".new")
            incomplete.write_bytes(pickle.dumps((detector, facts)))
            incomplete.rename(path)
        detector, facts = pickle.loads(path.read_bytes())  # This script wrote the file.
        return detector.set_params(n_jobs=self.options.n_jobs), facts

    @property
    def detector(self) -> VoiceEditDetector:
        return self._detector_and_facts[0]

    @property
    def labels(self) -> list[str]:
        return self.detector.labels_.tolist()

    def proba(self, name: str, clips: list[np.ndarray]) -> np.ndarray:
        """Return the probabilities of 16-bit clips, from the file of that name if it exists."""
        path = self.folder / f"{name.replace(', ', '-').replace(' ', '-')}.npz"
        if not path.exists():
            batches = [self.detector.predict_proba(batch) for batch in float_batches(clips)]
            incomplete = path.with_suffix(".new.npz")
            thresholds = self.detector.thresholds_
            np.savez(incomplete, proba=np.concatenate(batches), labels=self.labels, thresholds=thresholds)
            incomplete.rename(path)
        with np.load(path) as arrays:
            return arrays["proba"]

    def windows(self, clips: ClipSet) -> WindowSet:
        """Return windows of a set, with the length and the labels of the detector."""
        return clips.windows(self.run.window, self.labels[1:])

    # Each of the following methods returns the lines of a part.

    def fit(self) -> list[Line]:
        """Return the costs of the fit, and the scores of the training report."""
        detector, facts = self._detector_and_facts
        window_report = detector.training_report_[f"window {self.run.window:g}"]
        facts = facts | {
            **window_report.get("seconds", {}),  # The pretrained detector has none.
            "windows": window_report["n_windows"],
            "speakers": detector.training_report_["n_speakers"],
        }
        lines = [Line("", metric, float(value)) for metric, value in facts.items()]
        # The detector's own estimates, on held-out training speakers, are compared with the scores on other speakers.
        for label, scores in window_report["labels"].items():
            lines += [Line(label, metric, float(scores[metric])) for metric in ("roc_auc", "ece")]
        macro = window_report["macro"]
        return [*lines, *(Line("mean of all", metric, macro[metric]) for metric in ("roc_auc", "ece"))]

    def detection(self, variant: str, kind: str) -> list[Line]:
        """Return the detection scores on a set of edited clips."""
        windows = self.windows(self.data.edited(variant, kind))
        proba = self.proba(f"{variant}, {kind}", windows.waveforms)
        truth, covers_window, speakers = windows.truth, windows.covers_window, windows.speakers
        if kind == "single":
            # The negatives are unedited windows only.
            truth = np.where(truth == 1, 1.0, np.nan)
            truth[:, 0] = np.where((truth[:, 1:] == 1).any(axis=1), 0, np.nan)
            unedited = self.windows(self.data.unedited())
            proba = np.concatenate([proba, self.proba("unedited", unedited.waveforms)])
            truth = np.concatenate([truth, unedited.truth])
            covers_window = np.concatenate([covers_window, unedited.covers_window])
            speakers = np.concatenate([speakers, unedited.speakers])
        return detection_lines(
            truth,
            covers_window,
            proba,
            self.labels,
            self.detector.thresholds_,
            speakers,
            list(VARIANTS[variant].changes),
            self.options.n_resamples,
        )

    def false_alarms(self, name: str) -> list[Line]:
        """Return the false alarm rates on unedited windows, on their whole clips, or on low-pass filtered windows."""
        clips = self.data.unedited()
        windows = self.windows(clips)
        waveforms, speakers = windows.waveforms, windows.speakers
        if name == "unedited, whole clips":
            waveforms, speakers = [clips.clip(number) for number in range(len(clips))], clips.speakers
        elif name != "unedited":
            waveforms = [brick_wall(waveform, int(name.split()[-2])) for waveform in waveforms]
        proba = self.proba(name, waveforms)
        return false_alarm_lines(proba, self.labels, self.detector.thresholds_, speakers, self.options.n_resamples)

    def located(self, kind: str) -> list[Line]:
        """Return the localization scores on whole clips."""
        clips = self.data.edited("seen", kind)
        n_clips = min(self.options.n_whole_clips, len(clips))
        predicted_segments = [
            segments
            for batch in float_batches([clips.clip(number) for number in range(n_clips)])
            for segments in self.detector.locate(batch)
        ]
        return [Line("", "clips", n_clips), *localization_lines(clips.records[:n_clips], predicted_segments)]

    def speed(self) -> list[Line]:
        """Return the hours of audio predicted per minute, and the fraction of time that each step takes."""
        corpus = self.data.val[: self.options.n_whole_clips]
        seconds = sum(len(waveform) for _, waveform in corpus.read()) / corpus.sample_rate
        lines, detector = [Line("", "hours of audio", seconds / 3600)], self.detector
        detector.predict_proba(corpus[:4])
        start = time.perf_counter()
        detector.predict_proba(corpus)
        elapsed = time.perf_counter() - start
        lines.append(Line("", f"hours a minute, {self.options.n_jobs} processes", seconds / 60 / elapsed))
        with threadpool_limits(1), ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            stack.callback(detector.set_params, n_jobs=self.options.n_jobs)
            call_seconds = {
                "reading": timed(stack, "_read_clip", AudioCorpus),
                "statistics": timed(stack, "window_statistics", _features, _hybrid),
                "trees": timed(stack, "decision_function", BoostedTrees),
                "networks": timed(stack, "predict_in_batches", _network, _hybrid),
            }
            detector.set_params(n_jobs=1)
            start = time.perf_counter()
            detector.predict_proba(corpus)
            elapsed = time.perf_counter() - start
        lines.append(Line("", "hours a minute, 1 process of 1 thread", seconds / 60 / elapsed))
        fractions = {name: sum(times) / elapsed for name, times in call_seconds.items()}
        lines += [Line("", f"share of {name}", fraction) for name, fraction in fractions.items()]
        return [*lines, Line("", "share of all else", 1 - sum(fractions.values()))]


def float_batches(clips: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield batches of 16-bit clips as floats in [-1, 1)."""
    for first in range(0, len(clips), BATCH_SIZE):
        yield [clip.astype(np.float32) / 32768 for clip in clips[first : first + BATCH_SIZE]]


def timed(stack: ExitStack, name: str, *owners: Any) -> list[float]:
    """Time a function in all of its owners until the stack closes; return a list that receives the seconds per call."""
    function, times = getattr(owners[0], name), []

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            times.append(time.perf_counter() - start)

    for owner in owners:
        stack.enter_context(mock.patch.object(owner, name, wrapper))
    return times


def evaluation_parts(evaluation: RunEvaluation) -> dict[str, Callable[[], list[Line]]]:
    """Return the parts of an evaluation by name, in the order of computation."""
    parts: dict[str, Callable[[], list[Line]]] = {"fit": evaluation.fit}
    for kind in ("composed", "single"):
        for variant in VARIANTS:
            parts[f"{variant}, {kind}"] = lambda variant=variant, kind=kind: evaluation.detection(variant, kind)
    names = ["unedited", "unedited, whole clips", *(f"unedited, below {hz} Hz" for hz in BRICK_WALLS_HZ)]
    parts |= {name: lambda name=name: evaluation.false_alarms(name) for name in names}
    for kind in ("composed", "single"):
        parts[f"located, {kind}"] = lambda kind=kind: evaluation.located(kind)
    return {**parts, "speed": evaluation.speed}
