"""Runs of balance.py: one fit each, with its scores and its stored line."""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import mmestim
from _csv_files import append_rows
from _references import REFERENCES, inner_folds, log_loss
from _results import FIELDS, KEY, format_scores, load_results, parse_line
from _tasks import Task

PACKAGE = Path(mmestim.__file__).parent
ROOMS = ("_data", "_networks", "_training", "_utils", "balancers", "encoders", "multimodal")
# The state of the package that computed a line: its defaults may change without a change of its parameters.
CODE = hashlib.blake2b(
    b"".join(path.read_bytes() for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py"))), digest_size=4
).hexdigest()


@dataclass(frozen=True)
class Run:
    """One fit with the key of its stored result."""

    key: tuple[str, ...]  # values of _results.KEY
    model: Any = None  # None: one of REFERENCES

    def execute(self, task: Task) -> dict[str, str]:
        """Fit and score the estimator, and return the line to store."""
        # Results do not depend on the number of jobs and cores.
        torch.set_num_threads(1)
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self._execute(task)

    def _execute(self, task: Task) -> dict[str, str]:
        data_set, name, seed, split, _ = self.key
        fitted, scored = task.rows(int(seed), split)
        columns, target = task.columns(fitted), task.data.target
        X, y, X_new, y_new = columns[fitted], target[fitted], columns[scored], target[scored]
        groups = None if task.groups is None else task.groups[fitted]
        started = time.process_time()  # of one thread: other processes do not count
        try:
            if self.model is None:
                X, X_new = X.astype(float), X_new.astype(float)
                model = REFERENCES[name](task, X, y, inner_folds(y, groups, int(seed)))
            else:
                model = clone(self.model).fit(X, y, groups=groups)
        except Exception as error:
            error.add_note(f"in {name} on {data_set}, seed {seed}")
            raise
        seconds = time.process_time() - started
        proba = model.predict_proba(X_new).astype(float)
        proba /= proba.sum(axis=1, keepdims=True)  # float32 rows sum to 1 only nearly
        line = dict.fromkeys(FIELDS, "") | dict(zip(KEY, self.key, strict=True))
        line |= {
            "accuracy": f"{np.mean(model.classes_[proba.argmax(axis=1)] == y_new):.5f}",
            "log_loss": f"{log_loss(proba, model.classes_, y_new):.5f}",
            "calibration_error": f"{calibration_error(proba, model.classes_ == y_new[:, None]):.5f}",
            "fit_seconds": f"{seconds:.3f}",
        }
        return line | (
            reference_details(model, X_new, y_new)
            if self.model is None
            else classifier_details(model, X, y, X_new, y_new)
        )


def classifier_details(
    model: Any, X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray
) -> dict[str, str]:
    """Return the fields of a fitted multimodal classifier: scores per modality, weights, anchor."""
    proba = model.predict_proba_per_modality(X_new)
    alone = {name: np.mean(model.classes_[p.argmax(axis=1)] == y_new) for name, p in proba.items()}
    return {
        "alone": format_scores(alone),
        "probe": format_scores(probes(model, X, y, X_new, y_new)),
        "fusion_weights": format_scores(getattr(model, "fusion_weights_", None) or {}),
        "guidance": format_scores(guidance_weights(model)),
        "anchor": getattr(model, "anchor_", ""),
        "n_iter": str(model.n_iter_),
        "device": model.device_,
        "code": CODE,
    }


def guidance_weights(model: Any) -> dict[str, float]:
    """Return the mean weight of each loss that guides a modality; an empty dict without guidance."""
    return {
        f"{follower}.{loss}": weight
        for follower, history in getattr(model, "guidance_history_", {}).items()
        for loss, weight in zip(("consistency", "complementarity"), history["weights"].mean(axis=0), strict=True)
    }


def probes(model: Any, X: np.ndarray, y: np.ndarray, X_new: np.ndarray, y_new: np.ndarray) -> dict[str, float]:
    """Return the accuracy of a linear classifier of each modality's features, independently of the head."""
    if not hasattr(model, "transform"):
        return {}
    names = list(model.modalities_)
    features = (np.split(model.transform(part), len(names), axis=1) for part in (X, X_new))
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = [linear.fit(old, y).score(new, y_new) for old, new in zip(*features, strict=True)]
    return dict(zip(names, scores, strict=True))


def reference_details(model: Any, X_new: np.ndarray, y_new: np.ndarray) -> dict[str, str]:
    """Return the fields of a scikit-learn classifier: scores per modality where it has branches."""
    branches = model.named_estimators_ if isinstance(model, StackingClassifier) else {}
    alone = {name: np.mean(model.classes_[branch.predict(X_new)] == y_new) for name, branch in branches.items()}
    return {"alone": format_scores(alone), "device": "cpu"}


def calibration_error(proba: np.ndarray, is_true: np.ndarray, n_bins: int = 15) -> float:
    """Return the expected calibration error of the most probable class, with bins of equal width.

    `is_true` has the shape of `proba`, and marks the true class of each row.
    """
    confidence, is_correct = proba.max(axis=1), is_true[np.arange(len(proba)), proba.argmax(axis=1)]
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    return float(np.abs(np.bincount(bins, is_correct - confidence)).sum() / len(proba))


def run_all(
    runs: list[Run], tasks: dict[str, Task], path: Path, args: argparse.Namespace
) -> tuple[list[dict[str, Any]], bool]:
    """Return the results of all runs, stored ones included, and whether Ctrl-C interrupted them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    finished = load_results(path)
    missing = [run for run in runs if args.fresh or run.key not in finished]
    if len(missing) < len(runs):
        print(f"{len(runs) - len(missing)} of {len(runs)} runs are in {path}; --fresh repeats them.")
        old = [run.key for run in runs if run.key in finished and finished[run.key]["code"] not in ("", CODE)]
        if old and not args.fresh:
            print(f"Other code of mmestim computed {len(old)} of them.")
    interrupted = False
    try:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            calls = (joblib.delayed(run.execute)(tasks[run.key[0]]) for run in missing)
            lines = joblib.Parallel(min(args.jobs, len(missing) or 1), return_as="generator_unordered")(calls)
            for number, line in enumerate(lines, 1):
                append_rows(path, FIELDS, [line])
                result = finished[tuple(line[field] for field in KEY)] = parse_line(line)
                print(
                    "[{}/{}] {data_set}, {estimator}, seed {seed}: {:.1f} %, log-loss {log_loss:.3f}, in "
                    "{fit_seconds:.1f} s".format(number, len(missing), 100 * result["accuracy"], **result),
                    flush=True,
                )
    except KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted. Finished runs are stored; repeat the call to continue.")
    return [finished[run.key] for run in runs if run.key in finished], interrupted
