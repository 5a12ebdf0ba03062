"""Voice edits: hours of speech edited per minute, the same edits beside audiomentations, memory over a corpus.

One process and one thread unless a table says otherwise. Each round runs every contender, the first one
changing; times are per clip, the mean over clips of the median over rounds, after one call that does not
count. They are this machine's; the ratios are what to read. Needs Linux's /proc.

--shortcuts asks whether anything but the edits tells edited clips from unedited ones.

--detect fits VoiceEditDetector and says how well it does, in _detection.py.

audiomentations is for this script only: pip install "mmestim[bench]". Without it, ours of the edits that both have
are timed alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from _detection import add_options, detect
from _shortcuts import shortcut_auc
from memory import private_mib, watch
from mmestim.voice import LABELS, TAXONOMY, AudioCorpus, EditSimulator
from mmestim.voice._simulation.simulator import audio_pool
from mmestim.voice.edits import EDITS, AudioPool

RATE = 16000
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
BY_NATURE = {
    "tts": "other samples",
    "paste": "samples that come twice",
    "distortion": "how far peaks are above the level",
    "high_pass": "how far peaks are above the level",
}

# What both have ------------------------------------------------------------------------------------


class Case(NamedTuple):
    """An edit that audiomentations has too, and how to ask it for the same."""

    edit: str
    parameters: dict[str, Any]
    # From the package and a folder with noise.wav and response.wav to a transform.
    theirs: Callable[[Any, Path], Any]
    engines: tuple[str, str]  # ours and theirs
    differs: str

    @property
    def same_engine(self) -> bool:
        return self.engines[0] == self.engines[1]


def frozen(transform: Any) -> Any:
    """A transform whose parameters are drawn by its first call, from ranges of one value, and never again."""
    transform.freeze_parameters()
    return transform


def steep(name: str) -> Callable[[Any, Path], Any]:
    """A filter without delay, of 24 dB per octave."""

    def theirs(package, folder):
        cutoff = 2000.0 if name == "LowPassFilter" else 500.0
        return frozen(getattr(package, name)(cutoff, cutoff, 24, 24, zero_phase=True, p=1.0))

    return theirs


BANDS = {
    "kinds": ["low_shelf", *["peak"] * 5, "high_shelf"],
    "frequencies": [90.0, 180.0, 360.0, 720.0, 1440.0, 2880.0, 5760.0],
    "gains": [6.0, -8.0, 10.0, -6.0, 8.0, -10.0, 6.0],
    "qs": [0.7, 1.0, 1.5, 1.0, 1.5, 1.0, 0.7],
}


def equalizer(package: Any, folder: Path) -> Any:
    transform = package.SevenBandParametricEQ(p=1.0)
    filters = [transform.low_shelf_filter, *transform.peaking_filters, transform.high_shelf_filter]
    bands = zip(*(BANDS[key] for key in ("frequencies", "gains", "qs")), strict=True)
    for part, (frequency, gain, q) in zip(filters, bands, strict=True):
        part.parameters = {"should_apply": True, "center_freq": frequency, "gain_db": gain, "q_factor": q}
    transform.parameters = {"should_apply": True}
    return frozen(transform)


def repeated(package: Any, folder: Path) -> Any:
    transform = package.RepeatPart(crossfade_duration=0.005, p=1.0)
    start, length = round(0.5 * RATE), round(0.4 * RATE)
    transform.parameters = {"should_apply": True, "part_start_index": start, "part_num_samples": length, "repeats": 1}
    return frozen(transform)


ROOM = {"size": [6.0, 4.0, 3.0], "source": [2.0, 1.0, 1.5], "receiver": [2.0, 3.0, 1.5]}


def room(package: Any, folder: Path) -> Any:
    """It makes the response while it draws, so it cannot be frozen."""
    fixed = {f"size_{axis}": value for axis, value in zip("xyz", ROOM["size"], strict=True)}
    fixed |= {f"source_{axis}": value for axis, value in zip("xyz", ROOM["source"], strict=True)}
    fixed |= {"mic_distance": 2.0, "mic_azimuth": 0.0, "mic_elevation": 0.0, "target_rt60": 0.5}
    limits = {f"{end}_{name}": value for name, value in fixed.items() for end in ("min", "max")}
    return package.RoomSimulator(**limits, calculation_mode="rt60", leave_length_unchanged=True, p=1.0)


CASES = [
    Case(
        "low_pass",
        {"cutoff": 2000.0, "slope": 24, "family": "butterworth"},
        steep("LowPassFilter"),
        ("scipy", "scipy"),
        "ours keeps its slope up to half the sample rate",
    ),
    Case(
        "high_pass",
        {"cutoff": 500.0, "slope": 24, "family": "butterworth"},
        steep("HighPassFilter"),
        ("scipy", "scipy"),
        "ours keeps its slope up to half the sample rate",
    ),
    Case("equalizer", BANDS, equalizer, ("scipy", "scipy"), "ours filters forwards and backwards, for no delay"),
    Case(
        "pitch_shift",
        {"semitones": 2.0, "engine": "signalsmith"},
        lambda package, _: frozen(package.PitchShift(2.0, 2.0, p=1.0)),
        ("Signalsmith", "Signalsmith"),
        "ours resamples and then stretches, theirs transposes; ours pads the ends",
    ),
    Case(
        "pitch_shift",
        {"semitones": 2.0, "engine": "phase_vocoder"},
        lambda package, _: frozen(package.PitchShift(2.0, 2.0, "librosa_phase_vocoder", p=1.0)),
        ("our own", "librosa"),
        "ours locks phases to peaks and moves onsets to their place",
    ),
    Case(
        "time_stretch",
        {"rate": 0.8, "engine": "signalsmith"},
        lambda package, _: frozen(package.TimeStretch(0.8, 0.8, leave_length_unchanged=False, p=1.0)),
        ("Signalsmith", "Signalsmith"),
        "ours has shorter blocks, for onsets in their place, and pads the ends",
    ),
    Case(
        "time_stretch",
        {"rate": 0.8, "engine": "phase_vocoder"},
        lambda package, _: frozen(
            package.TimeStretch(0.8, 0.8, leave_length_unchanged=False, method="librosa_phase_vocoder", p=1.0)
        ),
        ("our own", "librosa"),
        "ours locks phases to peaks and moves onsets to their place",
    ),
    Case(
        "speed_change",
        {"rate": 0.8, "engine": "soxr"},
        lambda package, _: frozen(package.Resample(20000, 20000, p=1.0)),
        ("soxr", "soxr"),
        "",
    ),
    Case(
        "speed_change",
        {"rate": 0.8, "engine": "polyphase"},
        lambda package, _: frozen(package.Resample(20000, 20000, p=1.0)),
        ("scipy", "soxr"),
        "our other engine is the same as theirs, in the row of soxr",
    ),
    Case(
        "distortion",
        {"kind": "tanh", "amount": 0.4},
        lambda package, _: frozen(package.TanhDistortion(0.4, 0.4, p=1.0)),
        ("NumPy", "NumPy"),
        "ours leaves pauses out when it looks for the threshold",
    ),
    Case(
        "distortion",
        {"kind": "clip", "percentile": 20.0},
        lambda package, _: frozen(package.ClippingDistortion(20, 20, p=1.0)),
        ("NumPy", "NumPy"),
        "ours leaves pauses out when it looks for the threshold",
    ),
    Case(
        "distortion",
        {"kind": "bit_crush", "bits": 8},
        lambda package, _: frozen(package.BitCrush(8, 8, p=1.0)),
        ("NumPy", "NumPy"),
        "ours takes its step from the peak of the clip",
    ),
    Case(
        "mp3",
        {"bitrate": 32, "mode": "constant", "engine": "soundfile"},
        lambda package, _: frozen(package.Mp3Compression(32, 32, quality=3, p=1.0)),
        ("LAME", "LAME"),
        "LAME 3.100 at quality 3 in both, in two builds: libsndfile's and fast-mp3-augment's, which decodes in a "
        "second thread",
    ),
    Case(
        "mp3",
        {"bitrate": 32, "mode": "constant", "engine": "av"},
        lambda package, _: frozen(package.Mp3Compression(32, 32, quality=3, p=1.0)),
        ("LAME", "LAME"),
        "LAME 3.100 at quality 3 in both, in two builds: PyAV's and fast-mp3-augment's, which decodes in a "
        "second thread",
    ),
    Case(
        "reverb",
        {"kind": "measured", "direct_ratio": 0.0},
        lambda package, folder: frozen(package.ApplyImpulseResponse(folder / "response.wav", p=1.0)),
        ("scipy", "scipy"),
        "ours sets the ratio of direct sound",
    ),
    Case(
        "reverb",
        {"kind": "image_source", "direct_ratio": 0.0, "rt60": 0.5, **ROOM},
        room,
        ("our own", "pyroomacoustics"),
        "ours goes on with noise where images become dense, theirs traces rays",
    ),
    Case(
        "background_noise",
        {"kind": "white", "snr": 10.0},
        lambda package, _: package.AddGaussianSNR(10.0, 10.0, p=1.0),
        ("NumPy", "NumPy"),
        "ours measures the noise that it drew, so that the SNR is exact",
    ),
    Case(
        "background_noise",
        {"kind": "pink", "snr": 10.0},
        lambda package, _: package.AddColorNoise(10.0, 10.0, -3.01, -3.01, p=1.0),
        ("scipy", "scipy"),
        "ours has its slope from 50 Hz on, theirs from 125 Hz",
    ),
    Case(
        "background_noise",
        {"kind": "file", "snr": 10.0, "offset": 0.5},
        lambda package, folder: package.AddBackgroundNoise(folder / "noise.wav", 10.0, 10.0, p=1.0),
        ("libsndfile", "libsndfile"),
        "ours keeps all of the latest files, theirs reads the part that it needs",
    ),
    Case(
        "paste",
        {"at": 0.9, "source": 0.5, "length": 0.4, "fade": 0.005, "origin": "clip"},
        repeated,
        ("NumPy", "NumPy"),
        "ours makes the time map too",
    ),
]


def audio_files(folder: Path) -> AudioPool:
    """Half a minute of noise and a half-second response in a folder, and the pool that a simulator makes of them."""
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(RATE // 2) / (0.07 * RATE))
    for name, samples in {"noise": rng.normal(size=30 * RATE), "response": rng.normal(size=RATE // 2) * decay}.items():
        soundfile.write(folder / f"{name}.wav", 0.9 * samples / np.abs(samples).max(), RATE)
    noises, responses = ([folder / f"{name}.wav"] for name in ("noise", "response"))
    return audio_pool(EditSimulator(sample_rate=RATE, noises=noises, impulse_responses=responses))


# Clocks --------------------------------------------------------------------------------------------


def race(contenders: dict[Any, Callable[[int], object]], rounds: int, n_clips: int = 1) -> dict[Any, np.ndarray]:
    """Milliseconds of each contender per clip, on the clock and of the processor; contenders take a clip's number."""
    names = list(contenders)
    for name in names:
        contenders[name](0)
    times = {name: np.empty((rounds, n_clips, 2)) for name in names}
    for turn in range(rounds):
        for clip in range(n_clips):
            first = (turn + clip) % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter(), time.process_time()
                contenders[name](clip)
                times[name][turn, clip] = time.perf_counter() - start[0], time.process_time() - start[1]
    return {name: 1000 * np.median(values, axis=0).mean(axis=0) for name, values in times.items()}


def growth(corpus: AudioCorpus) -> tuple[float, float]:
    """Private memory of this process in MiB before and at most while all clips are edited."""

    def iterate():
        for _ in EditSimulator(random_state=0).iterate(corpus):
            pass

    before = private_mib()
    return before, watch(iterate)[0]


# Tables --------------------------------------------------------------------------------------------


def row(*fields: object) -> str:
    return "| " + " | ".join(map(str, fields)) + " |"


def head(*fields: str) -> list[str]:
    return [row(*fields), "|" + "---|" * len(fields)]


def ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def hours(seconds_per_clip: float, milliseconds: float) -> str:
    """Hours of speech per minute."""
    return f"{seconds_per_clip / milliseconds * 1000 / 60:.2f}"


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


def described(case: Case) -> str:
    """Those of the parameters that are one value."""
    values = [f"{name}={value}" for name, value in case.parameters.items() if not isinstance(value, list)]
    return ", ".join(values) or f"{len(BANDS['kinds'])} bands"


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


def spread(corpus: AudioCorpus, n_clips: int) -> AudioCorpus:
    """So many clips of a corpus, or all, at equal distances."""
    return corpus[np.linspace(0, len(corpus) - 1, min(n_clips, len(corpus))).round().astype(int)]


def waveforms(corpus: AudioCorpus) -> list[np.ndarray]:
    return [clip for _, clip in corpus.read()]


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


def closed(options: argparse.Namespace, command: str) -> None:
    """What tells edited clips from unedited ones but the edit."""
    table = options.speech.parent / "clips.csv"
    if not table.is_file():
        sys.exit(f"{table} is not there: --shortcuts needs to know who speaks, by columns file and speaker.")
    frame = pd.read_csv(table)
    corpus = AudioCorpus(frame.assign(path=[str(options.speech / name) for name in frame["file"]]))
    corpus = spread(corpus, options.clips or len(corpus))
    model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, learning_rate=0.05, random_state=0)
    lines = [
        f"# Shortcuts\n\n`python benchmarks/voice.py {command}`\n",
        f"{len(corpus)} clips of {len(set(corpus.speakers))} speakers, unedited or with one edit away from the ends,",
        "cut to 3 s. Area under the ROC curve of boosted trees that see duration, level, peak, first and last 50 ms,",
        "and then also the histogram of the samples. Five folds by speaker; 0.5 is chance.\n",
        *head("edit", "clips", "AUC", "AUC with histogram", "what shows by nature"),
    ]
    rounds = options.rounds or (1 if options.quick else 5)
    synthetic = options.speech.parent.parent / "tts_local" / "audio"
    for label in [label for label in LABELS[1:] if {"interval", "point"} & set(TAXONOMY[label].scopes)]:
        settings = {}
        if label in ("tts", "vc"):
            if label == "vc" or not synthetic.is_dir():
                continue
            settings = {"sources": {label: synthetic}}
        auc, with_histogram, n_clips = shortcut_auc(label, corpus, model, rounds, **settings)
        lines.append(row(label, n_clips, f"{auc:.3f}", f"{with_histogram:.3f}", BY_NATURE.get(label, "")))
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "voice-shortcuts.md").write_text("\n".join(lines) + "\n")


def main(args: list[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    speech = Path(os.environ.get("MMESTIM_DATA", "")) / "speech" / "audio"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_mutually_exclusive_group(required=True)
    modes.add_argument(
        "--simulate", dest="mode", action="store_const", const=simulate, help="the edits and the simulator"
    )
    modes.add_argument("--shortcuts", dest="mode", action="store_const", const=closed, help="what gives edits away")
    modes.add_argument("--detect", dest="mode", action="store_const", const=detect, help="how well edits are detected")
    parser.add_argument(
        "--speech", type=Path, default=speech, help="folder of speech (default: speech of MMESTIM_DATA)"
    )
    parser.add_argument(
        "--clips",
        type=int,
        help="clips of it, spread evenly (default: 40, or 4 if quick); of each set (default: 1500) to detect",
    )
    parser.add_argument("--many", type=int, help="clips for the whole set (default: 500, or as --clips if quick)")
    parser.add_argument("--rounds", type=int, help="rounds that count (default: 5, or 1 if quick)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of processes (default: 1 2)")
    parser.add_argument("--quick", action="store_true", help="a few clips, once")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where the table goes")
    add_options(parser)
    options = parser.parse_args(args)
    if not options.speech.is_dir():
        parser.error(f"{options.speech} is no folder: set MMESTIM_DATA, or name one with --speech.")
    options.mode(options, shlex.join(args))


if __name__ == "__main__":
    main()
