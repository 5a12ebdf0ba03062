"""What a detector learns by: models that answer for windows, and for windows that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn

from ..._training.devices import seed_for
from ..._training.options import TrainingOptions
from .._features.clip_statistics import ClipStatistics
from .._training_data.window_set import WindowSet
from .._window_labels import LABEL_UNKNOWN
from .boosted_trees import BoostedTrees
from .network_training import ClassLoss, LabelLoss, WindowRows, label_weights, predict_in_batches, train_network

SHORTEST_SECONDS = 0.35  # seconds that statistics need
_AT_ONCE = 64
_TRIAL = 8000  # samples
_TREES: dict[str, Any] = {"max_leaf_nodes": 15, "max_features": 0.15, "learning_rate": 0.1}


@dataclass(frozen=True)
class TrainingSet:
    """What a model is trained on, and how.

    Parameters
    ----------
    windows : Windows
        Simulated or given clips.
    dense : Windows or None
        Others with several seams each.
    held_out, dense_held_out : bool ndarray of shape (n_windows,)
        Windows, of some speakers, that are not to be trained on.
    labels : list of str
        Columns of the targets.
    is_exclusive : bool
        Whether a window has exactly one of them.
    options : TrainingOptions
        For networks.
    lr : float or None
        Highest learning rate of these, in place of their own.
    budget : float
        Times the usual number of windows that networks see.
    seed : int
        Of all that is drawn.
    n_jobs : int or None
        Processes.
    """

    windows: WindowSet
    spliced_windows: WindowSet | None
    held_out: np.ndarray
    spliced_held_out: np.ndarray | None
    labels: list[str]
    is_exclusive: bool
    options: TrainingOptions
    lr: float | None
    budget: float
    seed: int
    n_jobs: int | None
    history: list[dict[str, Any]] = field(default_factory=list)

    def seed_for(self, *purpose: str) -> int:
        """The seed of one part."""
        return seed_for(self.seed, *purpose)

    def no_logits(self, n_models: int) -> np.ndarray:
        """What a model says of held-out windows where there are none."""
        return np.zeros((0, n_models, len(self.labels)), np.float32)

    @property
    def is_labelled(self) -> np.ndarray:
        """Where the targets say something."""
        return self.windows.targets != LABEL_UNKNOWN

    @property
    def is_positive(self) -> np.ndarray:
        """Where a label is there."""
        return self.windows.targets == 1


class WindowOutputs(NamedTuple):
    """What a model says of windows."""

    logits: np.ndarray  # (n_windows, n_models, n_labels)
    embeddings: np.ndarray  # (n_windows, embedding_dim)
    frames: np.ndarray | None = None  # log-odds (n_windows, n_maps, n_frames) of the maps of `WindowSet.frames`


class WindowModel:
    """Base of the models."""

    n_models: ClassVar[int] = 1
    device, precision = torch.device("cpu"), "float32"  # until it is placed
    # What a network is made anew by, where the parameters do not say.
    config: dict[str, Any] | None = None
    # Of frames, where the answers have them: from which log-odds on a map is there.
    frame_thresholds: np.ndarray | None = None

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        """Learn.

        Returns
        -------
        ndarray of shape (n_held_out, n_models, n_labels)
            Log-odds of the windows that were not to be trained on.
        """
        raise NotImplementedError

    def predict(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        """What is in windows of shape (n_windows, n_samples) that have so many samples each."""
        raise NotImplementedError

    @property
    def embedding_dim(self) -> int:
        """Length of the embeddings."""
        raise NotImplementedError

    # What a file of the model holds.

    networks: dict[str, nn.Module]

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        """The networks before training, by name."""
        return {}

    def check_networks(self, labels: Sequence[str]) -> None:
        """Raise if they cannot be made, or do not answer as they have to."""
        self.new_networks(labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """What else was learnt, by name."""
        return {}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        """Take it over; a ValueError says what cannot be."""
        if arrays:
            raise ValueError(f"its model has {sorted(arrays)}, which it does not know.")

    def to(self, device: torch.device, precision: str) -> None:
        """Where networks are, and how they compute."""
        self.device, self.precision = device, precision
        for network in self.networks.values():
            network.to(device).eval()


# Statistics and trees ------------------------------------------------------------------------------


class FeatureModel(WindowModel):
    """Trees on statistics made by hand."""

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        X = compute_features(self.statistics, training_set.windows, training_set.n_jobs)
        self.trees = fit_trees(X, training_set)
        return self.trees.decision_function(X[training_set.held_out])[:, None]

    def arrays(self) -> dict[str, np.ndarray]:
        return self.trees.arrays()

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        self.trees = BoostedTrees.from_arrays(arrays, n_labels, self.embedding_dim)

    def predict(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        X = statistics_of(self.statistics, waveforms, lengths)
        return WindowOutputs(self.trees.decision_function(X)[:, None], X)

    @property
    def embedding_dim(self) -> int:
        return len(self.statistics.get_feature_names_out())


def fit_trees(X: np.ndarray, training_set: TrainingSet) -> BoostedTrees:
    """Trees on the rows of the windows that are to be trained on."""
    rows = ~training_set.held_out
    # Of few rows fewer bins and trees tell as much, in less time.
    few = rows.sum()
    options = _TREES | {
        "min_samples_leaf": max(1, min(20, few // 20)),
        "max_bins": max(16, min(63, few // 4)),
        "max_iter": max(20, min(120, few // 5)),
    }
    return BoostedTrees.fit(
        X[rows],
        training_set.is_positive[rows],
        training_set.is_labelled[rows],
        training_set.seed_for("trees"),
        training_set.n_jobs,
        **options,
    )


def compute_features(statistics: ClipStatistics, windows: WindowSet, n_jobs: int | None) -> np.ndarray:
    """Statistics of all windows."""
    starts = range(0, len(windows), _AT_ONCE)
    parts = Parallel(n_jobs)(
        delayed(_measure_some)(statistics, windows, slice(start, start + _AT_ONCE)) for start in starts
    )
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

    # Windows that it sees, and its highest learning rates.
    def __init__(
        self, make: Callable[[int], nn.Module], name: str, seen: int, lr: float, backbone_lr: float | None = None
    ) -> None:
        self.make, self.name, self.seen, self.lr, self.backbone_lr = make, name, seen, lr, backbone_lr
        self.networks: dict[str, nn.Module] = {}

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        return {self.name: self.make(len(labels))}

    @torch.no_grad()
    def check_networks(self, labels: Sequence[str]) -> None:
        network = self.new_networks(labels)[self.name]
        if not isinstance(network, nn.Module):
            raise TypeError(f"model={self.name} gives a {type(network).__name__}: it must give an nn.Module.")
        outputs = network.eval()(torch.zeros(1, _TRIAL), torch.tensor([_TRIAL]))
        shapes = [tuple(part.shape) for part in outputs] if isinstance(outputs, tuple) else type(outputs).__name__
        if len(shapes) != 2 or shapes[0] != (1, len(labels)) or len(shapes[1]) != 2:
            raise ValueError(
                f"model={self.name} answers for one waveform and {len(labels)} labels with {shapes}: it must give a "
                f"tuple of logits (1, {len(labels)}) and embeddings (1, n_features)."
            )

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        device, held_out = training_set.options.device, training_set.held_out
        rows = WindowRows(training_set.windows, training_set.windows.targets, np.flatnonzero(~held_out), device)
        network, history = train_network(
            lambda: self.new_networks(training_set.labels)[self.name],
            rows,
            label_loss(training_set, ~held_out),
            training_set.options,
            seen=round(training_set.budget * self.seen),
            lr=training_set.lr or self.lr,
            seed=training_set.seed_for(self.name),
            stage=self.name,
            backbone_lr=self.backbone_lr,
        )
        self.networks = {self.name: network}
        self.config = getattr(network, "config", None)
        self.to(device, training_set.options.precision)
        training_set.history.extend(history)
        if not held_out.any():
            return training_set.no_logits(1)
        return in_parts(
            training_set.windows, held_out, lambda waveforms, lengths, _: self.predict(waveforms, lengths).logits
        )

    def predict(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        logits, embeddings = predict_in_batches(
            self.networks[self.name], waveforms, lengths, self.device, self.precision
        )
        return WindowOutputs(logits[:, None], embeddings)

    @property
    def embedding_dim(self) -> int:
        silence = np.zeros((1, _TRIAL), np.float32)
        return predict_in_batches(self.networks[self.name], silence, np.array([_TRIAL]), self.device, self.precision)[
            1
        ].shape[1]


def label_loss(training_set: TrainingSet, rows: np.ndarray) -> LabelLoss | ClassLoss:
    """The loss of the labels, with weights by the windows that are trained on."""
    if training_set.is_exclusive:
        return ClassLoss()
    weights = torch.from_numpy(label_weights(training_set.windows.targets[rows])).to(training_set.options.device)
    return LabelLoss(training_set.labels, weights)


def in_parts(
    windows: WindowSet, rows: np.ndarray, read: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """What `read` makes of the waveforms, lengths and numbers of some windows, a part of them at a time."""
    numbers = np.flatnonzero(rows)
    parts = [numbers[start : start + _AT_ONCE] for start in range(0, len(numbers), _AT_ONCE)]
    return np.concatenate([read(windows.floats(part), windows.lengths[part], part) for part in parts])
