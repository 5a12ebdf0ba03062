"""Evaluation of VoiceEditDetector on unseen speakers, for every model, window length, seed and set of clips.

A run is one fit. Its evaluation has several parts. The figures of a part are appended to a file of the run in
<out>/voice-detection once they are computed, and a later call computes only the missing parts. The folder --work keeps
clips, fitted detectors and their scores, so that an interrupted call can be resumed. Without it, they are stored in a
temporary folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

import mmestim
from _detection_data import EvaluationData
from _detection_report import AIMS_WINDOW, markdown
from _detection_runs import (
    END_METRIC,
    PRETRAINED,
    Run,
    RunEvaluation,
    append_part,
    evaluation_parts,
    pretrained_name,
    read_parts,
    rounded,
    stored_runs,
)
from _detection_scores import Line
from mmestim.voice import LABELS

PACKAGES = ("mmestim", "torch", "scikit-learn", "numpy", "scipy", "soundfile", "soxr", "python-stretch", "av")
FULL = {
    "clips": 1500,
    "n_clips": None,
    "training_budget": 1.0,
    "seeds": [0, 1, 2],
    "windows": [4.05],
    "speakers": None,
    "models": ["hybrid", "features"],
    "edits": [label for label in LABELS[1:] if label != "vc"],
    "n_resamples": 200,
    "n_whole_clips": 400,
}
QUICK = {
    "clips": 12,
    "n_clips": 40,
    "training_budget": 0.01,
    "seeds": [0],
    "windows": [1.2],
    "speakers": 8,
    "models": ["features"],
    "edits": ["tts", "cut", "mp3", "reverb"],
    "n_resamples": 5,
    "n_whole_clips": 3,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of --detect to a parser."""
    group = parser.add_argument_group(
        "for --detect and --field", "without --work, clips and detectors are deleted at the end"
    )
    add = group.add_argument
    add(
        "--models",
        nargs="+",
        metavar="NAME",
        help="values of the detector's model, or pretrained for the one in the package (default: hybrid features)",
    )
    add("--windows", nargs="+", type=float, metavar="SECONDS", help="window lengths, one per run (default: 4.05)")
    add("--seeds", nargs="+", type=int, metavar="SEED", help="seeds of the detectors (default: 0 1 2)")
    add("--edits", nargs="+", metavar="LABEL", help="labels (default: all but vc, for which there is no audio)")
    add("--n-clips", type=int, help="the detector's parameter")
    add("--training-budget", type=float, help="the detector's parameter (default: 1)")
    add("--device", default="auto", help="the detector's parameter (default: %(default)s)")
    add("--weights", type=Path, help="file of weights for the model ssl")
    add("--fresh", action="store_true", help="discard stored clips, detectors and figures, and compute them again")
    add("--work", type=Path, metavar="FOLDER", help="folder for clips and detectors, reused by later calls")


def detect(options: argparse.Namespace, command: str) -> None:
    """Evaluate how well edits are detected and located."""
    with prepared(options) as work:
        run_all(options, command, work)


@contextmanager
def prepared(options: argparse.Namespace) -> Iterator[Path]:
    """Fill in the options that were not given, check the data, and yield the folder for clips and detectors."""
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    options.n_jobs = 1 if options.quick else max(options.jobs)
    if missing := [name for name in ("av", "soxr", "python_stretch") if not find_spec(name)]:
        sys.exit(f'{missing[0]} is missing, which other implementations need: pip install "mmestim[bench]".')
    root = options.speech.parent.parent
    table = options.speech.parent / "clips.csv"
    for path in (table, root / "noise", root / "rir", root / "tts_local" / "clips.csv"):
        if not path.exists():
            sys.exit(f"{path} does not exist: the detector needs the folders speech, noise, rir and tts_local.")
    with ExitStack() as stack:
        yield options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmestim-")))


def runs_and_data(options: argparse.Namespace, work: Path, results: Path) -> tuple[list[Run], EvaluationData]:
    """Return the runs that the options name, and their data; with --fresh, delete what is stored of them."""
    data_settings = [mmestim.__version__, options.edits, options.clips, options.speakers]
    run_settings = [
        *data_settings,
        options.n_clips,
        str(options.device),
        str(options.weights),
        options.n_whole_clips,
    ]
    data_digest, config = (
        hashlib.blake2b(json.dumps(settings).encode(), digest_size=4).hexdigest()
        for settings in (data_settings, run_settings)
    )
    results.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(model, window, options.training_budget, seed, config)
        for seed in options.seeds
        for window in options.windows
        for model in options.models
        if model != PRETRAINED
    ]
    if PRETRAINED in options.models:
        runs.append(Run(pretrained_name(), AIMS_WINDOW, 1.0, 0, config))
    if options.fresh:
        for folder in (work / data_digest, *(work / "runs" / run.name for run in runs)):
            shutil.rmtree(folder, ignore_errors=True)
        for run in runs:
            (results / run.file).unlink(missing_ok=True)
    return runs, EvaluationData(
        options.speech, work / data_digest, options.edits, options.clips, options.speakers, options.n_jobs
    )


def run_all(options: argparse.Namespace, command: str, work: Path) -> None:
    """Compute the missing parts of all runs, and write the report after each part."""
    results = options.out / "voice-detection"
    runs, data = runs_and_data(options, work, results)
    config = runs[0].config
    setting = [
        *describe_call(command),
        *data.described(),
        f"Settings: {describe_settings(options)}. The call above is the most recent one. The tables contain all stored "
        "runs with these settings; the folder voice-detection has their figures with five significant digits.",
    ]
    print("\n".join(setting), flush=True)

    def write_report() -> str:
        report = markdown(stored_runs(results, config), setting)
        (options.out / "voice-detection.md").write_text(report)
        return report

    for run in runs:
        path = results / run.file
        stored_parts = read_parts(path)
        for part, compute in evaluation_parts(RunEvaluation(run, data, options, work)).items():
            if part in stored_parts:
                continue
            start = time.perf_counter()
            lines = compute()
            lines = [rounded(line) for line in (*lines, Line("", END_METRIC, time.perf_counter() - start))]
            append_part(path, part, lines)
            print(f"{run.name.removesuffix(f'-{config}')}: {part}, {lines[-1].value:.0f} s", flush=True)
            write_report()
    print(f"\n{write_report()}")


def describe_call(command: str) -> Iterator[str]:
    """Yield the call, then the versions and the device."""
    yield f"`python benchmarks/voice.py {command}`, load {os.getloadavg()[0]:.1f} at the start, {os.cpu_count()} cores"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = (f"{package} {version(package)}" for package in PACKAGES)
    yield f"Python {platform.python_version()}, {', '.join(versions)}, {device}"


def describe_settings(options: argparse.Namespace) -> str:
    """Return the names and values of the settings that the report lists."""
    names = ("n_clips", "clips", "n_whole_clips", "n_resamples", "n_jobs", "device")
    values = (getattr(options, name) for name in names)
    shown = ("the detector's default" if value is None else value for value in values)
    return ", ".join(f"{name} {value}" for name, value in zip(names, shown, strict=True))
