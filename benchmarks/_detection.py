"""VoiceEditDetector on speakers that it does not know: every model, length of windows and seed, on every set of clips.

A run is one fit. What it is asked comes in parts; figures of a part go to a file of the run in <out>/voice-detection as
soon as they are there, and a later call computes only what is not. The folder --work keeps clips, fitted detectors and
their scores, so that a call that was stopped goes on; without one all that is made goes away at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

import mmestim
from _detection_data import Data
from _detection_report import markdown
from _detection_runs import LAST, Asked, Run, append, parts_of, rounded, stored
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
    "draws": 200,
    "whole": 400,
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
    "draws": 5,
    "whole": 3,
}
FOLDERS = ("--work", "--out", "--speech", "--weights")


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for --detect", "without --work, clips and detectors are not kept")
    add = group.add_argument
    add("--models", nargs="+", metavar="NAME", help="as the detector's model (default: hybrid features)")
    add("--windows", nargs="+", type=float, metavar="SECONDS", help="each by itself (default: 4.05)")
    add("--seeds", nargs="+", type=int, metavar="SEED", help="of the detectors (default: 0 1 2)")
    add("--edits", nargs="+", metavar="LABEL", help="default: all but vc, of which there is no audio")
    add("--n-clips", type=int, help="the detector's parameter")
    add("--training-budget", type=float, help="the detector's parameter (default: 1)")
    add("--device", default="auto", help="the detector's parameter (default: %(default)s)")
    add("--weights", type=Path, help="file for the model ssl")
    add("--fresh", action="store_true", help="make and compute again what is there")
    add("--work", type=Path, metavar="FOLDER", help="what is made goes there, and is used again")


def detect(options: argparse.Namespace, command: str) -> None:
    """How well edits are detected and located."""
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    options.n_jobs = 1 if options.quick else max(options.jobs)
    if missing := [name for name in ("av", "soxr", "python_stretch") if not find_spec(name)]:
        sys.exit(f'{missing[0]} is not installed, which other implementations need: pip install "mmestim[bench]".')
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
    of_runs = [*of_data, options.n_clips, str(options.device), str(options.weights), options.whole]
    data_digest, config = (
        hashlib.blake2b(json.dumps(settings).encode(), digest_size=4).hexdigest() for settings in (of_data, of_runs)
    )
    folder = options.out / "voice-detection"
    folder.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(model, window, options.training_budget, seed, config)
        for seed in options.seeds
        for window in options.windows
        for model in options.models
    ]
    if options.fresh:
        for made in (work / data_digest, *(work / "runs" / run.name for run in runs)):
            shutil.rmtree(made, ignore_errors=True)
        for run in runs:
            (folder / f"{run.name}.csv").unlink(missing_ok=True)
    data = Data(options.speech, work / data_digest, options.edits, options.clips, options.speakers, options.n_jobs)
    text = [
        *setting(command),
        *data.described(),
        f"Settings: {settings_of(options)}. The call is the last one; all that has such settings is in the tables, "
        "more exactly in the folder voice-detection.",
    ]
    print("\n".join(text), flush=True)

    def report():
        # What other calls have found until now is told as well.
        found = {Run.from_name(path.stem): stored(path) for path in folder.glob(f"*-{config}.csv")}
        in_order = sorted(found, key=lambda run: (-run.training_budget, run.model, -run.window, run.seed))
        told = markdown({run: found[run] for run in in_order if found[run]}, text)
        (options.out / "voice-detection.md").write_text(told)
        return told

    for run in runs:
        path = folder / f"{run.name}.csv"
        done = stored(path)
        asked = Asked(run, data, options, work)
        for part, compute in parts_of(asked).items():
            if part in done:
                continue
            began = time.perf_counter()
            found = compute()
            lines = [rounded(line) for line in (*found, Line("", LAST, time.perf_counter() - began))]
            append(path, part, lines)
            print(f"{run.name.removesuffix(f'-{config}')}: {part}, {lines[-1].value:.0f} s", flush=True)
            report()
    print(f"\n{report()}")


def setting(command: str) -> Iterator[str]:
    """How it was called, but for folders, and on what."""
    words = shlex.split(command)
    is_folder = [before in FOLDERS or word in FOLDERS for before, word in zip(["", *words], words, strict=False)]
    call = shlex.join(word for word, leave_out in zip(words, is_folder, strict=True) if not leave_out)
    yield f"`python benchmarks/voice.py {call}`, load {os.getloadavg()[0]:.1f} at the start, {os.cpu_count()} cores"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = (f"{package} {version(package)}" for package in PACKAGES)
    yield f"Python {platform.python_version()}, {', '.join(versions)}, {device}"


def settings_of(options: argparse.Namespace) -> str:
    names = ("n_clips", "clips", "whole", "draws", "n_jobs", "device")
    values = (getattr(options, name) for name in names)
    shown = ("the detector's" if value is None else value for value in values)
    return ", ".join(f"{name} {value}" for name, value in zip(names, shown, strict=True))
