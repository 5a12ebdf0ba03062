"""What a detector learns by: models that answer for windows, and for windows that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.special import expit
from torch import nn

from ..batches import Batch
from ..devices import seed_for
from ..training import Objective, TrainingOptions
from ._calibration import Combination, check_thresholds, tune_thresholds
from ._network_training import (
    ClassLoss,
    FrameLoss,
    LabelLoss,
    WindowRows,
    ask,
    label_weights,
    train_network,
)  # fmt: skip
from ._training_windows import SEAMS, UNKNOWN, Windows
from ._trees import BoostedTrees
from .networks import LCNN, BoundaryNet, ComplexNet, RawNet2, SmallCNN, SSLNet
from .statistics import ClipStatistics

SHORTEST_SECONDS = 0.35  # seconds that statistics need
_AT_ONCE = 64
_CALIBRATED = 300  # windows of a fold
_TRIAL = 8000  # samples
# Frames on a border are few; those of a label are as many as others.
_SEAM_WEIGHT, _FRAME_WEIGHT = 8.0, 2.0
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


# All together --------------------------------------------------------------------------------------


class HybridModel(WindowModel):
    """Trees on statistics and on what a network of frames sees, beside a network of whole windows.

    All are trained twice, on either part of the speakers, so that trees, weights and thresholds learn from what is
    said of voices that were not heard; asked about others, both halves answer, and their mean counts.
    """

    n_models = n_folds = 2

    # Windows that a network sees in all, and its highest learning rate.
    boundary: ClassVar = {"seen": 65_000, "lr": 4e-3}
    deep: ClassVar = {"seen": 35_000, "lr": 4e-3}

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}
        self.n_statistics = len(self.statistics.get_feature_names_out())

    def new_networks(self, n_labels: int) -> dict[str, nn.Module]:
        made: dict[str, nn.Module] = {}
        for fold in (0, 1):
            made[f"boundary{fold}"] = BoundaryNet(len(SEAMS) + n_labels)
            made[f"deep{fold}"] = SmallCNN(n_labels, n_statistics=self.n_statistics)
        return made

    def fit(self, lesson: Lesson) -> np.ndarray:
        X = measure(self.statistics, lesson.windows, lesson.n_jobs)
        jobs = [(kind, fold) for kind in ("boundary", "deep") for fold in (0, 1)]
        # On a GPU they would stand in each other's way.
        at_once = Parallel(lesson.n_jobs if lesson.options.device.type == "cpu" else 1)
        for (kind, fold), (network, history) in zip(
            jobs, at_once(delayed(_train)(self, lesson, X, *job) for job in jobs), strict=True
        ):
            self.networks[f"{kind}{fold}"] = network
            lesson.history.extend(history)
        self.place(lesson.options.device, lesson.options.precision)
        pooled = np.empty((len(X), pooled_size(len(SEAMS) + len(lesson.labels))), np.float32)
        deep = np.empty((len(X), len(lesson.labels)), np.float32)
        for fold in (0, 1):
            rows = lesson.folds == fold  # which the networks of the fold were not trained on
            args = lesson.windows, rows, self.device, self.precision
            pooled[rows] = ask_all(self.networks[f"boundary{fold}"], *args, read=pool_frames)
            deep[rows] = ask_all(self.networks[f"deep{fold}"], *args, statistics=X)
        self._calibrate_frames(lesson)
        logits, self.forests = grow(np.hstack([X, pooled]), lesson)
        return np.stack([logits, deep], axis=1)

    def _calibrate_frames(self, lesson):
        """What log-odds of frames mean, by frames of some windows of either part of the speakers."""
        logits, truths = [], []
        for fold in (0, 1):
            rows = np.flatnonzero(lesson.folds == fold)[:_CALIBRATED]
            chosen = np.isin(np.arange(len(lesson.windows)), rows)
            args = self.networks[f"boundary{fold}"], lesson.windows, chosen, self.device, self.precision
            frames = ask_all(*args)
            logits.append(np.moveaxis(frames, 1, 2).reshape(-1, frames.shape[1]))
            truth = np.asarray(lesson.windows.frames[rows])[:, :, : frames.shape[2]]
            truths.append(np.moveaxis(truth, 1, 2).reshape(-1, frames.shape[1]))
        z, truth = np.concatenate(logits), np.concatenate(truths)
        known = (truth != UNKNOWN) & (z > -29)
        self.frame_combination = Combination.fit(z[:, None], truth == 1, known)
        proba = expit(self.frame_combination.logits(z[:, None]))
        self.frame_thresholds = tune_thresholds(proba, truth == 1, known, np.zeros(len(z), bool), 1.0)

    def answer(self, waveforms: np.ndarray, lengths: np.ndarray) -> Answer:
        X = statistics_of(self.statistics, waveforms, lengths)
        args = waveforms, lengths, self.device, self.precision
        # Each half as what it says was calibrated; the mean of both comes last.
        logits, embeddings, maps = [], [X], []
        for fold in (0, 1):
            frames = ask(self.networks[f"boundary{fold}"], *args)[0]
            pooled, deep = pool_frames(frames), ask(self.networks[f"deep{fold}"], *args, X)[0]
            trees = self.forests[fold % len(self.forests)]
            logits.append(np.stack([trees.decision_function(np.hstack([X, pooled])), deep], axis=1))
            embeddings += [pooled, deep]
            by_frame = np.moveaxis(frames, 1, 2).reshape(-1, 1, frames.shape[1])
            calibrated = self.frame_combination.logits(by_frame).reshape(len(frames), -1, frames.shape[1])
            maps.append(np.moveaxis(calibrated, 1, 2))
        return Answer(np.stack(logits, axis=1), np.hstack(embeddings), np.mean(maps, axis=0))

    @property
    def embedding_dim(self) -> int:
        n_labels = len(self.forests[0].baseline)
        return self.n_statistics + 2 * (pooled_size(len(SEAMS) + n_labels) + n_labels)

    def arrays(self) -> dict[str, np.ndarray]:
        frames = self.frame_combination
        own = {"weights": frames.weights, "offsets": frames.offsets, "thresholds": self.frame_thresholds}
        return forest_arrays(self.forests) | {f"frames.{name}": values for name, values in own.items()}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        n_maps = len(SEAMS) + n_labels
        own = {name: arrays.get(f"frames.{name}", np.zeros(0)) for name in ("weights", "offsets", "thresholds")}
        self.frame_combination = Combination.of_arrays(own["weights"], own["offsets"], n_maps, 1)
        self.frame_thresholds = check_thresholds(own["thresholds"], n_maps)
        trees = {name: values for name, values in arrays.items() if not name.startswith("frames.")}
        self.forests = forests_of(trees, n_labels, self.n_statistics + pooled_size(n_maps))


def _train(model, lesson, X, kind, fold):
    """One network, on the windows that are not of a fold."""
    windows, options = lesson.windows, lesson.options
    rows = np.flatnonzero(lesson.folds != fold)
    how = {"options": options, "seed": lesson.seed_for(kind, str(fold)), "stage": f"{kind} {fold}"}
    how["seen"] = round(lesson.budget * getattr(model, kind)["seen"])
    how["lr"] = getattr(model, kind)["lr"]
    served: WindowRows
    loss: Objective
    if kind == "deep":
        served = WindowRows(windows, windows.targets, rows, options.device, X)
        loss = label_loss(lesson, lesson.folds != fold)
    else:
        parts = [(windows, rows)]
        if lesson.dense is not None:
            parts.append((lesson.dense, np.flatnonzero(lesson.dense_folds != fold)))
        served = FrameRows(parts, options.device)
        weights = np.full(len(SEAMS) + len(lesson.labels), _FRAME_WEIGHT, np.float32)
        weights[: len(SEAMS)] = _SEAM_WEIGHT
        loss = FrameLoss(torch.from_numpy(weights).to(options.device))
    return train_network(lambda: model.new_networks(len(lesson.labels))[f"{kind}{fold}"], served, loss, **how)


class FrameRows(WindowRows):
    """Windows of one or two sets, with what is in each of their frames."""

    def __init__(self, parts: Sequence[tuple[Windows, np.ndarray]], device: torch.device) -> None:
        self.parts, self.device, self.statistics = [windows for windows, _ in parts], device, None
        self.first = np.cumsum([0, *(len(windows) for windows, _ in parts)])
        numbers = [rows + first for (_, rows), first in zip(parts, self.first, strict=False)]
        self.rows = torch.from_numpy(np.concatenate(numbers))

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Some windows, on the device."""
        numbers = rows.numpy()
        which = np.searchsorted(self.first, numbers, side="right") - 1
        own = numbers - self.first[which]
        waveforms = np.stack([self.parts[p].floats(n) for p, n in zip(which, own, strict=True)])
        lengths = np.array([self.parts[p].lengths[n] for p, n in zip(which, own, strict=True)])
        frames = np.stack([self.parts[p].frames[n] for p, n in zip(which, own, strict=True)])
        x = {"waveform": torch.from_numpy(waveforms), "lengths": torch.from_numpy(lengths)}
        x = {name: values.to(self.device, non_blocking=True) for name, values in x.items()}
        y = torch.from_numpy(frames).to(self.device, non_blocking=True)
        return Batch(x, {}, len(rows), y, None, rows)


def pooled_size(n_maps: int) -> int:
    """Numbers that `pool_frames` makes of so many maps."""
    return 5 * n_maps + 1


def pool_frames(frames: np.ndarray) -> np.ndarray:
    """What maps of log-odds say of their window: its highest values, its mean and its log-sum-exp.

    Parameters
    ----------
    frames : ndarray of shape (n_windows, n_maps, n_frames)
        -30 behind the end of a clip.

    Returns
    -------
    ndarray of shape (n_windows, pooled_size(n_maps))
        Float32.
    """
    real = frames > -29
    n_real = np.maximum(real.sum(axis=2), 1)
    ordered = -np.sort(-frames, axis=2)
    highest = [ordered[:, :, : min(k, frames.shape[2])].mean(axis=2) for k in (1, 4, 16)]
    mean = np.where(real, frames, 0).sum(axis=2) / n_real
    total = np.logaddexp.reduce(frames.astype(np.float64), axis=2)
    seams = ordered[:, : len(SEAMS), 0].max(axis=1, keepdims=True)
    return np.hstack([*highest, mean, total, seams]).astype(np.float32)


# By name ---------------------------------------------------------------------------------------------

# Windows that a network sees, and its highest learning rate.
_NETWORKS: dict[str, tuple[Callable[..., nn.Module], int, float]] = {
    "lcnn": (LCNN, 60_000, 1e-3),
    "complexnet": (ComplexNet, 60_000, 1e-3),
    "rawnet2": (RawNet2, 60_000, 3e-4),
}
MODELS = ("hybrid", "features", *_NETWORKS, "ssl")


def make_model(model: Any, weights: Any, sample_rate: int, config: Any = None) -> WindowModel:
    """What a name or a network's class stands for; `config` is of a network whose weights come from a file of ours."""
    if model == "hybrid":
        return HybridModel(sample_rate)
    if model == "features":
        return FeatureModel(sample_rate)
    if model == "ssl":
        if config is not None:
            weights = None
        elif weights is None:
            raise ValueError(
                "model='ssl' needs weights=, a file or state dict of a wav2vec 2.0, HuBERT or WavLM model that you "
                "have. Nothing is downloaded."
            )
        return NetworkModel(partial(SSLNet, weights=weights, config=config), "ssl", 20_000, 1e-3)
    if isinstance(model, str):
        make, seen, lr = _NETWORKS[model]
        return NetworkModel(make, model, seen, lr)
    return NetworkModel(model, getattr(model, "__name__", "network"), 60_000, 1e-3)
