"""Joint networks against branches trained apart: estimators x data sets x seeds.

Every run draws training rows, fits one estimator and scores it, all modalities together and each one by
itself. A finished run is one line of <out>/balance.csv, and a rerun fits only what is not there yet. The
report of the runs asked for goes to the screen and to <out>/balance.md and <out>/balance.png.

The seed decides the estimator's random_state and which rows of the training part it gets. Rows of the test
part score and do nothing else; to compare settings, score on rows of the training part: --split validation.
Data sets that are files are looked for in the folder that MMESTIM_DATA names.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from _report import BASELINE, conclusion, draw, markdown
from sklearn.base import ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mmestim
from mmestim import JointClassifier, LateFusionClassifier, UDIClassifier
from mmestim.datasets import load_av_digits, load_digit_views, load_mfeat, make_imbalanced_modalities

HERE = Path(__file__).resolve().parent

# What is compared. "udi-aligned@audio" is "udi-aligned" with that modality as the anchor.
ESTIMATORS = {
    BASELINE: JointClassifier(fusion="concat"),
    "joint-sum": JointClassifier(fusion="sum"),
    "joint-gated": JointClassifier(fusion="gated"),
    "joint-film": JointClassifier(fusion="film"),
    "joint-concat+unimodal": JointClassifier(fusion="concat", unimodal_weight=1.0),
    "late": LateFusionClassifier(),
    "udi-dynamic": UDIClassifier(guidance="dynamic"),  # as published
    "udi-aligned": UDIClassifier(guidance="aligned"),  # ours
    "udi-consistency": UDIClassifier(guidance=(1.0, 0.0)),
    "udi-complementarity": UDIClassifier(guidance=(0.0, 1.0)),
}


@dataclass
class Task:
    """Rows with two parts, fixed once and for all: `test` scores, training rows are drawn from the others."""

    X: np.ndarray
    y: np.ndarray
    modalities: dict[str, slice]
    shapes: dict[str, tuple[int, ...]]
    test: np.ndarray
    n_train: int
    groups: np.ndarray | None = None  # Where the test rows are of other groups, so are the validation rows.
    note: str = ""

    def rows(self, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows to fit and rows to score."""
        pool, scored = np.flatnonzero(~self.test), np.flatnonzero(self.test)
        if split == "validation" and self.groups is not None:
            names = np.unique(self.groups[pool])
            held_out = self.groups[pool] == names[seed % len(names)]
            pool, scored = pool[~held_out], pool[held_out]
        elif split == "validation":
            pool, scored = train_test_split(pool, test_size=0.25, stratify=self.y[pool], random_state=seed)
        fitted, _ = train_test_split(pool, train_size=self.n_train, stratify=self.y[pool], random_state=seed)
        return fitted, scored


def digits(views: list[str]) -> Task:
    bunch = load_digit_views(views=views)
    rows = np.arange(len(bunch.target))
    _, test = train_test_split(rows, test_size=0.3, stratify=bunch.target, random_state=0)
    return task(bunch, np.isin(rows, test), 500)


def synthetic() -> Task:
    """A few telling columns beside many faint ones."""
    bunch = make_imbalanced_modalities(20_000, strength=[4, 3], n_features=[8, 64], random_state=0)
    bayes = {name: bunch.model.bayes_accuracy([name])[0] for name in bunch.modalities}
    best = ", ".join(f"{name} {100 * value:.1f}" for name, value in bayes.items())
    note = f"Bayes-optimal accuracy: both {100 * bunch.model.bayes_accuracy()[0]:.1f}, {best}."
    return task(bunch, np.arange(20_000) >= 10_000, 1000, note=note)


def av_digits() -> Task:
    bunch = load_av_digits()
    return task(bunch, bunch.split == "test", 1000, note="Spectrograms and images as they are; official test rows.")


def av_digits_hard() -> Task:
    """New speakers, noisy images; no image of a test row is in a training row."""
    bunch = load_av_digits(image_noise=0.8)
    test = np.isin(bunch.speaker, ["theo", "yweweler"])
    keep = test | ~np.isin(bunch.mnist_index, bunch.mnist_index[test])
    note = "Image noise of sd 0.8; tested on speakers who are in no training row."
    return task(bunch, test, 1000, keep=keep, groups=bunch.speaker, note=note)


def mfeat(views: list[str] | None = None) -> Task:
    bunch = load_mfeat()
    return task(bunch, bunch.split == "test", 500, views=views)


def task(
    bunch: Any, test: np.ndarray, n_train: int, *, keep: Any = slice(None), views: list[str] | None = None,
    groups: np.ndarray | None = None, note: str = "",
) -> Task:  # fmt: skip
    """The task of a data set, of some of its rows and views."""
    views = views or list(bunch.modalities)
    blocks = [bunch.data[keep][:, bunch.modalities[view]] for view in views]
    ends = np.cumsum([block.shape[1] for block in blocks]).tolist()
    modalities = {view: slice(end - b.shape[1], end) for view, b, end in zip(views, blocks, ends, strict=True)}
    groups = None if groups is None else groups[keep]
    return Task(np.hstack(blocks), bunch.target[keep], modalities, bunch.shapes, test[keep], n_train, groups, note)


DATA_SETS: dict[str, Callable[[], Task]] = {
    "digits": lambda: digits(["pixels", "fourier"]),
    "synthetic": synthetic,
    "digits-four": lambda: digits(["pixels", "projections", "fourier", "moments"]),
    "mfeat": mfeat,
    "mfeat-pair": lambda: mfeat(["pix", "fou"]),
    "av-digits": av_digits,
    "av-digits-hard": av_digits_hard,
}

QUICK = {
    "data_sets": ["digits", "synthetic"],
    "estimators": [BASELINE, "late", "udi-dynamic", "udi-aligned"],
    "seeds": 5,
    "out": HERE.parent / "build" / "demo",  # git and `make clean` know it; results of the full run stay as they are
}


@dataclass(frozen=True)
class Run:
    """One fit: what identifies it among the stored ones, and the estimator."""

    data_set: str
    estimator: str
    seed: int
    split: str
    config: str
    model: ClassifierMixin

    @property
    def key(self) -> tuple[str, ...]:
        return (self.data_set, self.estimator, str(self.seed), self.split, self.config)


# The first five are the key. In `alone` and `probe` each modality has its part: "audio=0.95;image=0.91".
FIELDS = ["data_set", "estimator", "seed", "split", "config", "accuracy", "alone", "probe",
          "anchor", "n_iter", "fit_seconds", "device"]  # fmt: skip


def plan(tasks: dict[str, Task], args: argparse.Namespace) -> list[Run]:
    """All runs asked for, seed by seed, so that what is done is comparable at any time."""
    runs = []
    for seed in range(args.seeds):
        for data_set, data in tasks.items():
            for name in names_for(data, args):
                base, _, anchor = name.partition("@")
                model = clone(ESTIMATORS[base]).set_params(**({"anchor": anchor} if anchor else {}))
                model.set_params(**{key: value for key, value in args.set.items() if key in model.get_params()})
                settings = {"n_train": data.n_train, "version": mmestim.__version__, **model.get_params()}
                config = hashlib.blake2b(json.dumps(settings, default=repr).encode(), digest_size=4).hexdigest()
                model.set_params(modalities=data.modalities, shapes=data.shapes, random_state=seed, device=args.device)
                runs.append(Run(data_set, name, seed, args.split, config, model))
    return runs


def names_for(data: Task, args: argparse.Namespace) -> Iterator[str]:
    """The estimators that are for this data set."""
    for name in args.estimators:
        base, _, anchor = name.partition("@")
        two_only = getattr(ESTIMATORS[base], "fusion", "") in ("gated", "film")
        if (two_only and len(data.modalities) != 2) or (anchor and anchor not in data.modalities):
            continue
        yield name
        if args.anchors and not anchor and isinstance(ESTIMATORS[base], UDIClassifier):
            yield from (f"{name}@{modality}" for modality in data.modalities)


def execute(run: Run, data: Task) -> dict[str, str]:
    """Fit and score; the line to store."""
    torch.set_num_threads(1)  # The same numbers whatever the number of jobs and cores.
    fitted, scored = data.rows(run.seed, run.split)
    model, y = clone(run.model), data.y[scored]
    started = time.perf_counter()
    try:
        model.fit(data.X[fitted], data.y[fitted])
    except Exception as error:
        error.add_note(f"in {run.estimator} on {run.data_set}, seed {run.seed}")
        raise
    seconds = time.perf_counter() - started
    proba = model.predict_proba_per_modality(data.X[scored])
    alone = {name: np.mean(model.classes_[p.argmax(axis=1)] == y) for name, p in proba.items()}
    values = [
        f"{model.score(data.X[scored], y):.5f}", pack(alone), pack(probe(model, data, fitted, scored)),
        getattr(model, "anchor_", ""), model.n_iter_, f"{seconds:.3f}", model.device_,
    ]  # fmt: skip
    return dict(zip(FIELDS, map(str, [*run.key, *values]), strict=True))


def probe(model: Any, data: Task, fitted: np.ndarray, scored: np.ndarray) -> dict[str, float]:
    """Accuracy of a linear classifier of each modality's features: what its encoder knows, whatever the head uses."""
    names = list(model.modalities_)
    features = (np.split(model.transform(data.X[rows]), len(names), axis=1) for rows in (fitted, scored))
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return {
        name: linear.fit(known, data.y[fitted]).score(new, data.y[scored])
        for name, known, new in zip(names, *features, strict=True)
    }


def pack(values: dict[str, float]) -> str:
    return ";".join(f"{name}={value:.5f}" for name, value in values.items())


def unpack(line: dict[str, str]) -> dict[str, Any]:
    """A stored line with its numbers as numbers."""
    parts = {
        field: {name: float(value) for name, value in (part.split("=") for part in line[field].split(";"))}
        for field in ("alone", "probe")
    }
    return {**line, **parts, "seed": int(line["seed"]), **{f: float(line[f]) for f in ("accuracy", "fit_seconds")}}


def stored(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The lines of earlier calls by key; the last one of a key counts."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != FIELDS:
            sys.exit(f"{path} has other columns than this script writes: move it away or choose another --out.")
        whole = [line for line in reader if None not in line and None not in line.values()]
    return {tuple(line[field] for field in FIELDS[:5]): line for line in whole}


def append(path: Path, values: list[str]) -> None:
    """One line in one write, so that a run is stored wholly or not at all."""
    text = io.StringIO()
    csv.writer(text).writerow(values)
    with path.open("ab", buffering=0) as file:
        file.write(text.getvalue().encode())


def run_all(runs: list[Run], tasks: dict[str, Task], args: argparse.Namespace) -> tuple[list[dict[str, Any]], bool]:
    """The results of the runs, stored ones included, and whether Ctrl-C left some out."""
    path = args.out / "balance.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    done = stored(path)
    if not path.exists():
        append(path, FIELDS)
    todo = [run for run in runs if args.fresh or run.key not in done]
    if len(todo) < len(runs):
        print(f"{len(runs) - len(todo)} of {len(runs)} runs are in {path}; --fresh runs them again.")
    calls = (joblib.delayed(execute)(run, tasks[run.data_set]) for run in todo)
    interrupted = False
    try:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            results = joblib.Parallel(args.jobs, return_as="generator_unordered")(calls)
            for number, line in enumerate(results, 1):
                append(path, list(line.values()))
                done[tuple(line[field] for field in FIELDS[:5])] = line
                print(
                    f"[{number}/{len(todo)}] {line['data_set']}, {line['estimator']}, seed {line['seed']}: "
                    f"{100 * float(line['accuracy']):.1f} in {float(line['fit_seconds']):.1f} s", flush=True,
                )  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
        print("\nStopped: what is done is stored, the same call goes on from there.")
    return [unpack(done[run.key]) for run in runs if run.key in done], interrupted


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"estimators: {', '.join(ESTIMATORS)}; a UDI with a chosen anchor: udi-aligned@audio\n"
        f"data sets:  {', '.join(DATA_SETS)}",
    )  # fmt: skip
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a minute's worth: the two data sets that need no files, four estimators, five seeds",
    )
    parser.add_argument("--data-sets", nargs="+", metavar="NAME", choices=DATA_SETS, help="default: all")
    parser.add_argument("--estimators", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--anchors", action="store_true", help="add each UDI with each modality as its anchor")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1; default: 10")
    parser.add_argument(
        "--split", choices=["test", "validation"], default="test", help="rows to score on; default: %(default)s"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="parameters for all estimators that have them, such as lr=0.03 follower_init=warm",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes of one thread each; default: 1")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: benchmarks/results; build/demo if --quick")
    parser.add_argument("--fresh", action="store_true", help="run again what is stored")  # fmt: skip
    args = parser.parse_args(argv)
    full = {"data_sets": list(DATA_SETS), "estimators": list(ESTIMATORS), "seeds": 10, "out": HERE / "results"}
    for name, value in (full | QUICK if args.quick else full).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in args.estimators:
        base, at, _ = name.partition("@")
        if base not in ESTIMATORS or (at and not isinstance(ESTIMATORS[base], UDIClassifier)):
            parser.error(f"--estimators: {name!r} is none of {', '.join(ESTIMATORS)}, and no such UDI with an anchor")
    if args.seeds < 1:
        parser.error("--seeds must be 1 or more")
    args.set = dict(setting.partition("=")[::2] for setting in args.set)
    for name, text in args.set.items():
        if not any(name in ESTIMATORS[given.partition("@")[0]].get_params() for given in args.estimators):
            parser.error(f"--set: no estimator of these has a parameter {name!r}")
        try:
            args.set[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            args.set[name] = text
    return args


def main(argv: list[str] | None = None) -> int:
    """Run what the command line asks for and report; the exit status."""
    args = parse(argv)
    tasks = {}
    for name in args.data_sets:
        try:
            tasks[name] = DATA_SETS[name]()
        except FileNotFoundError as error:
            print(f"{name} is left out. {error}")
    results, interrupted = run_all(plan(tasks, args), tasks, args)
    stem = "balance" if args.split == "test" else "balance-validation"
    if results:
        text = markdown(results, {name: data.note for name, data in tasks.items()}, args.split)
        (args.out / f"{stem}.md").write_text(text)
        print(f"\n{text}")
        draw(results, args.out / f"{stem}.png")
        print(f"{conclusion(results)}\n\nTable: {args.out / stem}.md\nPicture: {args.out / stem}.png")
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
