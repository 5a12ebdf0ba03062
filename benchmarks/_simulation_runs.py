"""Benchmarks of the edits and the simulator: speed, comparison with audiomentations, and memory."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

from _audiomentations_cases import CASES, RATE, Case, describe_parameters
from _simulation_tables import evenly_spaced, head, hours, ms, race, row, waveforms
from memory import private_mib, watch
from mmestim.voice import LABELS, TAXONOMY, AudioCorpus, EditSimulator
from mmestim.voice._simulation.simulator import audio_pool
from mmestim.voice.edits import EDITS, AudioPool
from mmestim.voice.taxonomy import SYNTHETIC_LABELS

PACKAGES = (
    "mmestim",
    "numpy",
    "scipy",
    "soundfile",
    "soxr",
    "python-stretch",
    "av",
    "audiomentations",
    "librosa",
    "fast-mp3-augment",
    "pyroomacoustics",
)
# Upper limit for the ratio of the time of mmestim to that of audiomentations, for edits with the same engine.
MAX_RATIO = 1.2
N_PASSES = (1, 4)


class Comparison(NamedTuple):
    """Milliseconds per clip of a case in both packages, each as wall-clock time and processor time."""

    case: Case
    mmestim_ms: np.ndarray
    audiomentations_ms: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """Time of mmestim divided by that of audiomentations."""
        return self.mmestim_ms / self.audiomentations_ms


def simulate(options: argparse.Namespace, command: str) -> None:
    """Benchmark the edits and the simulator, and write the tables."""
    speech = AudioCorpus(options.speech, sample_rate=RATE)
    n_clips = options.clips or (4 if options.quick else 40)
    corpus = evenly_spaced(speech, n_clips)
    large_corpus = evenly_spaced(speech, options.many or (n_clips if options.quick else 500))
    clips, rounds = waveforms(corpus), options.rounds or (1 if options.quick else 5)
    parts: list[Iterable[str]] = [
        setting_part(command, clips, rounds),
        simulator_part(large_corpus, options.jobs, rounds),
        edits_part(corpus, clips, rounds),
        comparison_part(clips, rounds),
        memory_part(corpus),
    ]
    lines = []
    with threadpool_limits(1):
        for part in parts:
            for line in part:
                print(line, flush=True)
                lines.append(line)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "voice-simulate.md").write_text("\n".join(lines) + "\n")


def setting_part(command: str, clips: list[np.ndarray], rounds: int) -> Iterator[str]:
    """Yield the call, the clips, the machine and the versions."""
    minutes, load = sum(len(clip) for clip in clips) / RATE / 60, os.getloadavg()[0]
    yield f"# Voice edits\n\n`python benchmarks/voice.py {command}`\n"
    yield f"{len(clips)} clips, {minutes:.1f} min of speech at {RATE} Hz; median of {rounds} round(s); 1 thread, but"
    yield f"fast-mp3-augment decodes in a second thread; {os.cpu_count()} cores, load {load:.1f} at the start."
    yield f"Python {platform.python_version()}, {', '.join(installed_versions())}."


def installed_versions() -> Iterator[str]:
    """Yield the name and version of each installed package."""
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def simulator_part(corpus: AudioCorpus, jobs: list[int], rounds: int) -> Iterator[str]:
    """Time the simulator with its default settings, on files and on waveforms."""
    clips = waveforms(corpus)
    simulator, seconds = EditSimulator(random_state=0), np.mean([len(clip) for clip in clips]) / RATE
    contenders = {
        (source, n_jobs): lambda _, X=X, n_jobs=n_jobs: simulator.simulate(X, n_jobs)
        for source, X in {"files, read and edited": corpus, "waveforms in memory": clips}.items()
        for n_jobs in jobs
    }
    times = race(contenders, rounds)
    yield "\n## The whole set\n"
    yield f"`EditSimulator(random_state=0)` on {len(clips)} clips, {len(clips) * seconds / 60:.1f} min: zero to three"
    yield "edits per clip, of all edits that need no other audio.\n"
    yield from head("speech", "n_jobs", "hours of speech per minute", "ms per clip")
    for (source, n_jobs), (clock, _) in times.items():
        yield row(source, n_jobs, hours(seconds, clock / len(clips)), ms(clock / len(clips)))


def edits_part(corpus: AudioCorpus, clips: list[np.ndarray], rounds: int) -> Iterator[str]:
    """Time one edit per clip: the edit alone, and the simulator that applies it."""
    yield "\n## Each edit\n"
    yield "One process. Alone: the edit with parameters that were drawn beforehand for each clip. Waveforms, files: the"
    yield "simulator, which reads files, draws parameters, trims, crops, sets levels and writes records; it applies no"
    yield "edit to clips that are too short for it. `tts` and `vc` insert other clips of the same speech.\n"
    yield from head(
        "edit",
        "alone, ms per clip",
        *(f"{source}, {unit}" for source in ("waveforms", "files") for unit in ("ms per clip", "hours per minute")),
    )
    seconds = np.mean([len(clip) for clip in clips]) / RATE
    for label in LABELS:
        if label == "unaltered":
            name, settings, alone = "none", {"n_edits": 0}, "-"
        else:
            name, settings = label, {"edits": [label], "n_edits": 1}
            alone = edit_alone(label, clips, rounds)
        contenders = {}
        for source, X in {"waveforms": clips, "files": corpus}.items():
            sources = {label: X} if label in SYNTHETIC_LABELS else None
            simulator = EditSimulator(**settings, sources=sources, random_state=0)
            contenders[source] = lambda _, X=X, simulator=simulator: simulator.simulate(X)
        times = race(contenders, rounds)
        fields = [(ms(clock / len(clips)), hours(seconds, clock / len(clips))) for clock, _ in times.values()]
        yield row(name, alone, *fields[0], *fields[1])


def edit_alone(label: str, clips: list[np.ndarray], rounds: int) -> str:
    """Return the milliseconds per clip of an edit, without the simulator."""
    pool, ranges = AudioPool(tts=clips, vc=clips, voices=clips), TAXONOMY[label].variant("train")
    edit, arguments = EDITS[label], []
    for number, clip in enumerate(clips):
        rng, duration = np.random.default_rng(number), len(clip) / RATE
        if edit.can_draw(duration, ranges, pool):
            arguments.append((clip, edit.draw(rng, duration, RATE, ranges, pool)))
    if not arguments:
        return "clips too short"

    def apply(number: int) -> object:
        clip, parameters = arguments[number]
        return edit.apply(clip, RATE, pool, **parameters)

    return ms(race({label: apply}, rounds, len(arguments))[label][0])


def comparison_part(clips: list[np.ndarray], rounds: int) -> Iterator[str]:
    """Time the edits that audiomentations also implements, alternating between both packages on each clip."""
    yield "\n## Comparison with audiomentations\n"
    try:
        import audiomentations
    except ImportError:
        audiomentations = None
        yield 'audiomentations is not installed, so its times are left out: `pip install "mmestim[bench]"`.\n'
    else:
        yield "Both packages get the same clips and parameters, and alternate on each clip. Ratios: time of mmestim"
        yield "divided by that of audiomentations, for wall-clock time and for processor time of all threads.\n"
    yield from head(
        "edit",
        "parameters",
        "engine, mmestim",
        "engine, audiomentations",
        "mmestim, ms per clip",
        "audiomentations, ms per clip",
        "ratio",
        "ratio of processor time",
    )
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        pool = audio_files(Path(folder))
        for case in CASES:
            contenders = {"mmestim": lambda n, c=case: EDITS[c.edit].apply(clips[n], RATE, pool, **c.parameters)}
            if audiomentations:
                transform = case.make_transform(audiomentations, Path(folder))
                contenders["audiomentations"] = lambda n, transform=transform: transform(clips[n], RATE)
            try:
                times = race(contenders, rounds, len(clips))
            except ImportError as error:
                yield row(case.edit, describe_parameters(case), *case.engines, f"left out: {error}", "-", "-", "-")
                continue
            fields = ["-", "-", "-"]
            if audiomentations:
                comparison = Comparison(case, times["mmestim"], times["audiomentations"])
                comparisons.append(comparison)
                ratios = (f"{ratio:.2f}" for ratio in comparison.ratios)
                fields = [ms(times["audiomentations"][0]), *ratios]
            yield row(case.edit, describe_parameters(case), *case.engines, ms(times["mmestim"][0]), *fields)
    if comparisons:
        yield from summary(comparisons)


def audio_files(folder: Path) -> AudioPool:
    """Write 30 s of noise and an impulse response of 0.5 s to a folder, and return the simulator's pool of them."""
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(RATE // 2) / (0.07 * RATE))
    for name, samples in {"noise": rng.normal(size=30 * RATE), "response": rng.normal(size=RATE // 2) * decay}.items():
        soundfile.write(folder / f"{name}.wav", 0.9 * samples / np.abs(samples).max(), RATE)
    noises, responses = ([folder / f"{name}.wav"] for name in ("noise", "response"))
    return audio_pool(EditSimulator(sample_rate=RATE, noises=noises, impulse_responses=responses))


def summary(comparisons: list[Comparison]) -> Iterator[str]:
    """Yield the totals, and the edits that are slower than in audiomentations."""
    mmestim_ms = np.array([comparison.mmestim_ms[0] for comparison in comparisons])
    peer_ms = np.array([comparison.audiomentations_ms[0] for comparison in comparisons])
    slowest = int(np.argmax(peer_ms))
    is_other = np.arange(len(comparisons)) != slowest
    ratio = mmestim_ms.sum() / peer_ms.sum()
    ratio_of_others = mmestim_ms[is_other].sum() / peer_ms[is_other].sum()
    slowest_case = comparisons[slowest].case
    slowest_name = f"{slowest_case.edit} by {slowest_case.engines[1]}"
    yield f"\nTotal: {ms(mmestim_ms.sum())} ms per clip, audiomentations {ms(peer_ms.sum())}, a ratio of {ratio:.2f};"
    yield f"{ratio_of_others:.2f} without the slowest of audiomentations, {slowest_name}."
    yield f"Geometric mean of the ratios: {np.exp(np.log(mmestim_ms / peer_ms).mean()):.2f}."
    same_engine = np.array([comparison.ratios for comparison in comparisons if comparison.case.has_same_engine])
    n_above = (same_engine > MAX_RATIO).sum(axis=0)
    yield f"\n{len(same_engine)} comparisons have the same engine. The ratio of wall-clock time exceeds {MAX_RATIO:g}"
    yield f"in {n_above[0]} of them, and that of processor time in {n_above[1]}."
    slower = [comparison for comparison in comparisons if comparison.ratios[0] > 1]
    if slower:
        yield "\n### Edits that are slower than in audiomentations\n"
        yield from head("edit", "parameters", "same engine", "ratio", "ratio of processor time", "difference")
        for comparison in sorted(slower, key=lambda comparison: -comparison.ratios[0]):
            case, (clock, processor) = comparison.case, comparison.ratios
            engine = case.engines[0] if case.has_same_engine else "no"
            difference = case.difference or "-"
            yield row(case.edit, describe_parameters(case), engine, f"{clock:.2f}", f"{processor:.2f}", difference)


def memory_part(corpus: AudioCorpus) -> Iterator[str]:
    """Measure the peak memory of passes over a corpus, each number of passes in its own process."""
    yield "\n## Memory over a corpus\n"
    yield "Private memory of a process that simulates with all edits, in one or more passes over the files.\n"
    yield from head("passes", "clips", "before, MiB", "peak, MiB", "growth, MiB")
    for n_passes in N_PASSES:
        all_clips = corpus[np.tile(np.arange(len(corpus)), n_passes)]
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            before, peak = pool.submit(memory_before_and_peak, all_clips).result()
        yield row(n_passes, len(all_clips), f"{before:.0f}", f"{peak:.0f}", f"{peak - before:.0f}")


def memory_before_and_peak(corpus: AudioCorpus) -> tuple[float, float]:
    """Return the private memory of this process in MiB, before and as a peak during the simulation of all clips."""

    def iterate() -> None:
        for _ in EditSimulator(random_state=0).iterate(corpus):
            pass

    before = private_mib()
    return before, watch(iterate)[0]
