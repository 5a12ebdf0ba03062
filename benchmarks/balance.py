"""Benchmark of multimodal classifiers beside scikit-learn's classifiers.

Every run draws rows, fits one estimator and scores it with all modalities and with each one alone. A finished run is
one line of a CSV file in <out>; later calls fit only the missing runs. The report on the requested runs is printed and
written beside it, with plots. A profile names data sets, estimators, numbers of seeds and the files:

- proof (balance.*): the defaults and scikit-learn's classifiers on ten real data sets, with the aims as checks;
- balancers (balancers.*): fusion heads, guidance, gap terms and balancing methods on data sets with fixed test rows;
- guidance (guidance.*): UDI's rules of guidance against late fusion on splits by actor, all of them cross-fitted.

The seed determines random_state of the estimator and the rows that it gets. Rows of the test part are used for scores
only. To compare settings, score on rows of the training part with --split validation. Data sets that are files are
read from the folder that MMESTIM_DATA names.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone

import _references
import mmestim
from _conclusion import conclusion
from _csv_files import SUFFIX
from _estimators import ANCHORED, BASELINE, ESTIMATORS, LATE, UDI
from _grids import GRIDS
from _plots import draw
from _ranks import draw_ranks
from _references import REFERENCES
from _report import markdown
from _runs import Run, run_all
from _tasks import DATA_SETS, DRAWN, FIXED, Task

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Profile:
    """Defaults of the command line."""

    data_sets: list[str]
    estimators: list[str]
    seeds: int
    slow_seeds: int  # on data sets that need convolutions
    stem: str  # of the names of the files
    baseline: str = BASELINE  # differences are from this estimator
    jobs: int = 1
    out: Path = HERE / "results"


GUIDANCE = [UDI, "udi-dynamic", "udi-aligned", "udi-consistency", "udi-complementarity"]
PROFILES = {
    "proof": Profile(list(DRAWN), [BASELINE, "joint-folds", LATE, UDI, "gap", *REFERENCES], 10, 5, "balance"),
    "balancers": Profile(list(FIXED), list(ESTIMATORS), 10, 3, "balancers"),
    "guidance": Profile(["ravdess"], [LATE, *GUIDANCE], 12, 12, "guidance", LATE),
    "quick": Profile(
        ["digits", "synthetic"],
        [BASELINE, LATE, UDI, "logistic"],
        3,
        3,
        "balance",
        jobs=joblib.cpu_count(),
        out=HERE.parent / "build" / "demo",  # outside results, so that it is not committed
    ),
}

TUNING_SEEDS, SLOW_TUNING_SEEDS = 3, 1  # slow data sets need convolutions
Settings = dict[tuple[str, str], dict[str, Any]]  # by data set and estimator

# Runs ----------------------------------------------------------------------------------------------


def plan(tasks: dict[str, Task], args: argparse.Namespace, settings: Settings) -> list[Run]:
    """Return all requested runs, seed by seed, so that finished runs are comparable at any time."""
    return [
        make_run(data_set, task, name, seed, args.split, settings.get((data_set, name), {}), args)
        for seed in range(max(args.seeds, args.slow_seeds))
        for data_set, task in tasks.items()
        if seed < (args.slow_seeds if task.is_slow else args.seeds)
        for name in estimators_for(task.data.modalities, args)
    ]


def make_run(
    data_set: str, task: Task, name: str, seed: int, split: str, setting: dict[str, Any], args: argparse.Namespace
) -> Run:
    """Return the run of an estimator, with the key that identifies its settings."""
    data, model = task.data, None
    parameters: Any = _references.CODE
    if name not in REFERENCES:
        base, _, anchor = name.partition("@")
        model = clone(ESTIMATORS[base]).set_params(**({"anchor": anchor} if anchor else {}), **setting)
        model.set_params(**{key: value for key, value in args.set.items() if key in model.get_params()})
        parameters = model.get_params()
    values = [mmestim.__version__, task.n_train, task.note, data.modalities, parameters]
    config = hashlib.blake2b(json.dumps(values, default=repr).encode(), digest_size=4).hexdigest()
    if model is not None:
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
    results, interrupted = run_all(list(runs.values()), tasks, args.csv, args)
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
        fusion = getattr(ESTIMATORS.get(base), "fusion", None)
        if (fusion in ("gated", "film") and len(modalities) != 2) or anchor not in ("", *modalities):
            continue
        yield name
        if args.anchors and base in ANCHORED and not anchor:
            yield from (f"{name}@{modality}" for modality in modalities)


# Command line --------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"data sets: {', '.join(DATA_SETS)}\nestimators: {', '.join((*ESTIMATORS, *REFERENCES))};\n"
        "with a given anchor: udi-aligned@audio",
    )
    add = parser.add_argument
    add("--profile", choices=PROFILES, default="proof", help="defaults of all other options (default: %(default)s)")
    add("--quick", action="store_const", const="quick", dest="profile", help="run the demo: --profile quick")
    add("--data-sets", nargs="+", metavar="NAME", choices=DATA_SETS, help="default: those of the profile")
    add("--estimators", nargs="+", metavar="NAME", help="default: those of the profile")
    add("--anchors", action="store_true", help="add each UDI estimator with each modality as its anchor")
    add(
        "--seeds",
        type=int,
        metavar="N",
        help="use seeds 0 to N-1 (default: 10, on data sets that need convolutions 5 in proof and 3 in balancers)",
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
    profile = PROFILES[args.profile]
    args.slow_seeds = args.seeds or profile.slow_seeds
    for name in ("data_sets", "estimators", "seeds", "jobs", "out"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(profile, name))
    args.csv, args.baseline = args.out / f"{profile.stem}{SUFFIX}", profile.baseline
    if args.tune and args.split == "validation":
        parser.error("--tune chooses on validation rows, so it cannot be combined with --split validation")
    if args.tune and (drawn := [name for name in args.data_sets if name in DRAWN]):
        parser.error(
            f"--tune would choose settings of {drawn[0]} on rows that are test rows of another seed. Use data sets "
            f"with fixed test rows: {', '.join(FIXED)}"
        )
    for name in args.estimators:
        base, separator, _ = name.partition("@")
        if base not in (ANCHORED if separator else (*ESTIMATORS, *REFERENCES)):
            parser.error(
                f"--estimators: {name!r} is none of {', '.join((*ESTIMATORS, *REFERENCES))}, nor a UDI estimator with "
                "an anchor"
            )
    args.set = dict(setting.partition("=")[::2] for setting in args.set)
    for name, text in args.set.items():
        models = [ESTIMATORS[base] for base in (n.partition("@")[0] for n in args.estimators) if base in ESTIMATORS]
        if not any(name in model.get_params() for model in models):
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
        results, interrupted = run_all(plan(tasks, args, settings), tasks, args.csv, args)
    if results:
        stem = str(args.csv).removesuffix(SUFFIX) + ("" if args.split == "test" else "-validation")
        notes = {
            name: " ".join([task.note, *describe_settings(settings, name, task)]).strip()
            for name, task in tasks.items()
        }
        names = {result["estimator"] for result in results}
        udi = next((name for name in (UDI, *ANCHORED) if name in names), None)
        text = markdown(results, notes, args.split, args.baseline)
        Path(f"{stem}.md").write_text(text)
        draw(results, udi, Path(f"{stem}.png"))
        print(f"\n{text}\n{conclusion(results, udi)}\nTable: {stem}.md\nPlot: {stem}.png")
        if draw_ranks(results, ranks := Path(f"{stem}-ranks.png")):
            print(f"Ranks: {ranks}")
    return 130 if interrupted else 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
