"""VoiceEditDetector on speakers that it does not know: every model, length of windows and seed, on every set of clips.

A run is one fit. What it is asked comes in parts; figures of a part go to <out>/voice-detection.csv as soon as they are
there, and a later call computes only what is not. The folder --work keeps clips, fitted detectors and their scores,
so that a call that was stopped goes on; without one all that is made goes away at the end.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import pickle
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import mmestim
from _detection_data import BRICK_WALLS_HZ, VARIANTS, ClipSet, Data, Windows, brick_wall
from _detection_report import markdown
from _detection_scores import Line, detection_lines, false_alarm_lines, localization_lines
from mmestim.voice import LABELS, AudioCorpus, VoiceEditDetector, _models

KEY = ("model", "window", "seed", "config")
FIELDS = (*KEY, "part", "label", "metric", "value", "low", "high")
# The last figure of a part: what is there before it is whole.
LAST = "seconds"
AT_ONCE = 256
PACKAGES = ("mmestim", "torch", "scikit-learn", "numpy", "scipy", "soundfile", "soxr", "python-stretch", "av")
QUICK_EDITS = ["tts", "cut", "mp3", "reverb"]
FULL = {"clips": 1500, "n_clips": 10_000, "effort": 1.0, "seeds": [0, 1, 2], "windows": [4.05], "speakers": None,
        "models": ["hybrid", "features"], "edits": [label for label in LABELS[1:] if label != "vc"], "draws": 200,
        "whole": 400, "n_jobs": 2}  # fmt: skip
QUICK = {"clips": 12, "n_clips": 40, "effort": 0.01, "seeds": [0], "windows": [1.2], "speakers": 8,
         "models": ["features"], "edits": QUICK_EDITS, "draws": 5, "whole": 3, "n_jobs": 1}  # fmt: skip

# What is stored --------------------------------------------------------------------------------------


class Run(NamedTuple):
    """One fit: what figures are stored under."""

    model: str
    window: float
    seed: int
    config: str

    @property
    def key(self) -> tuple[str, ...]:
        return self.model, f"{self.window:g}", str(self.seed), self.config

    @property
    def name(self) -> str:
        return "-".join(self.key)


Figures = dict[tuple[str, ...], dict[str, list[Line]]]  # by key and part


def stored(path: Path) -> Figures:
    """The parts of earlier calls that are whole; of one that is there twice the latter."""
    figures: Figures = {}
    if not path.exists():
        return figures
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            sys.exit(f"{path} has other columns than this script writes: move it away or choose another --out.")
        held: dict[tuple[str, ...], list[Line]] = {}
        for row in reader:
            if None in row.values() or None in row:
                continue
            where = (*(row[field] for field in KEY), row["part"])
            numbers = (float(row[field] or "nan") for field in ("value", "low", "high"))
            held.setdefault(where, []).append(Line(row["label"], row["metric"], *numbers))
            if row["metric"] == LAST:
                figures.setdefault(where[:-1], {})[where[-1]] = held.pop(where)
    return figures


def append(path: Path, run: Run, part: str, lines: list[Line]) -> None:
    """All lines of a part in one write."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        writer.writerow(FIELDS)
    elif not path.read_bytes().endswith(b"\n"):  # of a call that was stopped while it wrote
        text.write("\n")
    for line in lines:
        numbers = ("" if np.isnan(number) else repr(number) for number in line[2:])
        writer.writerow([*run.key, part, line.label, line.metric, *numbers])
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
                self.options.edits, window=self.run.window, model=self.run.model, weights=self.options.weights,
                n_clips=self.options.n_clips, effort=self.options.effort, sources={"tts": self.data.voices},
                noises=self.data.noises, device=self.options.device, n_jobs=self.options.n_jobs, verbose=1,
                random_state=self.run.seed,
            )  # fmt: skip
            load, began = os.getloadavg()[0], time.perf_counter()
            detector.fit(self.data.train)
            facts = {"load at the start": load, "cores": os.cpu_count() or 0, "fit": time.perf_counter() - began}
            fresh = path.with_suffix(".new")
            fresh.write_bytes(pickle.dumps((detector, facts)))
            fresh.rename(path)
        return pickle.loads(path.read_bytes())  # of our own making

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

    def windows(self, clips: ClipSet) -> Windows:
        return clips.windows(self.run.window, self.labels[1:])

    # Parts: each gives its lines

    def fit(self) -> list[Line]:
        detector, facts = self._fitted
        own = detector.training_report_[f"window {self.run.window:g}"]
        facts = facts | {
            "data": own["seconds_of_data"], "training": own["seconds_of_training"], "windows": own["n_windows"],
            "speakers": detector.training_report_["n_speakers"], "clips": self.options.n_clips,
            "megabytes": (self.folder / "detector.pkl").stat().st_size / 1e6,
        }  # fmt: skip
        lines = [Line("", metric, float(value)) for metric, value in facts.items()]
        # What it thinks of itself, on speakers that were kept from its models: to be held against what follows.
        for label, scores in own["labels"].items():
            lines += [Line(label, metric, float(scores[metric])) for metric in ("roc_auc", "ece")]
        return [*lines, *(Line("mean of all", metric, own["macro"][metric]) for metric in ("roc_auc", "ece"))]

    def detection(self, variant: str, kind: str) -> list[Line]:
        windows = self.windows(self.data.set(variant, kind))
        proba, truth, speakers = self.proba(f"{variant}, {kind}", windows.waveforms), windows.truth, windows.speakers
        if kind == "single":
            # Against unedited ones, not against each other.
            truth = np.where(truth == 1, 1.0, np.nan)
            truth[:, 0] = np.where((truth[:, 1:] == 1).any(axis=1), 0, np.nan)
            clean = self.windows(self.data.unedited())
            proba = np.concatenate([proba, self.proba("unedited", clean.waveforms)])
            truth = np.concatenate([truth, clean.truth])
            speakers = np.concatenate([speakers, clean.speakers])
        changed, thresholds = list(VARIANTS[variant].changes), self.detector.thresholds_
        return detection_lines(truth, proba, self.labels, thresholds, speakers, changed, self.options.draws)

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
        detector.set_params(n_jobs=self.options.n_jobs).predict_proba(corpus[:4])
        began = time.perf_counter()
        detector.predict_proba(corpus)
        taken = time.perf_counter() - began
        lines.append(Line("", f"hours a minute, {self.options.n_jobs} processes", seconds / 60 / taken))
        with threadpool_limits(1), ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            spent = {
                "reading": timed(stack, AudioCorpus, "_read"),
                "statistics": timed(stack, _models, "statistics_of"),
                "trees": timed(stack, _models.BoostedTrees, "decision_function"),
                "networks": timed(stack, _models, "ask"),
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


def timed(stack: ExitStack, owner: Any, name: str) -> list[float]:
    """A list that gets the seconds of every call of a function while the stack is open."""
    function, times = getattr(owner, name), []

    def wrapper(*args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            times.append(time.perf_counter() - began)

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


# Command line ----------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for --detect", "without --work, clips and detectors are not kept")
    add = group.add_argument
    add("--models", nargs="+", metavar="NAME", help="as the detector's model (default: hybrid features)")
    add("--windows", nargs="+", type=float, metavar="SECONDS", help="each by itself (default: 4.05)")
    add("--seeds", nargs="+", type=int, metavar="SEED", help="of the detectors (default: 0 1 2)")
    add("--edits", nargs="+", metavar="LABEL", help="default: all but vc, of which there is no audio")
    add("--n-clips", type=int, help="the detector's parameter (default: 10000)")
    add("--effort", type=float, help="the detector's parameter (default: 1)")
    add("--device", default="auto", help="the detector's parameter (default: %(default)s)")
    add("--weights", type=Path, help="file for the model ssl")
    add("--work", type=Path, metavar="FOLDER", help="what is made goes there, and is used again")


def detect(options: argparse.Namespace, command: str) -> None:
    """How well edits are detected and located."""
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    if not options.quick:
        options.n_jobs = max(options.jobs)
    if missing := [name for name in ("av", "soxr", "python_stretch") if not find_spec(name)]:
        sys.exit(f'{missing[0]} is not installed, which other implementations need: pip install "mmestim[test]".')
    root = options.speech.parent.parent
    table = options.speech.parent / "clips.csv"
    for needed in (table, root / "noise", root / "rir", root / "tts_local" / "clips.csv"):
        if not needed.exists():
            sys.exit(f"{needed} is not there: --detect needs the folders speech, noise, rir and tts_local.")
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmestim-")))
        run_all(options, command, work)


def run_all(options: argparse.Namespace, command: str, work: Path) -> None:
    of_data = [mmestim.__version__, options.edits, options.clips, options.speakers]
    of_runs = [*of_data, options.n_clips, options.effort, str(options.device), str(options.weights), options.whole]
    data_digest, config = (
        hashlib.blake2b(json.dumps(settings).encode(), digest_size=4).hexdigest() for settings in (of_data, of_runs)
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "voice-detection.csv"
    figures = stored(path)
    runs = [
        Run(model, window, seed, config)
        for seed in options.seeds for window in options.windows for model in options.models
    ]  # fmt: skip
    for line in setting(command):
        print(line, flush=True)
    data = Data(options.speech, work / data_digest, options.edits, options.clips, options.speakers, options.n_jobs)
    for run in runs:
        done = figures.setdefault(run.key, {})
        asked = Asked(run, data, options, work)
        for part, compute in parts_of(asked).items():
            if part in done:
                continue
            began = time.perf_counter()
            found = compute()
            lines = [rounded(line) for line in (*found, Line("", LAST, time.perf_counter() - began))]
            append(path, run, part, lines)
            done[part] = lines
            print(f"{run.model}, {run.window:g} s, seed {run.seed}: {part}, {lines[-1].value:.0f} s", flush=True)
            (options.out / "voice-detection.md").write_text(report(runs, figures, data, options, command))
    text = report(runs, figures, data, options, command)
    (options.out / "voice-detection.md").write_text(text)
    print(f"\n{text}")


def setting(command: str) -> Iterator[str]:
    yield f"`python benchmarks/voice.py {command}`, load {os.getloadavg()[0]:.1f} at the start, {os.cpu_count()} cores"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = (f"{package} {version(package)}" for package in PACKAGES)
    yield f"Python {platform.python_version()}, {', '.join(versions)}, {device}"


def report(runs: list[Run], figures: Figures, data: Data, options: argparse.Namespace, command: str) -> str:
    of_runs = {run: figures[run.key] for run in runs if figures.get(run.key)}
    return markdown(of_runs, [*setting(command), *data.described(), f"Settings: {shown(options)}."])


def shown(options: argparse.Namespace) -> str:
    names = ("n_clips", "effort", "seeds", "clips", "whole", "draws", "n_jobs", "device")
    return ", ".join(f"{name} {getattr(options, name)}" for name in names)
