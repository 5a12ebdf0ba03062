"""Costs beside the steps: of the import, of checkpoints, of steps on many rows, and of the networks of folds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from _early_methods import early_method
from mmestim import JointClassifier, LateFusionClassifier
from mmestim._networks.fold_networks import FoldBranches
from mmestim.multimodal._cross_fitting import branch_training

PEERS = "torch, sklearn, skorch"


def fastest(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the fewest seconds of each contender over the rounds, after one warm-up round."""
    seconds = defaultdict(list)
    for round_number in range(rounds + 1):
        for name, measured in contenders.items():
            value = measured()
            if round_number:
                seconds[name].append(value)
    return {name: min(values) for name, values in seconds.items()}


def importing(rounds: int, device: str) -> dict[str, float]:
    """Return the seconds of an import in a fresh process; the first contender is the reference."""

    def seconds(modules: str) -> float:
        code = f"import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    return fastest({name: lambda name=name: seconds(name) for name in (PEERS, f"{PEERS}, mmestim")}, rounds)


def checkpoints(rounds: int, device: str) -> dict[str, float]:
    """Return the seconds of a fit with short epochs, without and with checkpoints."""
    X, y = random_data(200, 128)

    def seconds(folder: str | None) -> float:
        clf = classifier(device, max_epochs=50, checkpoint=folder)
        start = time.perf_counter()
        clf.fit(X, y)
        return time.perf_counter() - start

    def with_checkpoints() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return seconds(folder)

    return fastest({"without": lambda: seconds(None), "with": with_checkpoints}, rounds)


def growth(rounds: int, device: str) -> dict[str, float]:
    """Return the seconds of a step of plain training and of QMF, on few and on many rows."""

    def seconds(n_rows: int, method: str | None) -> float:
        balancer = None if method is None else early_method(method)
        clf = classifier(device, max_epochs=1, balancer=balancer)
        clf.fit(*random_data(n_rows, 16))
        return clf.history_[0]["dur"] / -(-n_rows // clf.batch_size)

    cases = [(method, n_rows) for method in (None, "QMF") for n_rows in (2_000, 100_000)]
    return fastest(
        {f"{method or 'plain'} on {n_rows} rows": lambda m=method, n=n_rows: seconds(n, m) for method, n_rows in cases},
        rounds,
    )


def folds(rounds: int, device: str) -> dict[str, float]:
    """Return the seconds of a fit of one network, and of five on as many rows each: stacked, and one by one."""
    X, y = random_data(2_000, 128)

    def seconds(cv: int | None, stacked: bool = True) -> float:
        settings = {"validation_fraction": 0.2, "max_epochs": 10, "n_iter_no_change": 10, "lr_schedule": None}
        clf = LateFusionClassifier(cv=cv, encoder="mlp", device=device, random_state=0, **settings)
        branch_training.FoldBranches = lambda branches, **_: FoldBranches(branches, stacked=stacked)
        try:
            start = time.perf_counter()
            clf.fit(X, y)
            return time.perf_counter() - start
        finally:
            branch_training.FoldBranches = FoldBranches

    contenders = {
        "one network": lambda: seconds(None),
        "five folds, stacked": lambda: seconds(5),
        "five folds, one by one": lambda: seconds(5, stacked=False),
    }
    return fastest(contenders, rounds)


def classifier(device: str, **settings: Any) -> JointClassifier:
    """Return a light classifier of two modalities that trains one network on all rows."""
    fixed = {"cv": None, "early_stopping": False, "lr_schedule": None, "random_state": 0, "device": device}
    return JointClassifier(None, embedding_dim=32, **fixed | settings)


def random_data(n_rows: int, size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return two blocks of random numbers, and classes."""
    rng = np.random.default_rng(0)
    blocks = {name: rng.standard_normal((n_rows, size), dtype=np.float32) for name in ("a", "b")}
    return blocks, rng.integers(0, 10, n_rows)


COSTS = {
    "import": importing,
    "checkpoints of short epochs": checkpoints,
    "step on many rows": growth,
    "fit of MLPs": folds,
}
