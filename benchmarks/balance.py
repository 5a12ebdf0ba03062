"""Joint networks, plain and against the modality gap, and branches trained apart: estimators x data sets x seeds.

Every run draws training rows, fits one estimator and scores it, all modalities together and each one by
itself. A finished run is a line of <out>/balance.csv, and a later call fits only what is not there yet. The
report of the runs asked for goes to the screen and to <out>/balance.md and <out>/balance.png.

The seed decides the estimator's random_state and which rows of the training part it gets. Rows of the test
part score and do nothing else; to compare settings, score on rows of the training part: --split validation.
Data sets that are files are looked for in the folder that MMESTIM_DATA names.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mmestim
from _grids import GRIDS
from _ranks import draw_ranks
from _report import BASELINE, KEY, append, conclusion, draw, markdown, pack, stored, unpack
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.balancers import Balancer, GradientConflict
from mmestim.datasets import load_av_digits, load_digit_views, load_mfeat, make_imbalanced_modalities

HERE = Path(__file__).resolve().parent

METHODS = {
    name: method
    for name, method in vars(mmestim.balancers).items()
    if isinstance(method, type) and issubclass(method, Balancer) and method not in (Balancer, GradientConflict)
}

# "udi-aligned@audio" is "udi-aligned" with that modality as its anchor.
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
    # The modality gap's terms one by one; without any it is joint-concat+unimodal.
    "gap-pull": ModalityGapClassifier(shift_weight=0, balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift": ModalityGapClassifier(balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift+weights": ModalityGapClassifier(fine_tune_epochs=0),
    "gap-all": ModalityGapClassifier(fine_tune_epochs=10),
    "gap-all-out-of-fold": ModalityGapClassifier(fine_tune_epochs=10, gap_source="out_of_fold"),
    "gap-fine-tuning": ModalityGapClassifier(gap_weight=0, shift_weight=0, balanced_weight=0, fine_tune_epochs=10),
    # Every balancing method at its defaults, such as "joint:OGM".
    **{f"joint:{name}": JointClassifier(balancer=method()) for name, method in METHODS.items()},
}
UDIS = {name: model.guidance for name, model in ESTIMATORS.items() if isinstance(model, UDIClassifier)}
SHIPPED = next((name for name in UDIS if UDIS[name] == UDIClassifier().guidance), "")

TUNING_SEEDS, SLOW_TUNING_SEEDS = 3, 1  # slow: by convolutions

# Data sets -----------------------------------------------------------------------------------------


@dataclass
class Task:
    """A data set whose rows have two parts, fixed once and for all: a pool to train on, and test rows."""

    data: Any
    pool: np.ndarray  # masks
    test: np.ndarray
    n_train: int
    note: str = ""
    is_slow: bool = False  # convolutions
    groups: np.ndarray | None = None  # where the test rows are of other groups, so are the validation rows
    twins: np.ndarray | None = None  # rows of one number share something: none is fitted that has a twin scored

    def rows(self, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows to fit and rows to score."""
        y, pool, scored = self.data.target, np.flatnonzero(self.pool), np.flatnonzero(self.test)
        if split == "validation" and self.groups is not None:
            names = np.unique(self.groups[pool])
            held_out = self.groups[pool] == names[seed % len(names)]
            pool, scored = pool[~held_out], pool[held_out]
        elif split == "validation":
            pool, scored = train_test_split(pool, test_size=0.25, stratify=y[pool], random_state=seed)
        if self.twins is not None:
            pool = pool[~np.isin(self.twins[pool], self.twins[scored])]
        fitted, _ = train_test_split(pool, train_size=self.n_train, stratify=y[pool], random_state=seed)
        return fitted, scored


def digits(views: list[str], n_train: int) -> Task:
    data = load_digit_views(views=views)
    rows = np.arange(len(data.target))
    test = np.isin(rows, train_test_split(rows, test_size=0.3, stratify=data.target, random_state=0)[1])
    return Task(data, ~test, test, n_train)


def synthetic() -> Task:
    """A few telling columns beside many faint ones."""
    data = make_imbalanced_modalities(20_000, n_classes=10, strength=[5, 3.5], n_features=[16, 64], random_state=0)
    best = {
        " + ".join(names): data.model.bayes_accuracy(names)[0] for names in (["strong"], ["weak"], ["strong", "weak"])
    }
    note = f"Bayes-optimal accuracy: {', '.join(f'{name} {100 * value:.1f}' for name, value in best.items())}."
    test = np.arange(len(data.target)) >= 10_000
    return Task(data, ~test, test, 1000, note)


def av_digits() -> Task:
    data = load_av_digits()
    note = "Raw spectrograms and images; official test rows."
    return Task(data, data.split == "train", data.split == "test", 1000, note, is_slow=True, twins=data.mnist_index)


def av_digits_hard() -> Task:
    data = load_av_digits(image_noise=0.8)
    test = np.isin(data.speaker, ["theo", "yweweler"])
    # An image may be paired with several recordings: none is on both sides.
    pool = ~test & ~np.isin(data.mnist_index, data.mnist_index[test])
    note = "Image noise of standard deviation 0.8; the test rows are of speakers, and images, never trained on."
    return Task(data, pool, test, 1000, note, is_slow=True, groups=data.speaker, twins=data.mnist_index)


def mfeat(*views: str) -> Task:
    data = load_mfeat()
    if views:
        blocks = {view: data.data[:, data.modalities[view]] for view in views}
        data.data, data.modalities, data.shapes = mmestim.stack_modalities(**blocks)
    return Task(data, data.split == "train", data.split == "test", 500)


DATA_SETS: dict[str, Callable[[], Task]] = {
    "digits": lambda: digits(["pixels", "fourier"], 300),
    "synthetic": synthetic,
    "digits-four": lambda: digits(["pixels", "projections", "fourier", "moments"], 300),
    "mfeat": mfeat,
    "mfeat-pair": lambda: mfeat("pix", "fou"),
    "av-digits": av_digits,
    "av-digits-hard": av_digits_hard,
}

FULL = {
    "data_sets": list(DATA_SETS),
    "estimators": list(ESTIMATORS),
    "seeds": 10,
    "jobs": 1,
    "out": HERE / "results",
}
QUICK = {
    "data_sets": ["digits", "synthetic"],
    "estimators": [BASELINE, "late", SHIPPED or "udi-dynamic"],
    "seeds": 10,
    "jobs": joblib.cpu_count(),
    "out": HERE.parent / "build" / "demo",  # no commit takes it for the full results
}

# Runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One fit and what it is stored under."""

    key: tuple[str, ...]  # as in _report.KEY
    model: ClassifierMixin

    def execute(self, task: Task) -> list[str]:
        """Fit and score; the line to store."""
        torch.set_num_threads(1)  # The same numbers whatever the number of jobs and cores.
        data_set, name, seed, split, _ = self.key
        fitted, scored = task.rows(int(seed), split)
        X, y, X_new, y_new = (a[rows] for rows in (fitted, scored) for a in (task.data.data, task.data.target))
        model = clone(self.model)
        started = time.perf_counter()
        try:
            model.fit(X, y)
        except Exception as error:
            error.add_note(f"in {name} on {data_set}, seed {seed}")
            raise
        seconds = time.perf_counter() - started
        proba = model.predict_proba_per_modality(X_new)
        alone = {modality: np.mean(model.classes_[p.argmax(axis=1)] == y_new) for modality, p in proba.items()}
        # What an encoder knows, whatever the head makes of it: a linear classifier of each modality's features.
        features = (np.split(model.transform(part), len(alone), axis=1) for part in (X, X_new))
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probes = [linear.fit(known, y).score(new, y_new) for known, new in zip(*features, strict=True)]
        probe = dict(zip(model.modalities_, probes, strict=True))
        accuracy = f"{model.score(X_new, y_new):.5f}"
        values = accuracy, pack(alone), pack(probe), getattr(model, "anchor_", ""), model.n_iter_, f"{seconds:.3f}"
        return [*self.key, *map(str, values), model.device_]


Chosen = dict[tuple[str, str], dict[str, Any]]  # by data set and estimator


def plan(tasks: dict[str, Task], args: argparse.Namespace, chosen: Chosen) -> list[Run]:
    """All runs asked for, seed by seed, so that what is done is comparable at any time."""
    return [
        make_run(data_set, task, name, seed, args.split, chosen.get((data_set, name), {}), args)
        for seed in range(args.seeds)
        for data_set, task in tasks.items()
        for name in names_for(task.data.modalities, args)
        if seed < args.slow_seeds or not task.is_slow or not name.startswith(("gap-", "joint:"))
    ]


def make_run(
    data_set: str, task: Task, name: str, seed: int, split: str, setting: dict[str, Any], args: argparse.Namespace
) -> Run:
    base, _, anchor = name.partition("@")
    model, data = clone(ESTIMATORS[base]).set_params(**({"anchor": anchor} if anchor else {}), **setting), task.data
    model.set_params(**{key: value for key, value in args.set.items() if key in model.get_params()})
    # Runs from before there were balancers count as they are.
    parameters = {k: v for k, v in model.get_params().items() if (k, v) != ("balancer", None)}
    settings = [mmestim.__version__, task.n_train, task.note, data.modalities, parameters]
    config = hashlib.blake2b(json.dumps(settings, default=repr).encode(), digest_size=4).hexdigest()
    model.set_params(modalities=data.modalities, shapes=data.shapes, random_state=seed, device=args.device)
    return Run((data_set, name, str(seed), split, config), model)


def tune(tasks: dict[str, Task], args: argparse.Namespace) -> tuple[Chosen, bool]:
    """Of each method's settings the one that does best on validation rows, and whether Ctrl-C came before."""
    candidates = {
        (data_set, name): GRIDS[name]
        for data_set, task in tasks.items()
        for name in names_for(task.data.modalities, args)
        if name in GRIDS
    }
    runs = {
        (where, number, seed): make_run(where[0], tasks[where[0]], where[1], seed, "validation", setting, args)
        for where, grid in candidates.items()
        for seed in range(SLOW_TUNING_SEEDS if tasks[where[0]].is_slow else TUNING_SEEDS)
        for number, setting in enumerate(grid)
    }
    results, interrupted = run_all(list(runs.values()), tasks, args)
    if interrupted:
        return {}, True
    accuracy = defaultdict(list)
    for (where, number, _), result in zip(runs, results, strict=True):
        accuracy[where, number].append(result["accuracy"])
    # Of equally good settings the first, which is the default; what is stored has five digits.
    best = {
        where: max(range(len(grid)), key=lambda number: round(float(np.mean(accuracy[where, number])), 4))
        for where, grid in candidates.items()
    }
    return {where: candidates[where][number] for where, number in best.items()}, False


def names_for(modalities: dict[str, slice], args: argparse.Namespace) -> Iterator[str]:
    """The estimators for a data set: gates take two modalities, an anchor is one of them."""
    for name in args.estimators:
        base, _, anchor = name.partition("@")
        if (ESTIMATORS[base].fusion in ("gated", "film") and len(modalities) != 2) or anchor not in ("", *modalities):
            continue
        yield name
        if args.anchors and base in UDIS and not anchor:
            yield from (f"{name}@{modality}" for modality in modalities)


def run_all(runs: list[Run], tasks: dict[str, Task], args: argparse.Namespace) -> tuple[list[dict[str, Any]], bool]:
    """Results of the runs, stored ones included, and whether Ctrl-C left some out."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "balance.csv"
    done = stored(path)
    todo = [run for run in runs if args.fresh or run.key not in done]
    if len(todo) < len(runs):
        print(f"{len(runs) - len(todo)} of {len(runs)} runs are in {path}; --fresh runs them again.")
    interrupted = False
    try:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            calls = (joblib.delayed(run.execute)(tasks[run.key[0]]) for run in todo)
            results = joblib.Parallel(min(args.jobs, len(todo) or 1), return_as="generator_unordered")(calls)
            for number, line in enumerate(results, 1):
                result = unpack(append(path, line))
                done[tuple(line[: len(KEY)])] = result
                print(
                    "[{}/{}] {data_set}, {estimator}, seed {seed}: {:.1f} % in {fit_seconds:.1f} s".format(
                        number, len(todo), 100 * result["accuracy"], **result
                    ),
                    flush=True,
                )
    except KeyboardInterrupt:
        interrupted = True
        print("\nStopped. What is done is stored; the same call goes on from there.")
    return [done[run.key] for run in runs if run.key in done], interrupted


# Command line --------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"data sets: {', '.join(DATA_SETS)}\nestimators: {', '.join(ESTIMATORS)};\n"
        "with a chosen anchor: udi-aligned@audio",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute's worth: two data sets that need no files, three estimators")
    add("--data-sets", nargs="+", metavar="NAME", choices=DATA_SETS, help="default: all")
    add("--estimators", nargs="+", metavar="NAME", help="default: all")
    add("--anchors", action="store_true", help="add each UDI with each modality as its anchor")
    add(
        "--seeds",
        type=int,
        metavar="N",
        help="seeds 0 to N-1 (default: 10; 3 for gap-... and joint:... by convolutions)",
    )
    add("--tune", action="store_true", help="first choose each method's setting, of three, on validation rows")
    add("--split", choices=["test", "validation"], default="test", help="rows to score on (default: %(default)s)")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters for all estimators that have them")
    add("--jobs", type=int, metavar="N", help="processes of one thread each (default: 1; one per core if quick)")
    add("--device", default="auto", help="as the estimators' parameter (default: %(default)s)")
    add("--out", type=Path, metavar="FOLDER", help="default: benchmarks/results; build/demo if quick")
    add("--fresh", action="store_true", help="run again what is stored")
    args = parser.parse_args(argv)
    if args.tune and args.split == "validation":
        parser.error("--tune chooses on validation rows: report on others, without --split validation")
    args.slow_seeds = args.seeds or 3
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in args.estimators:
        base, at, _ = name.partition("@")
        if base not in (UDIS if at else ESTIMATORS):
            parser.error(f"--estimators: {name!r} is none of {', '.join(ESTIMATORS)}, nor a UDI with an anchor")
    args.set = dict(setting.partition("=")[::2] for setting in args.set)
    for name, text in args.set.items():
        if not any(name in ESTIMATORS[given.partition("@")[0]].get_params() for given in args.estimators):
            parser.error(f"--set: none of these estimators has a parameter {name!r}")
        try:
            args.set[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            args.set[name] = text
    return args


def told(chosen: Chosen, data_set: str, task: Task) -> list[str]:
    """Sentences about the settings that were chosen, and which are not the default."""
    settings = {name: setting for (where, name), setting in chosen.items() if where == data_set}
    if not settings:
        return []
    n_seeds = SLOW_TUNING_SEEDS if task.is_slow else TUNING_SEEDS
    text = [f"Settings of {len(settings)} estimators chosen from three each on validation rows of {n_seeds} seed(s)."]
    other = []
    for name, setting in settings.items():
        if setting != GRIDS[name][0]:
            values = ", ".join(f"{key.removeprefix('balancer__')}={value}" for key, value in setting.items())
            other.append(f"{name} {values}")
    return [*text, f"Other than the default: {'; '.join(other)}."] if other else text


def main(argv: list[str] | None = None) -> int:
    """Run what the command line asks for and report; the exit status."""
    args, tasks = parse(argv), {}
    for name in args.data_sets:
        try:
            tasks[name] = DATA_SETS[name]()
        except FileNotFoundError as error:
            print(f"{name} is left out. {error}")
    chosen, interrupted = tune(tasks, args) if args.tune else ({}, False)
    results: list[dict[str, Any]] = []
    if not interrupted:
        results, interrupted = run_all(plan(tasks, args, chosen), tasks, args)
    if results:
        names = {result["estimator"] for result in results}
        udi = next((name for name in (SHIPPED, *UDIS) if name in names), None)
        stem = args.out / ("balance" if args.split == "test" else "balance-validation")
        notes = {name: " ".join([task.note, *told(chosen, name, task)]).strip() for name, task in tasks.items()}
        text = markdown(results, notes, SHIPPED, args.split)
        stem.with_suffix(".md").write_text(text)
        draw(results, udi, stem.with_suffix(".png"))
        print(f"\n{text}\n{conclusion(results, udi)}\nTable: {stem}.md\nPicture: {stem}.png")
        if draw_ranks(results, ranks := stem.with_name(f"{stem.name}-ranks.png")):
            print(f"Ranks: {ranks}")
    return 130 if interrupted else 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
