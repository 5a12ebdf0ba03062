"""What a detector is asked, part by part, and where the answers are kept."""

from __future__ import annotations

import argparse
import csv
import io
import os
import pickle
import sys
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

from _detection_data import BRICK_WALLS_HZ, VARIANTS, ClipSet, Data, WindowSet, brick_wall
from _detection_scores import Line, detection_lines, false_alarm_lines, localization_lines
from mmestim.voice import AudioCorpus, VoiceEditDetector
from mmestim.voice._models import features as _features
from mmestim.voice._models import hybrid as _hybrid
from mmestim.voice._models import network as _network
from mmestim.voice._models.boosted_trees import BoostedTrees

FIELDS = ("part", "label", "metric", "value", "low", "high")
# The last figure of a part: what is there before it is whole.
LAST = "seconds"
AT_ONCE = 256

# What is stored --------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One fit: what figures are stored under."""

    model: str
    window: float
    training_budget: float
    seed: int
    config: str

    @property
    def name(self) -> str:
        return f"{self.model}-{self.window:g}-{self.training_budget:g}-{self.seed}-{self.config}"

    @classmethod
    def from_name(cls, name: str) -> Run:
        """The one that has such a name."""
        model, window, training_budget, seed, config = name.rsplit("-", 4)
        return cls(model, float(window), float(training_budget), int(seed), config)


def stored(path: Path) -> dict[str, list[Line]]:
    """The parts of a run that are whole; of one that is there twice the latter."""
    parts: dict[str, list[Line]] = {}
    if not path.exists():
        return parts
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            sys.exit(f"{path} has other columns than this script writes: move it away or choose another --out.")
        held: dict[str, list[Line]] = {}
        for row in reader:
            if None in row.values() or None in row:
                continue
            numbers = (float(row[field] or "nan") for field in ("value", "low", "high"))
            held.setdefault(row["part"], []).append(Line(row["label"], row["metric"], *numbers))
            if row["metric"] == LAST:
                parts[row["part"]] = held.pop(row["part"])
    return parts


def append(path: Path, part: str, lines: list[Line]) -> None:
    """All lines of a part in one write."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        writer.writerow(FIELDS)
    elif not path.read_bytes().endswith(b"\n"):  # of a call that was stopped while it wrote
        text.write("\n")
    for line in lines:
        numbers = ("" if np.isnan(number) else repr(number) for number in line[2:])
        writer.writerow([part, line.label, line.metric, *numbers])
    with path.open("ab", buffering=0) as file:
        file.write(text.getvalue().encode())


def rounded(line: Line) -> Line:
    """As it is stored, so that a report does not depend on which figures were."""
    return Line(line.label, line.metric, *(float(f"{number:.5g}") for number in line[2:]))


# A run -----------------------------------------------------------------------------------------------


class Asked:
    """A run at work: its detector, which is fitted or read when it is first needed, and what that says."""

    def __init__(self, run: Run, data: Data, options: argparse.Namespace, work: Path) -> None:
        self.run, self.data, self.options, self.folder = run, data, options, work / "runs" / run.name
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def _fitted(self) -> tuple[VoiceEditDetector, dict[str, float]]:
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
            load, began = os.getloadavg()[0], time.perf_counter()
            detector.fit(self.data.train)
            facts = {"load at the start": load, "cores": os.cpu_count() or 0, "fit": time.perf_counter() - began}
            fresh = path.with_suffix(".new")
            fresh.write_bytes(pickle.dumps((detector, facts)))
            fresh.rename(path)
        detector, facts = pickle.loads(path.read_bytes())  # of our own making
        return detector.set_params(n_jobs=self.options.n_jobs), facts

    @property
    def detector(self) -> VoiceEditDetector:
        return self._fitted[0]

    @property
    def labels(self) -> list[str]:
        return self.detector.labels_.tolist()

    def proba(self, name: str, clips: list[np.ndarray]) -> np.ndarray:
        """Probabilities of clips in 16 bits, which are kept in a file."""
        path = self.folder / f"{name.replace(', ', '-').replace(' ', '-')}.npz"
        if not path.exists():
            parts = [self.detector.predict_proba(some) for some in in_turn(clips)]
            fresh = path.with_suffix(".new.npz")
            np.savez(fresh, proba=np.concatenate(parts), labels=self.labels, thresholds=self.detector.thresholds_)
            fresh.rename(path)
        with np.load(path) as arrays:
            return arrays["proba"]

    def windows(self, clips: ClipSet) -> WindowSet:
        return clips.windows(self.run.window, self.labels[1:])

    # Parts: each gives its lines

    def fit(self) -> list[Line]:
        detector, facts = self._fitted
        own = detector.training_report_[f"window {self.run.window:g}"]
        facts = facts | {
            "data": own["seconds"]["data"],
            "training": own["seconds"]["training"],
            "windows": own["n_windows"],
            "speakers": detector.training_report_["n_speakers"],
            "megabytes": (self.folder / "detector.pkl").stat().st_size / 1e6,
        }
        lines = [Line("", metric, float(value)) for metric, value in facts.items()]
        # What it thinks of itself, on speakers that were kept from its models: to be held against what follows.
        for label, scores in own["labels"].items():
            lines += [Line(label, metric, float(scores[metric])) for metric in ("roc_auc", "ece")]
        return [*lines, *(Line("mean of all", metric, own["macro"][metric]) for metric in ("roc_auc", "ece"))]

    def detection(self, variant: str, kind: str) -> list[Line]:
        windows = self.windows(self.data.set(variant, kind))
        proba = self.proba(f"{variant}, {kind}", windows.waveforms)
        truth, fills, speakers = windows.truth, windows.fills, windows.speakers
        if kind == "single":
            # Against unedited ones, not against each other.
            truth = np.where(truth == 1, 1.0, np.nan)
            truth[:, 0] = np.where((truth[:, 1:] == 1).any(axis=1), 0, np.nan)
            clean = self.windows(self.data.unedited())
            proba = np.concatenate([proba, self.proba("unedited", clean.waveforms)])
            truth, fills = np.concatenate([truth, clean.truth]), np.concatenate([fills, clean.fills])
            speakers = np.concatenate([speakers, clean.speakers])
        changed, thresholds = list(VARIANTS[variant].changes), self.detector.thresholds_
        return detection_lines(truth, fills, proba, self.labels, thresholds, speakers, changed, self.options.draws)

    def false_alarms(self, name: str) -> list[Line]:
        """On windows that are not edited, on the clips that they are of, or on windows without high frequencies."""
        clips = self.data.unedited()
        windows = self.windows(clips)
        waveforms, speakers = windows.waveforms, windows.speakers
        if name == "unedited, whole clips":
            waveforms, speakers = [clips.clip(number) for number in range(len(clips))], clips.speakers
        elif name != "unedited":
            waveforms = [brick_wall(waveform, int(name.split()[-2])) for waveform in waveforms]
        proba = self.proba(name, waveforms)
        return false_alarm_lines(proba, self.labels, self.detector.thresholds_, speakers, self.options.draws)

    def located(self, kind: str) -> list[Line]:
        clips = self.data.set("seen", kind)
        n = min(self.options.whole, len(clips))
        found = [
            segments
            for some in in_turn([clips.clip(number) for number in range(n)])
            for segments in self.detector.locate(some)
        ]
        return [Line("", "clips", n), *localization_lines(clips.records[:n], found)]

    def speed(self) -> list[Line]:
        """Hours of audio in a minute, of files as they come, and of one process where its time goes."""
        corpus = self.data.val[: self.options.whole]
        seconds = sum(len(waveform) for _, waveform in corpus.read()) / corpus.sample_rate
        lines, detector = [Line("", "hours of audio", seconds / 3600)], self.detector
        detector.predict_proba(corpus[:4])
        began = time.perf_counter()
        detector.predict_proba(corpus)
        taken = time.perf_counter() - began
        lines.append(Line("", f"hours a minute, {self.options.n_jobs} processes", seconds / 60 / taken))
        with threadpool_limits(1), ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            stack.callback(detector.set_params, n_jobs=self.options.n_jobs)
            spent = {
                "reading": timed(stack, "_read_clip", AudioCorpus),
                "statistics": timed(stack, "window_statistics", _features, _hybrid),
                "trees": timed(stack, "decision_function", BoostedTrees),
                "networks": timed(stack, "predict_in_batches", _network, _hybrid),
            }
            detector.set_params(n_jobs=1)
            began = time.perf_counter()
            detector.predict_proba(corpus)
            taken = time.perf_counter() - began
        lines.append(Line("", "hours a minute, 1 process of 1 thread", seconds / 60 / taken))
        shares = {name: sum(times) / taken for name, times in spent.items()}
        lines += [Line("", f"share of {name}", share) for name, share in shares.items()]
        return [*lines, Line("", "share of all else", 1 - sum(shares.values()))]


def in_turn(clips: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Clips in 16 bits as floats, some at a time."""
    for first in range(0, len(clips), AT_ONCE):
        yield [clip.astype(np.float32) / 32768 for clip in clips[first : first + AT_ONCE]]


def timed(stack: ExitStack, name: str, *owners: Any) -> list[float]:
    """A list that gets the seconds of every call of a function, wherever it is known, while the stack is open."""
    function, times = getattr(owners[0], name), []

    def wrapper(*args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            times.append(time.perf_counter() - began)

    for owner in owners:
        stack.enter_context(mock.patch.object(owner, name, wrapper))
    return times


def parts_of(asked: Asked) -> dict[str, Callable[[], list[Line]]]:
    """All parts of a run, the one that the aims are about first."""
    parts: dict[str, Callable[[], list[Line]]] = {"fit": asked.fit}
    for kind in ("composed", "single"):
        for variant in VARIANTS:
            parts[f"{variant}, {kind}"] = lambda variant=variant, kind=kind: asked.detection(variant, kind)
    names = ["unedited", "unedited, whole clips", *(f"unedited, below {hz} Hz" for hz in BRICK_WALLS_HZ)]
    parts |= {name: lambda name=name: asked.false_alarms(name) for name in names}
    for kind in ("composed", "single"):
        parts[f"located, {kind}"] = lambda kind=kind: asked.located(kind)
    return {**parts, "speed": asked.speed}
