"""Benchmarks of the edits and the simulator: speed, comparison with audiomentations, memory."""

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

import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

from _audiomentations_cases import CASES, RATE, Case, described
from _simulation_tables import head, hours, ms, race, row, spread, waveforms
from memory import private_mib, watch
from mmestim.voice import LABELS, TAXONOMY, AudioCorpus, EditSimulator
from mmestim.voice._simulation.simulator import audio_pool
from mmestim.voice.edits import EDITS, AudioPool

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
# What no edit that has the engine of theirs should exceed, in times of theirs.
TOLERATED = 1.2
PASSES = (1, 4)


def simulate(options: argparse.Namespace, command: str) -> None:
    """What making a corpus costs."""
    everything = AudioCorpus(options.speech, sample_rate=RATE)
    n_clips = options.clips or (4 if options.quick else 40)
    corpus = spread(everything, n_clips)
    many = spread(everything, options.many or (n_clips if options.quick else 500))
    clips, rounds = waveforms(corpus), options.rounds or (1 if options.quick else 5)
    parts: list[Iterable[str]] = [
        setting(command, clips, rounds),
        whole_set(many, options.jobs, rounds),
        each_edit(corpus, clips, rounds),
        beside(clips, rounds),
        memory(corpus),
    ]
    lines = []
    with threadpool_limits(1):
        for part in parts:
            for line in part:
                print(line, flush=True)
                lines.append(line)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "voice-simulate.md").write_text("\n".join(lines) + "\n")


def setting(command: str, clips: list[np.ndarray], rounds: int) -> Iterator[str]:
    """What the tables are of."""
    minutes, load = sum(len(clip) for clip in clips) / RATE / 60, os.getloadavg()[0]
    yield f"# Voice edits\n\n`python benchmarks/voice.py {command}`\n"
    yield f"{len(clips)} clips, {minutes:.1f} min of speech at {RATE} Hz; median of {rounds} round(s); 1 thread, except"
    yield f"where fast-mp3-augment decodes in another; {os.cpu_count()} cores, load {load:.1f} at the start."
    yield f"Python {platform.python_version()}, {', '.join(installed())}."


def installed() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def whole_set(corpus: AudioCorpus, jobs: list[int], rounds: int) -> Iterator[str]:
    """The simulator as it comes, on files and on waveforms."""
    clips = waveforms(corpus)
    simulator, seconds = EditSimulator(random_state=0), np.mean([len(clip) for clip in clips]) / RATE
    contenders = {
        (source, n_jobs): lambda _, X=X, n_jobs=n_jobs: simulator.simulate(X, n_jobs)
        for source, X in {"files, read and edited": corpus, "waveforms in memory": clips}.items()
        for n_jobs in jobs
    }
    taken = race(contenders, rounds)
    yield "\n## The whole set\n"
    yield f"`EditSimulator(random_state=0)` on {len(clips)} clips, {len(clips) * seconds / 60:.1f} min: all edits that"
    yield "need no other audio, none to three in a clip.\n"
    yield from head("speech", "n_jobs", "hours of speech per minute", "ms per clip")
    for (source, n_jobs), (clock, _) in taken.items():
        yield row(source, n_jobs, hours(seconds, clock / len(clips)), ms(clock / len(clips)))


def each_edit(corpus: AudioCorpus, clips: list[np.ndarray], rounds: int) -> Iterator[str]:
    """One edit in every clip; the edit itself, and the simulator with all that it does besides."""
    yield "\n## Each edit\n"
    yield "One process. The edit alone has parameters drawn for each clip; the simulator draws, trims, crops, sets"
    yield "levels, records, and for files reads. Of a clip too short for an edit it makes none. `tts` and `vc` put in"
    yield "other clips of the same speech.\n"
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
            sources = {label: X} if label in ("tts", "vc") else None
            simulator = EditSimulator(**settings, sources=sources, random_state=0)
            contenders[source] = lambda _, X=X, simulator=simulator: simulator.simulate(X)
        taken = race(contenders, rounds)
        fields = [(ms(clock / len(clips)), hours(seconds, clock / len(clips))) for clock, _ in taken.values()]
        yield row(name, alone, *fields[0], *fields[1])


def edit_alone(label: str, clips: list[np.ndarray], rounds: int) -> str:
    pool, ranges = AudioPool(tts=clips, vc=clips, voices=clips), TAXONOMY[label].variant("train")
    edit, drawn = EDITS[label], []
    for number, clip in enumerate(clips):
        rng, duration = np.random.default_rng(number), len(clip) / RATE
        if edit.can_draw(duration, ranges, pool):
            drawn.append((clip, edit.draw(rng, duration, RATE, ranges, pool)))
    if not drawn:
        return "clips too short"
    taken = race({label: lambda n: edit.apply(drawn[n][0], RATE, pool, **drawn[n][1])}, rounds, len(drawn))
    return ms(taken[label][0])


def beside(clips: list[np.ndarray], rounds: int) -> Iterator[str]:
    """Edits that both have, in turn on each clip."""
    yield "\n## Beside audiomentations\n"
    try:
        import audiomentations
    except ImportError:
        audiomentations = None
        yield 'audiomentations is not installed, so its times are left out. For them: `pip install "mmestim[bench]"`.\n'
    else:
        yield "The same clips and parameters, in turn on each clip. The ratios are ours to theirs, of the time on the"
        yield "clock and of the time of the processor, all threads.\n"
    yield from head(
        "edit",
        "parameters",
        "engine, ours",
        "engine, theirs",
        "ours, ms per clip",
        "theirs, ms per clip",
        "ratio",
        "ratio of processor time",
    )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        pool = audio_files(Path(folder))
        for case in CASES:
            contenders = {"ours": lambda n, c=case: EDITS[c.edit].apply(clips[n], RATE, pool, **c.parameters)}
            if audiomentations:
                transform = case.theirs(audiomentations, Path(folder))
                contenders["theirs"] = lambda n, transform=transform: transform(clips[n], RATE)
            try:
                taken = race(contenders, rounds, len(clips))
            except ImportError as error:
                yield row(case.edit, described(case), *case.engines, f"left out: {error}", "-", "-", "-")
                continue
            fields = ["-", "-", "-"]
            if audiomentations:
                ratios = taken["ours"] / taken["theirs"]
                found.append((case, taken["ours"][0], taken["theirs"][0], ratios))
                fields = [ms(taken["theirs"][0]), *(f"{ratio:.2f}" for ratio in ratios)]
            yield row(case.edit, described(case), *case.engines, ms(taken["ours"][0]), *fields)
    if found:
        yield from verdict(found)


def audio_files(folder: Path) -> AudioPool:
    """Half a minute of noise and a half-second response in a folder, and the pool that a simulator makes of them."""
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(RATE // 2) / (0.07 * RATE))
    for name, samples in {"noise": rng.normal(size=30 * RATE), "response": rng.normal(size=RATE // 2) * decay}.items():
        soundfile.write(folder / f"{name}.wav", 0.9 * samples / np.abs(samples).max(), RATE)
    noises, responses = ([folder / f"{name}.wav"] for name in ("noise", "response"))
    return audio_pool(EditSimulator(sample_rate=RATE, noises=noises, impulse_responses=responses))


def verdict(found: list[tuple[Case, float, float, np.ndarray]]) -> Iterator[str]:
    """Sums, and where ours is slower."""
    ours, theirs = (np.array([line[column] for line in found]) for column in (1, 2))
    longest = int(np.argmax(theirs))
    rest = np.arange(len(found)) != longest
    share, share_of_rest = ours.sum() / theirs.sum(), ours[rest].sum() / theirs[rest].sum()
    name = f"{found[longest][0].edit} by {found[longest][0].engines[1]}"
    yield f"\nAll of these together: {ms(ours.sum())} ms a clip, theirs {ms(theirs.sum())}, a ratio of {share:.2f};"
    yield f"{share_of_rest:.2f} without the longest of theirs, {name}."
    yield f"Geometric mean of the ratios: {np.exp(np.log(ours / theirs).mean()):.2f}."
    same = np.array([line[3] for line in found if line[0].same_engine])
    over = (same > TOLERATED).sum(axis=0)
    yield f"\nOf {len(same)} with the same engine, {over[0]} take more than {TOLERATED:g} times as long, {over[1]} of"
    yield "processor time."
    slower = [line for line in found if line[3][0] > 1]
    if slower:
        yield "\n### Where ours takes longer, and what differs\n"
        yield from head("edit", "parameters", "same engine", "ratio", "ratio of processor time", "what differs")
        for case, _, _, (clock, processor) in sorted(slower, key=lambda line: -line[3][0]):
            same_engine = case.engines[0] if case.same_engine else "no"
            yield row(case.edit, described(case), same_engine, f"{clock:.2f}", f"{processor:.2f}", case.differs or "-")


def memory(corpus: AudioCorpus) -> Iterator[str]:
    """Peaks of passes over a corpus, each in its own process."""
    yield "\n## Memory over a corpus\n"
    yield "Private memory of a process that iterates over the files, so many times over, with all edits.\n"
    yield from head("passes", "clips", "before, MiB", "at most, MiB", "growth, MiB")
    for n_passes in PASSES:
        all_clips = corpus[np.tile(np.arange(len(corpus)), n_passes)]
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            before, most = pool.submit(growth, all_clips).result()
        yield row(n_passes, len(all_clips), f"{before:.0f}", f"{most:.0f}", f"{most - before:.0f}")


def growth(corpus: AudioCorpus) -> tuple[float, float]:
    """Private memory of this process in MiB before and at most while all clips are edited."""

    def iterate():
        for _ in EditSimulator(random_state=0).iterate(corpus):
            pass

    before = private_mib()
    return before, watch(iterate)[0]
