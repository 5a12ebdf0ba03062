"""Benchmark of multimodal classifiers: joint networks, balancing methods and separately trained branches.

Every run draws training rows, fits one estimator and scores it with all modalities and with each one alone. A finished
run is one line of <out>/balance.csv; later calls fit only the missing runs. The report on the requested runs is
printed and written to <out>/balance.md and <out>/balance.png.

The seed determines random_state of the estimator and the rows that it gets from the training part. Rows of the test
part are used for scores only. To compare settings, score on rows of the training part with --split validation.
Data sets that are files are read from the folder that MMESTIM_DATA names.
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
from _report import BASELINE, KEY, append_line, conclusion, draw, format_scores, load_results, markdown, parse_line
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.balancers import Balancer, GradientConflict
from mmestim.datasets import load_av_digits, load_digit_views, load_mfeat, make_imbalanced_modalities

HERE = Path(__file__).resolve().parent

METHODS = {
    name: method
    for name, method in vars(mmestim.balancers).items()
    if isinstance(method, type) and issubclass(method, Balancer) and method not in (Balancer, GradientConflict)
}

# "udi-aligned@audio" is "udi-aligned" with this modality as its anchor.
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
    # The terms of the modality gap one by one. Without any term, the estimator equals joint-concat+unimodal.
    "gap-pull": ModalityGapClassifier(shift_weight=0, balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift": ModalityGapClassifier(balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift+weights": ModalityGapClassifier(fine_tune_epochs=0),
    "gap-all": ModalityGapClassifier(fine_tune_epochs=10),
    "gap-all-out-of-fold": ModalityGapClassifier(fine_tune_epochs=10, gap_source="out_of_fold"),
    "gap-fine-tuning": ModalityGapClassifier(gap_weight=0, shift_weight=0, balanced_weight=0, fine_tune_epochs=10),
    # Every balancing method with its defaults, such as "joint:OGM".
    **{f"joint:{name}": JointClassifier(balancer=method()) for name, method in METHODS.items()},
}
UDI_GUIDANCE = {name: model.guidance for name, model in ESTIMATORS.items() if isinstance(model, UDIClassifier)}
DEFAULT_UDI = next((name for name in UDI_GUIDANCE if UDI_GUIDANCE[name] == UDIClassifier().guidance), "")

TUNING_SEEDS, SLOW_TUNING_SEEDS = 3, 1  # slow data sets need convolutions

# Data sets -----------------------------------------------------------------------------------------


@dataclass
class Task:
    """Data set with a fixed split of its rows into a training pool and test rows."""

    data: Any
    pool: np.ndarray  # mask of the rows to train on
    test: np.ndarray  # mask of the rows to test on
    n_train: int
    note: str = ""  # part of the key of stored runs
    is_slow: bool = False  # needs convolutions
    # If given, the test rows, and hence the validation rows, belong to other groups than the training rows.
    groups: np.ndarray | None = None
    # Rows with the same number share data: no row is fitted if one that shares its data is scored.
    shared_ids: np.ndarray | None = None

    def rows(self, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to fit and the rows to score."""
        y, pool, scored = self.data.target, np.flatnonzero(self.pool), np.flatnonzero(self.test)
        if split == "validation" and self.groups is not None:
            group_names = np.unique(self.groups[pool])
            held_out = self.groups[pool] == group_names[seed % len(group_names)]
            pool, scored = pool[~held_out], pool[held_out]
        elif split == "validation":
            pool, scored = train_test_split(pool, test_size=0.25, stratify=y[pool], random_state=seed)
        if self.shared_ids is not None:
            pool = pool[~np.isin(self.shared_ids[pool], self.shared_ids[scored])]
        fitted, _ = train_test_split(pool, train_size=self.n_train, stratify=y[pool], random_state=seed)
        return fitted, scored


def digits(views: list[str], n_train: int) -> Task:
    data = load_digit_views(views=views)
    rows = np.arange(len(data.target))
    test = np.isin(rows, train_test_split(rows, test_size=0.3, stratify=data.target, random_state=0)[1])
    return Task(data, ~test, test, n_train)


def synthetic() -> Task:
    """Return a task with a few informative columns and many weak ones."""
    data = make_imbalanced_modalities(20_000, n_classes=10, strength=[5, 3.5], n_features=[16, 64], random_state=0)
    bayes_accuracy = {
        " + ".join(names): data.model.bayes_accuracy(names)[0] for names in (["strong"], ["weak"], ["strong", "weak"])
    }
    note = (
        f"Bayes-optimal accuracy: {', '.join(f'{name} {100 * value:.1f}' for name, value in bayes_accuracy.items())}."
    )
    test = np.arange(len(data.target)) >= 10_000
    return Task(data, ~test, test, 1000, note)


def av_digits() -> Task:
    data = load_av_digits()
    note = "Raw spectrograms and images; official test rows."
    return Task(
        data, data.split == "train", data.split == "test", 1000, note, is_slow=True, shared_ids=data.mnist_index
    )


def av_digits_hard() -> Task:
    data = load_av_digits(image_noise=0.8)
    test = np.isin(data.speaker, ["theo", "yweweler"])
    # An image may be paired with several recordings, so exclude test images from the pool.
    pool = ~test & ~np.isin(data.mnist_index, data.mnist_index[test])
    note = "Image noise of standard deviation 0.8; the test rows are of speakers, and images, never trained on."
    return Task(data, pool, test, 1000, note, is_slow=True, groups=data.speaker, shared_ids=data.mnist_index)


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
    "estimators": [BASELINE, "late", DEFAULT_UDI or "udi-dynamic"],
    "seeds": 10,
    "jobs": joblib.cpu_count(),
    "out": HERE.parent / "build" / "demo",  # outside results, so that it is not committed
}

# Runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One fit with the key of its stored result."""

    key: tuple[str, ...]  # values of _report.KEY
    model: ClassifierMixin

    def execute(self, task: Task) -> list[str]:
        """Fit and score the estimator, and return the line to store."""
        torch.set_num_threads(1)  # Results do not depend on the number of jobs and cores.
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
        # Probe the features of each modality with a linear classifier, independently of the head.
        features = (np.split(model.transform(part), len(alone), axis=1) for part in (X, X_new))
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        scores = [linear.fit(old, y).score(new, y_new) for old, new in zip(*features, strict=True)]
        probe = dict(zip(model.modalities_, scores, strict=True))
        accuracy = f"{model.score(X_new, y_new):.5f}"
        values = (
            accuracy,
            format_scores(alone),
            format_scores(probe),
            getattr(model, "anchor_", ""),
            model.n_iter_,
            f"{seconds:.3f}",
        )
        return [*self.key, *map(str, values), model.device_]


Settings = dict[tuple[str, str], dict[str, Any]]  # by data set and estimator


def plan(tasks: dict[str, Task], args: argparse.Namespace, settings: Settings) -> list[Run]:
    """Return all requested runs, seed by seed, so that finished runs are comparable at any time."""
    return [
        make_run(data_set, task, name, seed, args.split, settings.get((data_set, name), {}), args)
        for seed in range(args.seeds)
        for data_set, task in tasks.items()
        for name in estimators_for(task.data.modalities, args)
        if seed < args.slow_seeds or not task.is_slow or not name.startswith(("gap-", "joint:"))
    ]


def make_run(
    data_set: str, task: Task, name: str, seed: int, split: str, setting: dict[str, Any], args: argparse.Namespace
) -> Run:
    """Return the run of an estimator, with the key that identifies its settings."""
    base, _, anchor = name.partition("@")
    model, data = clone(ESTIMATORS[base]).set_params(**({"anchor": anchor} if anchor else {}), **setting), task.data
    model.set_params(**{key: value for key, value in args.set.items() if key in model.get_params()})
    # Omit a balancer of None, so that runs stored before balancers existed keep their key.
    parameters = {k: v for k, v in model.get_params().items() if (k, v) != ("balancer", None)}
    settings = [mmestim.__version__, task.n_train, task.note, data.modalities, parameters]
    config = hashlib.blake2b(json.dumps(settings, default=repr).encode(), digest_size=4).hexdigest()
    model.set_params(modalities=data.modalities, shapes=data.shapes, random_state=seed, device=args.device)
    return Run((data_set, name, str(seed), split, config), model)


def tune(tasks: dict[str, Task], args: argparse.Namespace) -> tuple[Settings, bool]:
    """Return the best setting of each method on validation rows, and whether Ctrl-C interrupted the search."""
    candidates = {
        (data_set, name): GRIDS[name]
        for data_set, task in tasks.items()
        for name in estimators_for(task.data.modalities, args)
        if name in GRIDS
    }
    runs = {
        (pair, number, seed): make_run(pair[0], tasks[pair[0]], pair[1], seed, "validation", setting, args)
        for pair, grid in candidates.items()
        for seed in range(SLOW_TUNING_SEEDS if tasks[pair[0]].is_slow else TUNING_SEEDS)
        for number, setting in enumerate(grid)
    }
    results, interrupted = run_all(list(runs.values()), tasks, args)
    if interrupted:
        return {}, True
    accuracy = defaultdict(list)
    for (pair, number, _), result in zip(runs, results, strict=True):
        accuracy[pair, number].append(result["accuracy"])
    # Among equal settings, take the first, which is the default. Stored accuracies have five digits.
    best = {
        pair: max(range(len(grid)), key=lambda number: round(float(np.mean(accuracy[pair, number])), 4))
        for pair, grid in candidates.items()
    }
    return {pair: candidates[pair][number] for pair, number in best.items()}, False


def estimators_for(modalities: dict[str, slice], args: argparse.Namespace) -> Iterator[str]:
    """Yield the estimators that support a data set: gates need two modalities, an anchor must be one of them."""
    for name in args.estimators:
        base, _, anchor = name.partition("@")
        if (ESTIMATORS[base].fusion in ("gated", "film") and len(modalities) != 2) or anchor not in ("", *modalities):
            continue
        yield name
        if args.anchors and base in UDI_GUIDANCE and not anchor:
            yield from (f"{name}@{modality}" for modality in modalities)


def run_all(runs: list[Run], tasks: dict[str, Task], args: argparse.Namespace) -> tuple[list[dict[str, Any]], bool]:
    """Return the results of all runs, stored ones included, and whether Ctrl-C interrupted them."""
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "balance.csv"
    finished = load_results(path)
    missing = [run for run in runs if args.fresh or run.key not in finished]
    if len(missing) < len(runs):
        print(f"{len(runs) - len(missing)} of {len(runs)} runs are in {path}; --fresh repeats them.")
    interrupted = False
    try:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            calls = (joblib.delayed(run.execute)(tasks[run.key[0]]) for run in missing)
            results = joblib.Parallel(min(args.jobs, len(missing) or 1), return_as="generator_unordered")(calls)
            for number, line in enumerate(results, 1):
                result = parse_line(append_line(path, line))
                finished[tuple(line[: len(KEY)])] = result
                print(
                    "[{}/{}] {data_set}, {estimator}, seed {seed}: {:.1f} % in {fit_seconds:.1f} s".format(
                        number, len(missing), 100 * result["accuracy"], **result
                    ),
                    flush=True,
                )
    except KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted. Finished runs are stored; repeat the call to continue.")
    return [finished[run.key] for run in runs if run.key in finished], interrupted


# Command line --------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"data sets: {', '.join(DATA_SETS)}\nestimators: {', '.join(ESTIMATORS)};\n"
        "with a given anchor: udi-aligned@audio",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="run for about a minute: two data sets without files, three estimators")
    add("--data-sets", nargs="+", metavar="NAME", choices=DATA_SETS, help="default: all")
    add("--estimators", nargs="+", metavar="NAME", help="default: all")
    add("--anchors", action="store_true", help="add each UDI estimator with each modality as its anchor")
    add(
        "--seeds",
        type=int,
        metavar="N",
        help="use seeds 0 to N-1 (default: 10; 3 for gap-... and joint:... on data sets that need convolutions)",
    )
    add("--tune", action="store_true", help="first choose one of three settings per method on validation rows")
    add("--split", choices=["test", "validation"], default="test", help="rows to score (default: %(default)s)")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters for all estimators that have them")
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="number of processes with one thread each (default: 1; one per core with --quick)",
    )
    add("--device", default="auto", help="parameter of the estimators (default: %(default)s)")
    add("--out", type=Path, metavar="FOLDER", help="default: benchmarks/results; build/demo with --quick")
    add("--fresh", action="store_true", help="repeat runs that are stored")
    args = parser.parse_args(argv)
    if args.tune and args.split == "validation":
        parser.error("--tune chooses on validation rows, so it cannot be combined with --split validation")
    args.slow_seeds = args.seeds or 3
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in args.estimators:
        base, separator, _ = name.partition("@")
        if base not in (UDI_GUIDANCE if separator else ESTIMATORS):
            parser.error(
                f"--estimators: {name!r} is none of {', '.join(ESTIMATORS)}, nor a UDI estimator with an anchor"
            )
    args.set = dict(setting.partition("=")[::2] for setting in args.set)
    for name, text in args.set.items():
        if not any(name in ESTIMATORS[given.partition("@")[0]].get_params() for given in args.estimators):
            parser.error(f"--set: none of these estimators has a parameter {name!r}")
        try:
            args.set[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            args.set[name] = text
    return args


def describe_settings(all_settings: Settings, data_set: str, task: Task) -> list[str]:
    """Return sentences on the chosen settings of a data set and on those that differ from the default."""
    settings = {name: setting for (chosen_on, name), setting in all_settings.items() if chosen_on == data_set}
    if not settings:
        return []
    n_seeds = SLOW_TUNING_SEEDS if task.is_slow else TUNING_SEEDS
    text = [
        f"Settings of {len(settings)} estimators were chosen from three each on validation rows of {n_seeds} seed(s)."
    ]
    changed = []
    for name, setting in settings.items():
        if setting != GRIDS[name][0]:
            values = ", ".join(f"{key.removeprefix('balancer__')}={value}" for key, value in setting.items())
            changed.append(f"{name} {values}")
    return [*text, f"Different from the default: {'; '.join(changed)}."] if changed else text


def main(argv: list[str] | None = None) -> int:
    """Run the requested estimators, write the report and return the exit status."""
    args, tasks = parse(argv), {}
    for name in args.data_sets:
        try:
            tasks[name] = DATA_SETS[name]()
        except FileNotFoundError as error:
            print(f"{name} is skipped. {error}")
    settings, interrupted = tune(tasks, args) if args.tune else ({}, False)
    results: list[dict[str, Any]] = []
    if not interrupted:
        results, interrupted = run_all(plan(tasks, args, settings), tasks, args)
    if results:
        names = {result["estimator"] for result in results}
        udi = next((name for name in (DEFAULT_UDI, *UDI_GUIDANCE) if name in names), None)
        stem = args.out / ("balance" if args.split == "test" else "balance-validation")
        notes = {
            name: " ".join([task.note, *describe_settings(settings, name, task)]).strip()
            for name, task in tasks.items()
        }
        text = markdown(results, notes, DEFAULT_UDI, args.split)
        stem.with_suffix(".md").write_text(text)
        draw(results, udi, stem.with_suffix(".png"))
        print(f"\n{text}\n{conclusion(results, udi)}\nTable: {stem}.md\nPlot: {stem}.png")
        if draw_ranks(results, ranks := stem.with_name(f"{stem.name}-ranks.png")):
            print(f"Ranks: {ranks}")
    return 130 if interrupted else 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
