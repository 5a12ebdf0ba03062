"""One fit on several processes of `torch.distributed`, against the same fit on one: differences, and time of a step.

The processes run on this machine and exchange tensors by gloo. Run as a script, it prints the table of the guide.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from _early_methods import METHODS, early_method
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.datasets import load_digit_views
from mmestim.voice import VoiceEditDetector

_TIMEOUT = 900  # seconds
_MODALITIES = {"first": slice(0, 64), "second": slice(64, 98)}


class ConvNet(nn.Module):
    """Encoder with BatchNorm and dropout."""

    def __init__(self, input_shape: tuple[int, ...], embedding_dim: int = 16, p: float = 0.0) -> None:
        super().__init__()
        width, self.n_features = int(np.prod(input_shape)), embedding_dim
        # Without biases before BatchNorm: their gradients are rounding errors, which AdamW turns into steps.
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, width)) if len(input_shape) == 1 else nn.Flatten(2),
            nn.Conv1d(1, 8, 3, bias=False),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Flatten(),
            nn.Linear(8 * (width - 2), embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return digits in two views. A fifth of the rows lacks the second one, and the last batch of an epoch is short."""
    digits = load_digit_views(views=["pixels", "fourier"])
    X, y = digits.data[::9].copy(), digits.target[::9]
    X[np.random.default_rng(0).random(len(X)) < 0.2, 64:] = np.nan
    return X, y


def _classifier(kind: Callable[..., Any], **parameters: Any) -> Any:
    defaults = {"max_epochs": 3, "batch_size": 48, "device": "cpu", "random_state": 0}
    return kind(_MODALITIES, **defaults | parameters)


def _balanced(name: str) -> Any:
    # SGD, because AdamW divides the scale of gradients out, by which many of these methods act.
    return _classifier(JointClassifier, balancer=early_method(name), cv=None, optimizer="sgd", lr=0.05)


# Fits by their names in the table.
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "JointClassifier": partial(_classifier, JointClassifier),
    "LateFusionClassifier": partial(_classifier, LateFusionClassifier),
    "UDIClassifier": partial(_classifier, UDIClassifier),
    'UDIClassifier(guidance="dynamic", ensemble=False)': partial(
        _classifier, UDIClassifier, guidance="dynamic", ensemble=False, cv=2, max_grad_norm=1.0
    ),
    "ModalityGapClassifier": partial(_classifier, ModalityGapClassifier, cv=2),
    **{f"balancer={name}()": partial(_balanced, name) for name in METHODS},
    "encoder with BatchNorm": partial(_classifier, JointClassifier, encoder=ConvNet, cv=None),
    "encoder with BatchNorm and dropout": partial(
        _classifier, LateFusionClassifier, encoder=partial(ConvNet, p=0.5), cv=None
    ),
    'precision="bf16"': partial(_classifier, JointClassifier, precision="bf16", cv=None),
}
# Fits that take longer, of images and of voices.
_RESNET = 'encoder="resnet18"'
_DETECTORS = {f'VoiceEditDetector(model="{name}")': name for name in ("lcnn", "hybrid")}


class Fitted(NamedTuple):
    """Weights, predictions and history of a fit, and the median time of its steps in milliseconds."""

    weights: dict[str, np.ndarray]
    proba: np.ndarray
    history: list[dict[str, Any]]
    step: float


def fit(name: str) -> Fitted:
    """Run the fit of that name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The fits are short.
        if name in _DETECTORS:
            return _fit_detector(_DETECTORS[name])
        if name == _RESNET:
            return _fit_images()
        X, y = rows()
        clf = CLASSIFIERS[name]().fit(X, y)
        return fitted(clf, X, -(-len(X) // clf.batch_size))


def _fit_images() -> Fitted:
    y = np.arange(128) % 4
    X = {"image": np.random.default_rng(0).normal(size=(128, 3, 32, 32)) + y[:, None, None, None] / 4}
    clf = JointClassifier(encoder="resnet18", optimizer="sgd", cv=None, early_stopping=False, device="cpu")
    return fitted(clf.set_params(max_epochs=3, random_state=0).fit(X, y), X, 2)


def _fit_detector(model: Any) -> Fitted:
    rng = np.random.default_rng(0)
    clips = [rng.normal(scale=0.1, size=16_000).astype(np.float32) for _ in range(40)]
    for clip in clips[::2]:
        clip[4000:8000] = 0
    detector = VoiceEditDetector(model=model, window=1.0, device="cpu", training_budget=0.004, random_state=0)
    detector.fit(clips, np.array(["gap", "none"] * 20))
    networks = detector.models_[1.0].model.networks
    weights = {f"{key}.{k}": v.numpy() for key, net in networks.items() for k, v in net.state_dict().items()}
    n_steps = detector.training_report_["window 1"]["n_windows"] // detector.batch_size
    return Fitted(weights, detector.predict_proba(clips), detector.history_, _step(detector.history_, n_steps))


def fitted(clf: Any, X: Any, n_steps: int = 1) -> Fitted:
    """Return the weights, predictions and history of a classifier."""
    weights = {name: tensor.numpy() for name, tensor in clf.module_.state_dict().items()}
    return Fitted(weights, clf.predict_proba(X), clf.history_, _step(clf.history_, n_steps))


def _step(history: Iterable[dict[str, Any]], n_steps: int) -> float:
    return 1000 * statistics.median(epoch["dur"] for epoch in history) / n_steps


def is_same(one: Fitted, other: Fitted) -> bool:
    """Return whether two fits have learnt the same, bit for bit."""
    if one.weights.keys() != other.weights.keys() or one.history != other.history:
        return False
    pairs = [(one.proba, other.proba), *((value, other.weights[name]) for name, value in one.weights.items())]
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def measure(n_processes: int = 2, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Run fits on several processes and on one.

    Parameters
    ----------
    n_processes : int, default=2
        Number of processes.
    names : iterable of str, default=None
        Names of the fits, by default of all.

    Returns
    -------
    list of dict
        For each fit its name, the number of processes, whether all of them ended with the same weights and
        predictions, the largest difference of a predicted probability from the fit on one process, and the
        milliseconds of a step on one and on all of them.
    """
    names = [*CLASSIFIERS, _RESNET, *_DETECTORS] if names is None else list(names)
    with tempfile.TemporaryDirectory() as folder:
        results = run_processes(__file__, "fit_each", n_processes, folder, names)
        (alone,) = run_processes(__file__, "fit_each", 1, folder, names)
    return [
        {
            "fit": name,
            "processes": n_processes,
            "identical": all(is_same(results[0][name], other[name]) for other in results[1:]),
            "difference": float(np.abs(alone[name].proba - results[0][name].proba).max()),
            "step_alone_ms": alone[name].step,
            "step_ms": results[0][name].step,
        }
        for name in names
    ]


def fit_each(names: Iterable[str]) -> dict[str, Fitted]:
    """Run fits one after the other."""
    return {name: fit(name) for name in names}


def run_processes(file: str, function: str, n_processes: int, folder: Any, *arguments: Any) -> list[Any]:
    """Call a function of a Python file in processes of one group, and return the results of each.

    Parameters
    ----------
    file, function : str
        The file, and the name of the function in it.
    n_processes : int
        Number of processes; one has no group.
    folder : path-like
        Folder for what they exchange.
    *arguments : object
        Arguments that can be pickled.

    Returns
    -------
    list of object
        Result of each process.
    """
    folder = Path(tempfile.mkdtemp(dir=folder))
    (folder / "call").write_bytes(pickle.dumps((file, function, arguments)))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--folder", str(folder), "--processes", str(n_processes), "--rank"]
    processes = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(n_processes)]
    try:
        codes = [process.wait(_TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(codes):
        raise RuntimeError(f"{function} failed in the processes of rank {np.flatnonzero(codes).tolist()}.")
    return [pickle.loads((folder / f"{rank}").read_bytes()) for rank in range(n_processes)]


def _call(folder: Path, rank: int, n_processes: int) -> None:
    """Run the call in the folder as one of the processes."""
    torch.set_num_threads(1)
    file, function, arguments = pickle.loads((folder / "call").read_bytes())
    if n_processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=n_processes)
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (folder / f"{rank}").write_bytes(pickle.dumps(getattr(module, function)(*arguments)))
    if n_processes > 1:
        dist.destroy_process_group()


def table(results: Iterable[dict[str, Any]]) -> str:
    """Return the results as a table in Markdown."""
    lines = ["| fit | processes agree | largest difference | step, 1 process | step, all |", "|---|---|---|---|---|"]
    for row in results:
        agree = "bit for bit" if row["identical"] else "no"
        times = f"{row['step_alone_ms']:.1f} ms | {row['step_ms']:.1f} ms"
        lines.append(f"| `{row['fit']}` | {agree} | {row['difference']:.0e} | {times} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is None:
        print(table(measure(options.processes)))
    else:
        _call(options.folder, options.rank, options.processes)


if __name__ == "__main__":
    main()
