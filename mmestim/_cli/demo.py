"""``mmestim demo``: edit a recording that comes with the package, and scan the copies."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import soundfile

from . import scan

HELP = "edit a recording that comes with mmestim, and scan it and its edited copies"
# For each recording: what is done to it, and the step of its plan. Every installation has these engines.
_RECORDINGS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "original.wav": ("unedited, a sentence of the LJ Speech data set", None),
    "telephone.wav": ("sent through a GSM telephone", {"edit": "telephone", "codec": "gsm"}),
    "low_pass.wav": (
        "without frequencies above 1200 Hz from 2 to 4 s",
        {"edit": "low_pass", "cutoff": 1200.0, "slope": 48, "family": "butterworth", "start": 2.0, "end": 4.0},
    ),
    "pitch_shift.wav": (
        "raised by 4 semitones",
        {"edit": "pitch_shift", "semitones": 4.0, "engine": "phase_vocoder"},
    ),
}
_REPORT = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "folder",
        nargs="?",
        default="mmestim-demo",
        metavar="FOLDER",
        help="folder to write the recordings and the report to (default: mmestim-demo)",
    )


def run(options: argparse.Namespace) -> int:
    """Write the recordings, scan them, and return the exit status."""
    folder = Path(options.folder)
    _check_folder(folder)
    _write_recordings(folder)
    for name, (description, _) in _RECORDINGS.items():
        print(f"{name:<16}{description}")
    report = str(folder / _REPORT)
    command = [*(str(folder / name) for name in _RECORDINGS), "--report", report]
    print(f"\n$ mmestim scan {shlex.join(command)}", flush=True)
    parser = argparse.ArgumentParser()
    scan.add_arguments(parser)
    status = scan.run(parser.parse_args(command))
    print(f"\nA page with the places and the sound: {report}")
    return status & (scan.FAILED | scan.UNREAD)


def _check_folder(folder: Path) -> None:
    """Raise ValueError if the folder is a file or holds files that are not of a demo."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"FOLDER '{folder}' is a file. Pass a new folder.")
    others = {path.name for path in folder.glob("*")} - {_REPORT, *_RECORDINGS}
    if others:
        raise ValueError(f"FOLDER '{folder}' holds other files, such as {min(others)!r}. Pass a new folder.")


def _write_recordings(folder: Path) -> None:
    """Write the recording and its edited copies into the folder."""
    from ..datasets import load_sample_speech
    from ..voice import EditPlan, EditSimulator

    folder.mkdir(parents=True, exist_ok=True)
    speech = load_sample_speech()
    simulator = EditSimulator(sample_rate=speech.sample_rate)
    duration = len(speech.waveform) / speech.sample_rate
    for name, (_, step) in _RECORDINGS.items():
        plan = EditPlan(duration=duration, sample_rate=speech.sample_rate, steps=[step] if step else [])
        waveform, _ = simulator.apply(speech.waveform, plan)
        soundfile.write(folder / name, waveform, speech.sample_rate)
