"""Speed and memory of scans, beside that of reading the files and of a plain network on the same windows."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
import torch
from threadpoolctl import threadpool_limits

from _acquisitions import RATE, as_packets, as_sound
from _detection import describe_call, prepared, runs_and_data
from _detection_runs import PRETRAINED, RunEvaluation
from _hops import hop_table
from _simulation_tables import head, row
from memory import private_mib, watch
from mmestim.voice import VoiceEditDetector, scan_files
from mmestim.voice._audio.streaming import AudioStream
from mmestim.voice._audio.windowing import iter_windows
from mmestim.voice._detection.clip_inference import window_step
from mmestim.voice.networks import LCNN

N_UTTERANCES, N_UTTERANCES_QUICK = 400, 8
N_FILES, MINUTES, MINUTES_QUICK = 4, 4, 0.2
WINDOW, HOP, BATCH_SIZE = round(4.05 * RATE), window_step(None, 4.05, RATE), 16
# Lengths of the recordings whose scans are compared in memory.
MEMORY_MINUTES, MEMORY_MINUTES_QUICK = (2, 60), (0.2, 0.5)
FORMATS = {
    "WAV, 16 kHz": as_sound,
    "FLAC, 48 kHz": partial(as_sound, rate=48_000, suffix="flac"),
    "MP3, 44.1 kHz": partial(as_packets, suffix="mp3", codec="libmp3lame", bitrate=128, rate=44_100),
}


def measure_scans(options: argparse.Namespace, command: str) -> None:
    """Measure hours of audio a minute, and the peak of memory."""
    options.models = options.models or [PRETRAINED]
    options.seeds = options.seeds or [0]
    with prepared(options) as work, tempfile.TemporaryDirectory(prefix="mmestim-") as folder:
        runs, data = runs_and_data(options, work, options.out / "voice-detection")
        detectors = {run.model: RunEvaluation(run, data, options, work).detector for run in runs}
        speech = np.concatenate([waveform for _, waveform in data.val.read()])
        lines = [
            "# Scans\n",
            *(f"{line}\n" for line in describe_call(command)),
            f"{N_FILES} files of {MINUTES_QUICK if options.quick else MINUTES} minutes, joined from clips of "
            f"LibriSpeech, in windows of {WINDOW / RATE:g} s, {HOP / RATE:g} s apart. Reading: decoding and "
            "resampling. LCNN: one forward pass of that network over the same windows, read before. Medians of "
            f"{n_rounds(options)} rounds, in which the rows take turns; one thread for each process.\n",
        ]
        for name, write in FORMATS.items():
            target = Path(folder) / name.split(",")[0]
            target.mkdir()
            minutes = MINUTES_QUICK if options.quick else MINUTES
            paths = [joined_file(speech, target / f"{n}", write, minutes, n) for n in range(N_FILES)]
            lines += [f"## {name}\n", *speed_table(paths, detectors, options), ""]
            print("\n".join(lines[-8:]), flush=True)
        utterances = data.edited_utterances(N_UTTERANCES_QUICK if options.quick else N_UTTERANCES)
        lines += ["## Hops\n", *hop_table(utterances, detectors, options.n_jobs), ""]
        print("\n".join(lines[-7:]), flush=True)
        lines += ["## Memory\n", *memory_table(speech, Path(folder), detectors, options.quick)]
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "voice-scan.md").write_text("\n".join(lines) + "\n")
        print("\n".join(lines[-5:]))


def n_rounds(options: argparse.Namespace) -> int:
    """Return the number of rounds."""
    return options.rounds or (1 if options.quick else 3)


def joined_file(
    speech: np.ndarray, path: Path, write: Callable[[np.ndarray, Path], Path], minutes: float, number: int = 0
) -> str:
    """Write a recording of speech, which is repeated, from another place on for each number."""
    n_samples = round(minutes * 60 * RATE)
    first = number * n_samples
    return str(write(np.take(speech, np.arange(first, first + n_samples), mode="wrap"), path))


# Speed -----------------------------------------------------------------------------------------------


def speed_table(
    paths: Sequence[str], detectors: dict[str, VoiceEditDetector], options: argparse.Namespace
) -> Iterator[str]:
    """Yield a table of the hours of audio a minute, and the ratio of each time to that of the LCNN."""
    windows = [window.waveform for path in paths for window in windows_of(path)]
    contenders: dict[str, Callable[[], object]] = {
        "reading": lambda: [block for path in paths for block in AudioStream(path, RATE)],
        "LCNN": partial(run_network, LCNN(19).eval(), windows),
    }
    for name, detector in detectors.items():
        for n_jobs in options.jobs:
            contenders[f"{name}, {n_jobs} processes"] = partial(scan, detector, paths, n_jobs)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with threadpool_limits(1):
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for contender in contenders.values():  # Workers start.
            contender()
        for _ in range(n_rounds(options)):
            for name, contender in contenders.items():
                start = time.perf_counter()
                contender()
                times[name].append(time.perf_counter() - start)
        torch.set_num_threads(n_threads)
    hours = sum(soundfile.info(path).duration for path in paths) / 3600
    yield from head("", "hours of audio a minute", "time / LCNN")
    for name, seconds in times.items():
        yield row(
            name, f"{60 * hours / np.median(seconds):.1f}", f"{np.median(seconds) / np.median(times['LCNN']):.2f}"
        )


def windows_of(path: str) -> Iterator[object]:
    """Return the windows of a file."""
    return iter_windows(AudioStream(path, RATE), WINDOW, HOP, RATE)


@torch.no_grad()
def run_network(network: torch.nn.Module, windows: Sequence[np.ndarray]) -> None:
    """Run a network on windows in batches."""
    for start in range(0, len(windows), BATCH_SIZE):
        network(torch.from_numpy(np.stack(windows[start : start + BATCH_SIZE])))


def scan(detector: VoiceEditDetector, paths: Sequence[str], n_jobs: int) -> None:
    """Scan files."""
    for _ in scan_files(detector, paths, n_jobs=n_jobs):
        pass


# Memory ----------------------------------------------------------------------------------------------


def memory_table(
    speech: np.ndarray, folder: Path, detectors: dict[str, VoiceEditDetector], is_quick: bool
) -> Iterator[str]:
    """Yield a table of the peak memory of scans of a short and of a long recording, each in a new process."""
    yield "Private memory of a process that scans one recording.\n"
    yield from head("", "minutes", "before, MiB", "peak, MiB")
    for minutes in MEMORY_MINUTES_QUICK if is_quick else MEMORY_MINUTES:
        path = joined_file(speech, folder / f"{60 * minutes:.0f} seconds", as_sound, minutes)
        for name, detector in detectors.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                before, peak = pool.submit(memory_before_and_peak, detector, path).result()
            yield row(name, minutes, f"{before:.0f}", f"{peak:.0f}")


def memory_before_and_peak(detector: VoiceEditDetector, path: str) -> tuple[float, float]:
    """Return the private memory of this process in MiB, before a scan and at its peak."""
    before = private_mib()
    return before, watch(partial(scan, detector, [path], 1))[0]
