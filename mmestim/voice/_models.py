"""What a detector learns by: models that answer for windows, and for windows that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn

from ..devices import seed_for
from ..training_options import TrainingOptions
from ._network_training import ClassLoss, LabelLoss, WindowRows, ask, label_weights, train_network
from ._training_windows import UNKNOWN, Windows
from ._trees import BoostedTrees
from .statistics import ClipStatistics

SHORTEST_SECONDS = 0.35  # seconds that statistics need
_AT_ONCE = 64
_TRIAL = 8000  # samples
_TREES: dict[str, Any] = {"max_leaf_nodes": 15, "max_features": 0.15, "learning_rate": 0.1}


@dataclass(frozen=True)
class Lesson:
    """What a model is trained on, and how.

    Parameters
    ----------
    windows : Windows
        Simulated or given clips.
    dense : Windows or None
        Others with several seams each.
    folds, dense_folds : int ndarray of shape (n_windows,)
        Part of the speakers that each window belongs to, from 0 on.
    labels : list of str
        Columns of the targets.
    is_exclusive : bool
        Whether a window has exactly one of them.
    options : TrainingOptions
        For networks.
    budget : float
        Times the usual number of windows that networks see.
    seed : int
        Of all that is drawn.
    n_jobs : int or None
        Processes.
    """

    windows: Windows
    dense: Windows | None
    folds: np.ndarray
    dense_folds: np.ndarray | None
    labels: list[str]
    is_exclusive: bool
    options: TrainingOptions
    budget: float
    seed: int
    n_jobs: int | None
    history: list[dict[str, Any]] = field(default_factory=list)

    def seed_for(self, *purpose: str) -> int:
        """The seed of one part."""
        return seed_for(self.seed, *purpose)

    @property
    def known(self) -> np.ndarray:
        """Where the targets say something."""
        return self.windows.targets != UNKNOWN

    @property
    def has(self) -> np.ndarray:
        """Where a label is there."""
        return self.windows.targets == 1


class Answer(NamedTuple):
    """What a model says of windows."""

    logits: np.ndarray  # (n_windows, n_halves, n_models, n_labels)
    embeddings: np.ndarray  # (n_windows, embedding_dim)
    frames: np.ndarray | None = None  # log-odds (n_windows, n_maps, n_frames) of the maps of `Windows.frames`


class WindowModel:
    """Base of the models."""

    n_models: ClassVar[int] = 1
    # Parts of the speakers, each of which some of the model is not trained on.
    n_folds: ClassVar[int] = 4
    # What a network is made anew by, where the parameters do not say.
    config: dict[str, Any] | None = None
    # Of frames, where the answers have them: from which log-odds on a map is there.
    frame_thresholds: np.ndarray | None = None

    def fit(self, lesson: Lesson) -> np.ndarray:
        """Learn.

        Returns
        -------
        ndarray of shape (n_windows, n_models, n_labels)
            Log-odds from models that were trained without the speaker of each window; NaN for windows without one.
        """
        raise NotImplementedError

    def answer(self, waveforms: np.ndarray, lengths: np.ndarray) -> Answer:
        """What is in windows of shape (n_windows, n_samples) that have so many samples each."""
        raise NotImplementedError

    @property
    def embedding_dim(self) -> int:
        """Length of the embeddings."""
        raise NotImplementedError

    # What a file of the model holds.

    networks: dict[str, nn.Module]

    def new_networks(self, n_labels: int) -> dict[str, nn.Module]:
        """The networks before training, by name."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """What else was learnt, by name."""
        return {}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        """Take it over; a ValueError says what cannot be."""
        if arrays:
            raise ValueError(f"its model has {sorted(arrays)}, which it does not know.")

    def place(self, device: torch.device, precision: str) -> None:
        """Where networks are, and how they compute."""
        self.device, self.precision = device, precision
        for network in self.networks.values():
            network.to(device).eval()


# Statistics and trees ------------------------------------------------------------------------------


class FeatureModel(WindowModel):
    """Trees on statistics made by hand."""

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}

    def fit(self, lesson: Lesson) -> np.ndarray:
        X = measure(self.statistics, lesson.windows, lesson.n_jobs)
        logits, self.forests = grow(X, lesson)
        return logits[:, None]

    def arrays(self) -> dict[str, np.ndarray]:
        return forest_arrays(self.forests)

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        self.forests = forests_of(arrays, n_labels, self.embedding_dim)

    def answer(self, waveforms: np.ndarray, lengths: np.ndarray) -> Answer:
        X = statistics_of(self.statistics, waveforms, lengths)
        return Answer(np.stack([trees.decision_function(X)[:, None] for trees in self.forests], axis=1), X)

    @property
    def embedding_dim(self) -> int:
        return len(self.statistics.get_feature_names_out())


def grow(X: np.ndarray, lesson: Lesson) -> tuple[np.ndarray, list[BoostedTrees]]:
    """Log-odds of every window by trees grown without its speakers, and these trees; of classes those grown on all.

    What a score means is known of the trees without some speakers: others, grown on more, would be surer.
    """
    # Of few rows fewer bins and trees tell as much, in less time.
    few = len(X)
    options = _TREES | {
        "min_samples_leaf": max(1, min(20, few // 20)), "max_bins": max(16, min(63, few // 4)),
        "max_iter": max(20, min(120, few // 5)),
    }  # fmt: skip
    logits, forests = np.full((len(X), len(lesson.labels)), np.nan, np.float32), []
    for fold in np.unique(lesson.folds):
        rows = lesson.folds != fold
        trees = BoostedTrees.fit(
            X[rows], lesson.has[rows], lesson.known[rows], lesson.seed_for("trees"), lesson.n_jobs, **options
        )  # fmt: skip
        logits[~rows] = trees.decision_function(X[~rows])
        forests.append(trees)
    if lesson.is_exclusive:
        forests = [
            BoostedTrees.fit(X, lesson.has, lesson.known, lesson.seed_for("trees"), lesson.n_jobs, **options)
        ]  # fmt: skip
    return logits, forests


def forest_arrays(forests: Sequence[BoostedTrees]) -> dict[str, np.ndarray]:
    """All trees as arrays."""
    return {f"{n}.{name}": values for n, trees in enumerate(forests) for name, values in trees.arrays().items()}


def forests_of(arrays: Mapping[str, np.ndarray], n_labels: int, n_features: int) -> list[BoostedTrees]:
    """Trees from such arrays."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        number, _, rest = name.partition(".")
        parts.setdefault(number, {})[rest] = values
    if not parts or set(parts) != {str(number) for number in range(len(parts))}:
        raise ValueError(f"its trees are numbered {sorted(parts)}: from 0 on is expected.")
    return [BoostedTrees.of_arrays(parts[str(number)], n_labels, n_features) for number in range(len(parts))]


def measure(statistics: ClipStatistics, windows: Windows, n_jobs: int | None) -> np.ndarray:
    """Statistics of all windows."""
    starts = range(0, len(windows), _AT_ONCE)
    parts = Parallel(n_jobs)(
        delayed(_measure_some)(statistics, windows, slice(start, start + _AT_ONCE)) for start in starts
    )  # fmt: skip
    return np.concatenate(parts)


def _measure_some(statistics, windows, rows):
    return statistics_of(statistics, windows.floats(rows), windows.lengths[rows])


def statistics_of(statistics: ClipStatistics, waveforms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Statistics of windows, each as long as its clip; of very short ones with the zeros behind them."""
    shortest = min(waveforms.shape[1], round(SHORTEST_SECONDS * statistics.sample_rate))
    return statistics.transform([w[: max(n, shortest)] for w, n in zip(waveforms, lengths, strict=True)])


# One network ---------------------------------------------------------------------------------------


class NetworkModel(WindowModel):
    """One network, trained on most of the speakers; the others tell what its scores mean."""

    # Windows that it sees, and its highest learning rate.
    def __init__(self, make: Callable[[int], nn.Module], name: str, seen: int, lr: float) -> None:
        self.make, self.name, self.seen, self.lr = make, name, seen, lr
        self.networks: dict[str, nn.Module] = {}

    def new_networks(self, n_labels: int) -> dict[str, nn.Module]:
        return {self.name: self.make(n_labels)}

    def fit(self, lesson: Lesson) -> np.ndarray:
        device, n_labels = lesson.options.device, len(lesson.labels)
        held_out = lesson.folds == lesson.folds.max()
        rows = WindowRows(lesson.windows, lesson.windows.targets, np.flatnonzero(~held_out), device)
        network, history = train_network(
            lambda: self.new_networks(n_labels)[self.name], rows, label_loss(lesson, ~held_out), lesson.options,
            seen=round(lesson.budget * self.seen), lr=self.lr, seed=lesson.seed_for(self.name), stage=self.name,
        )  # fmt: skip
        self.networks = {self.name: network}
        self.config = getattr(network, "config", None)
        self.place(device, lesson.options.precision)
        lesson.history.extend(history)
        logits = np.full((len(lesson.windows), 1, n_labels), np.nan, np.float32)
        logits[held_out, 0] = ask_all(network, lesson.windows, held_out, device, self.precision)
        return logits

    def answer(self, waveforms: np.ndarray, lengths: np.ndarray) -> Answer:
        logits, embeddings = ask(self.networks[self.name], waveforms, lengths, self.device, self.precision)
        return Answer(logits[:, None, None], embeddings)

    @property
    def embedding_dim(self) -> int:
        silence = np.zeros((1, _TRIAL), np.float32)
        return ask(self.networks[self.name], silence, np.array([_TRIAL]), self.device, self.precision)[1].shape[1]


def label_loss(lesson: Lesson, rows: np.ndarray) -> LabelLoss | ClassLoss:
    """The loss of the labels, with weights by the windows that are trained on."""
    if lesson.is_exclusive:
        return ClassLoss()
    weights = torch.from_numpy(label_weights(lesson.windows.targets[rows])).to(lesson.options.device)
    return LabelLoss(lesson.labels, weights)


def ask_all(
    network: nn.Module, windows: Windows, rows: np.ndarray, device: torch.device, precision: str,
    read: Callable[[np.ndarray], np.ndarray] = lambda logits: logits, statistics: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """What `read` makes of the logits of some windows, a part of them at a time."""
    numbers, parts = np.flatnonzero(rows), []
    for start in range(0, len(numbers), _AT_ONCE):
        part = numbers[start : start + _AT_ONCE]
        own = None if statistics is None else statistics[part]
        parts.append(read(ask(network, windows.floats(part), windows.lengths[part], device, precision, own)[0]))
    return np.concatenate(parts)
