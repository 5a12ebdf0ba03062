"""The papers' protocol on their data sets: published figures beside ours.

For example:

    python benchmarks/papers.py --data-set crema-d --folder CREMA-D --device cuda

The folder is that of the data set as its authors distribute it; see the loaders of mmestim.datasets. Files are read
once and kept in --cache. Every estimator trains once for each seed, on one device. A finished run is one line of
<out>/papers.csv.gz, and later calls run only what is missing; Ctrl-C is safe. The report of the requested runs is
printed and written to <out>/papers-<data set>.md.

Settings are those of UDI as far as they are stated: ResNet-18 from scratch, SGD with momentum 0.9, a weight decay of
1e-4, batches of 64, 100 epochs, and a learning rate of 0.01 (UCF101: 0.001). ModalityGapClassifier has those of
ModalityGapClassifier.published(). The package's defaults run beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import accuracy_score, f1_score

import mmestim
from _csv_files import SUFFIX, append_rows, read_rows
from _paper_figures import ESTIMATORS
from _paper_inputs import PROTOCOLS, PaperData, open_data
from _paper_report import Results, markdown
from _results import format_scores, parse_line
from _runs import CODE, guidance_weights
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier, balancers
from mmestim.encoders.choice import ENCODERS
from mmestim.multimodal.base import published_parameters

HERE = Path(__file__).resolve().parent
KEY = ("data_set", "estimator", "seed", "config")
NUMBERS = ("accuracy", "macro_f1")
BY_NAME = ("accuracy_alone", "macro_f1_alone", "guidance")  # values such as "audio=0.95;video=0.91"
FIELDS = (*KEY, *NUMBERS, *BY_NAME, "anchor", "n_iter", "device", "code")
QUICK = ["sum", "decoupled", "udi", "gap"]
EMBEDDING_DIM = 512  # the features of ResNet-18

# Runs ----------------------------------------------------------------------------------------------


def make_estimator(name: str, modalities: list[str], args: argparse.Namespace) -> Any:
    """Return an unfitted estimator of the tables."""
    common = {"encoder": args.encoder, "embedding_dim": args.embedding_dim}
    epochs = {"max_epochs": args.epochs} if args.epochs else {}
    if name.startswith("default-"):
        defaults = {
            "joint": JointClassifier,
            "late": LateFusionClassifier,
            "udi": UDIClassifier,
            "gap": ModalityGapClassifier,
        }
        return defaults[name.removeprefix("default-")](**common, **epochs)
    if name.startswith("gap"):
        more = {"fine_tune_epochs": 0} if name == "gap-not-fine-tuned" else {}
        return ModalityGapClassifier.published(**common, **epochs, **more)
    settings = common | epochs | {"lr": PROTOCOLS[args.data_set].lr}
    guidance: dict[str, Any] = {
        "udi": {},
        "decoupled": {"guidance": None},
        "udi-0-1": {"guidance": (0.0, 1.0)},
        "udi-1-0": {"guidance": (1.0, 0.0)},
        "udi-anchor-1": {"anchor": modalities[0]},
        "udi-anchor-2": {"anchor": modalities[1]},
    }
    if name in guidance:
        return UDIClassifier.published(**settings, **guidance[name])
    joint: dict[str, Any] = {"sum": {"fusion": "sum"}, "sum+unimodal": {"fusion": "sum", "unimodal_weight": 1.0}}
    choice = joint[name] if name in joint else {"balancer": getattr(balancers, name)()}
    return JointClassifier(**published_parameters(settings, choice))


def make_key(name: str, seed: int, model: Any, data: PaperData, args: argparse.Namespace) -> tuple[str, ...]:
    """Return the key of a run, which identifies its rows, inputs and settings."""
    values = [mmestim.__version__, data.digest, args.by_group, model.get_params()]
    config = hashlib.blake2b(json.dumps(values, default=repr).encode(), digest_size=4).hexdigest()
    return args.data_set, name, str(seed), config


def execute(key: tuple[str, ...], model: Any, data: PaperData, device: str) -> dict[str, str]:
    """Fit and score one estimator, and return the line to store."""
    train, test = np.flatnonzero(~data.is_test), np.flatnonzero(data.is_test)
    model = clone(model).set_params(random_state=int(key[2]), device=device)
    model.fit(data.X[train], data.y[train], groups=None if data.groups is None else data.groups[train])
    y = data.y[test]
    outputs = {"": model.predict_proba(data.X[test]), **model.predict_proba_per_modality(data.X[test])}
    predicted = {name: model.classes_[np.nan_to_num(proba).argmax(axis=1)] for name, proba in outputs.items()}
    accuracy = {name: float(accuracy_score(y, labels)) for name, labels in predicted.items()}
    f1 = {name: float(f1_score(y, labels, average="macro")) for name, labels in predicted.items()}
    return dict(zip(KEY, key, strict=True)) | {
        "accuracy": f"{accuracy.pop(''):.5f}",
        "macro_f1": f"{f1.pop(''):.5f}",
        "accuracy_alone": format_scores(accuracy),
        "macro_f1_alone": format_scores(f1),
        "guidance": format_scores(guidance_weights(model)),
        "anchor": getattr(model, "anchor_", ""),
        "n_iter": str(model.n_iter_),
        "device": model.device_,
        "code": CODE,
    }


def run_missing(
    runs: dict[tuple[str, ...], Any], data: PaperData, path: Path, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield the results of runs that are stored, and of the others as they finish; go on after those that fail."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {tuple(line[field] for field in KEY): line for line in read_rows(path, FIELDS)}
    known = [] if args.fresh else [key for key in runs if key in stored]
    if known:
        print(f"{len(known)} of {len(runs)} runs are in {path}; --fresh repeats them.")
        yield from (parse_line(stored[key], NUMBERS, BY_NAME) for key in known)
    missing = [key for key in runs if key not in known]
    for number, key in enumerate(missing, 1):
        try:
            line = execute(key, runs[key], data, args.device)
        except ValueError as error:  # such as training that diverges
            print(f"[{number}/{len(missing)}] {key[1]}, seed {key[2]} failed: {error}", file=sys.stderr, flush=True)
            continue
        append_rows(path, FIELDS, [line])
        print(f"[{number}/{len(missing)}] {key[1]}, seed {key[2]}: {100 * float(line['accuracy']):.2f} %", flush=True)
        yield parse_line(line, NUMBERS, BY_NAME)


# Command line --------------------------------------------------------------------------------------


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-set", required=True, choices=PROTOCOLS)
    add("--folder", type=Path, required=True, help="folder of the data set, as its authors distribute it")
    add("--estimators", nargs="+", metavar="NAME", choices=ESTIMATORS, help=f"default: all of {', '.join(ESTIMATORS)}")
    add("--seeds", type=int, metavar="N", help="use seeds 0 to N-1 (default: 3)")
    add("--epochs", type=int, metavar="N", help="epochs of each training (default: 100)")
    add("--device", default="auto", help="device of all runs (default: %(default)s)")
    add("--quick", action="store_true", help=f"two epochs of {', '.join(QUICK)} on small pictures, into build/demo")
    add("--by-group", action="store_true", help="test on groups, such as actors, that train nothing; not the papers'")
    add("--skip-missing", action="store_true", help="leave out rows whose files are missing, rather than stop")
    add("--encoder", default="resnet18", help="encoder of all modalities (default: %(default)s)")
    add("--embedding-dim", type=int, default=EMBEDDING_DIM, metavar="N", help="default: %(default)s")
    add("--size", type=int, metavar="PIXELS", help="height and width of frames (default: 224)")
    add("--frames", type=int, metavar="N", help="frames of a video (default: those of the papers)")
    add("--times", type=int, metavar="N", help="frames of a spectrogram (default: those of the papers)")
    add("--cache", type=Path, default=HERE.parent / "build" / "media", help="folder for what was read")
    add("--read-jobs", type=int, default=1, metavar="N", help="processes that read files (default: %(default)s)")
    add("--out", type=Path, metavar="FOLDER", help="default: benchmarks/results; build/demo with --quick")
    add("--fresh", action="store_true", help="repeat runs that are stored")
    args = parser.parse_args(argv)
    defaults: dict[str, Any] = {"estimators": ESTIMATORS, "seeds": 3, "size": 224, "out": HERE / "results"}
    if args.quick:
        quick = {"estimators": QUICK, "seeds": 1, "epochs": 2, "size": 32, "out": HERE.parent / "build" / "demo"}
        defaults |= quick
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.encoder not in ENCODERS:
        parser.error(f"--encoder: {args.encoder!r} is none of {', '.join(ENCODERS)}")
    return args


def describe(data: PaperData, args: argparse.Namespace) -> list[str]:
    """Return sentences on the rows, the inputs and the differences from the papers."""
    protocol = PROTOCOLS[args.data_set]
    shapes = ", ".join(f"{name} {' x '.join(map(str, block.shape[1:]))}" for name, block in data.X.items())
    n_test = int(data.is_test.sum())
    epochs = args.epochs or 100
    return [
        f"{len(data.y) - n_test} rows train and {n_test} test, of {len(np.unique(data.y))} classes. {data.note}",
        f"Inputs: {shapes}. Encoder: {args.encoder} from scratch. {epochs} epochs at most.",
        "SGD with momentum 0.9, weight decay 1e-4, batches of 64 and a learning rate of "
        f"{protocol.lr:g} (gap: 0.001), divided by 10 after 70 % of the epochs; defaults of mmestim have their own.",
        "Ours, because the papers do not state it: the schedule, the choice of the epoch on a tenth of the training "
        "rows, frames without augmentation, the middle of longer recordings, and silence after shorter ones.",
        *([protocol.note] if protocol.note else []),
    ]


def main(argv: list[str] | None = None) -> int:
    """Run what is missing, write the report and return the exit status."""
    args = parse(argv)
    try:
        data = open_data(args)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    models = {name: make_estimator(name, list(data.X), args) for name in args.estimators}
    runs = {
        make_key(name, seed, model, data, args): model for seed in range(args.seeds) for name, model in models.items()
    }
    results: Results = {}
    is_interrupted = False
    try:
        for result in run_missing(runs, data, args.out / f"papers{SUFFIX}", args):
            results.setdefault(result["estimator"], {})[result["seed"]] = result
    except KeyboardInterrupt:
        is_interrupted = True
        print("\nInterrupted. Finished runs are stored; repeat the call to continue.")
    if results:
        results = {name: results[name] for name in args.estimators if name in results}
        text = markdown(PROTOCOLS[args.data_set].title, args.data_set, results, describe(data, args))
        report = args.out / f"papers-{args.data_set}.md"
        report.write_text(text, encoding="utf-8")
        print(f"\n{text}\nReport: {report}")
    n_results = sum(len(by_seed) for by_seed in results.values())
    return 130 if is_interrupted else int(n_results < len(runs))


if __name__ == "__main__":
    sys.exit(main())
