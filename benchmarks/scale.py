"""Searches, simulations and scans on one process, two processes of loky, and two workers of dask and of ray; one fit.

Every contender does the same work, after a call that starts its workers. The tables have medians of the rounds, ratios
to one process, the bytes that cross between processes, and whether the results equal those of one process bit for bit.
A last table has the constants of the estimates in the guide. Contenders whose package is missing are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import soundfile
import torch
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

import mmestim
from _distributed import measure, table
from _traffic import TRAFFIC, start_dask, start_ray
from mmestim import JointClassifier, UDIClassifier
from mmestim._utils.parallel import run_tasks
from mmestim.datasets import load_sample_speech, make_imbalanced_modalities
from mmestim.voice import EditSimulator, VoiceEditDetector, scan_files

N_WORKERS = 2
CLIP_SECONDS = 4
# Work of a full and of a quick call: rows of the search, clips to simulate, files to scan and their seconds.
SIZES = {False: (4000, 400, 20, 30), True: (400, 8, 4, 5)}

Work = Callable[[], Any]


@contextmanager
def backend(name: str, scatter: Any = None) -> Iterator[None]:
    """Activate a contender's backend of joblib."""
    if name == "one process":
        with parallel_config("loky", n_jobs=1):
            yield
    else:
        options = {"scatter": scatter} if scatter else {}
        with parallel_config(kind(name), n_jobs=N_WORKERS, **options):
            yield


def running(name: str) -> AbstractContextManager[Any]:
    """Return a context in which the cluster of a contender runs; its processes would slow down the others."""
    clusters = {"dask": start_dask, "ray": start_ray}
    return clusters[kind(name)](N_WORKERS) if kind(name) in clusters else nullcontext()


def kind(name: str) -> str:
    """Return the backend in the name of a contender, such as "dask, scatter=[X, y]"."""
    return name.partition(",")[0]


def installed() -> list[str]:
    """Return the backends that are installed."""
    packages = {"loky": "joblib", "dask": "distributed", "ray": "ray"}
    return [name for name, package in packages.items() if importlib.util.find_spec(package)]


def compare(work: Work, names: list[str], rounds: int, shared: Any = None) -> list[str]:
    """Return the lines of a table: seconds, ratio, megabytes between processes, and whether results are equal."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    megabytes: dict[str, float] = {}
    results: dict[str, Any] = {}
    for name in names:
        with running(name):
            for number in range(1 + rounds):  # The first round starts the workers.
                with ExitStack() as stack:
                    count = stack.enter_context(TRAFFIC[kind(name)]())
                    started = time.perf_counter()
                    stack.enter_context(backend(name, shared if "scatter" in name else None))
                    results[name] = work()
                    if number:
                        seconds[name].append(time.perf_counter() - started)
                    megabytes[name] = count() / 1e6
    lines = ["", "| contender | seconds | ratio | MB between processes | equal |", "|---|---|---|---|---|"]
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[names[0]], strict=True))
        is_equal = "yes" if joblib.hash(results[name]) == joblib.hash(results[names[0]]) else "no"
        lines.append(
            f"| {name} | {statistics.median(seconds[name]):.2f} | {ratio:.2f} | {megabytes[name]:.1f} | {is_equal} |"
        )
    return lines


# Sections ------------------------------------------------------------------------------------------


def search(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the section of searches."""
    n_rows = SIZES[options.quick][0]
    data = make_imbalanced_modalities(n_rows, n_features=128, random_state=0)
    X, y = data.data, data.target
    clf = UDIClassifier(data.modalities, max_epochs=2, cv=None, device="cpu", random_state=0)
    grid = {"lr": [1e-3, 3e-3, 1e-2, 3e-2]}

    def work() -> Any:
        return GridSearchCV(clf, grid, cv=2, refit=False).fit(X, y).cv_results_["mean_test_score"]

    return [
        "## Search",
        f"`GridSearchCV(UDIClassifier)` of 8 fits on {n_rows} x {X.shape[1]} {X.dtype} ({X.nbytes / 1e6:.1f} MB).",
        *compare(work, ["one process", *options.backends], options.rounds),
        "",
        "Two such searches, one after the other:",
        *compare(
            lambda: [work(), work()],
            ["one process", *["dask", "dask, scatter=[X, y]"] * ("dask" in options.backends)],
            options.rounds,
            [X, y],
        ),
    ]


def simulation(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the section of simulations."""
    n_clips = SIZES[options.quick][1]
    paths = write_recordings(folder / "clips", n_clips, CLIP_SECONDS)
    simulator = EditSimulator(random_state=0)
    return [
        "## Simulation",
        f"`EditSimulator.simulate` of {n_clips} files of {CLIP_SECONDS} s.",
        *compare(lambda: simulator.simulate(paths), ["one process", *options.backends], options.rounds),
    ]


def scan(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the section of scans."""
    n_files, n_seconds = SIZES[options.quick][2:]
    paths = write_recordings(folder / "recordings", n_files, n_seconds)
    detector = VoiceEditDetector.from_pretrained(device="cpu")
    n_bytes = len(pickle.dumps(next(scan_files(detector, paths))))
    return [
        "## Scan",
        f"`scan_files` of {n_files} files of {n_seconds} s by the detector that ships, of "
        f"{detector.__sizeof__() / 1e6:.1f} MB. A result has {n_bytes / 1e3:.1f} kB.",
        *compare(lambda: list(scan_files(detector, paths)), ["one process", *options.backends], options.rounds),
    ]


def one_fit(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the section of fits on two processes of torch.distributed."""
    names = ["JointClassifier", "UDIClassifier"] if options.quick else None
    return [
        "## One fit",
        "Fits on two processes by gloo, and the same fits on one: whether the processes end with the same estimator, "
        "the largest difference of a probability from that of one process, and the time of a step of the same batch.",
        "",
        table(measure(N_WORKERS, names)),
    ]


def constants(options: argparse.Namespace, folder: Path) -> list[str]:
    """Return the section of constants of the estimates in the guide."""
    n_tasks = 200  # of more tasks, joblib would send many at once
    lines = []
    for name in options.backends:
        with running(name), backend(name):
            seconds = []
            for number in (n_tasks, 1, n_tasks + 1):  # The first call starts the workers, the second measures it.
                started = time.perf_counter()
                list(run_tasks(nothing, [(0,)] * number, None))
                seconds.append(time.perf_counter() - started)
            lines.append(f"| {name}: a call | {1000 * seconds[1]:.0f} ms |")
            lines.append(
                f"| {name}: one more task that does nothing | {1000 * (seconds[2] - seconds[1]) / n_tasks:.2f} ms |"
            )
    n_rows = 4000
    data = make_imbalanced_modalities(n_rows, n_features=128, random_state=0)
    clf = JointClassifier(data.modalities, max_epochs=5, cv=None, early_stopping=False, device="cpu", random_state=0)
    started = time.perf_counter()
    clf.fit(data.data, data.target)
    seconds_per_row = (time.perf_counter() - started) / (5 * n_rows)
    lines.append(f"| one row of an epoch, {data.data.shape[1]} features | {1000 * seconds_per_row:.4f} ms |")
    n_weights = sum(weight.numel() for weight in clf.module_.parameters())
    lines.append(f"| gradient of that network | {4 * n_weights / 1e6:.2f} MB |")
    return ["## Constants", "| what | value |", "|---|---|", *lines]


#: Sections of the report; each is a function of the options and of an empty folder that returns lines.
SECTIONS = {"search": search, "simulation": simulation, "scan": scan, "fit": one_fit, "constants": constants}


def nothing(number: int) -> int:
    return number


def write_recordings(folder: Path, n_files: int, n_seconds: int) -> list[str]:
    """Write recordings that start at different places of the sample speech, at different levels; return their paths."""
    folder.mkdir()
    speech = load_sample_speech()
    paths = []
    for number in range(n_files):
        paths.append(str(folder / f"{number}.wav"))
        samples = np.arange(n_seconds * speech.sample_rate) + 1000 * number
        waveform = np.take(speech.waveform, samples, mode="wrap") * (0.5 + number / (2 * n_files))
        soundfile.write(paths[-1], waveform, speech.sample_rate)
    return paths


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little work, for a trial")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--backends", nargs="+", default=installed(), help="backends (default: those installed)")
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections (default: all)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the report")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        lines = []
        for name in options.sections:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            title, *rest = SECTIONS[name](options, folder)
            lines += [title, "", *rest, ""]
            print(*lines[-len(rest) - 3 :], sep="\n", flush=True)
    text = f"""# Scale

`python benchmarks/scale.py{" --quick" if options.quick else ""}`: mmestim {mmestim.__version__}, joblib
{joblib.__version__}, torch {torch.__version__}, Python {platform.python_version()}, {joblib.cpu_count()} cores, one
thread for each process. Medians of {options.rounds} rounds, after a call that starts the workers; ray starts new
ones in each call. The bytes are those that are written to pipes, sockets and shared files. Those of ray are its
serialised arguments and results, since its processes of one machine share memory.

{chr(10).join(lines)}"""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scale.md").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
