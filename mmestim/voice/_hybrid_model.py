"""The default model: trees on statistics and on what a network of frames sees, beside a network of windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.special import expit
from torch import nn

from ..batches import Batch
from ..training import Objective
from ._calibration import Combination, check_thresholds, tune_thresholds
from ._models import (
    Answer,
    Lesson,
    WindowModel,
    grow,
    in_parts,
    label_loss,
    measure,
    statistics_of,
)
from ._network_training import FrameLoss, WindowRows, ask, train_network
from ._training_windows import SEAMS, UNKNOWN, Windows
from ._trees import BoostedTrees
from .networks import BoundaryNet, SmallCNN
from .statistics import ClipStatistics

_N_NETWORKS = 2
_CALIBRATED = 600  # windows
# Frames on a border are few; those of a label are as many as others.
_SEAM_WEIGHT, _FRAME_WEIGHT = 8.0, 2.0


class HybridModel(WindowModel):
    """Trees on statistics and on what networks of frames see, beside networks of whole windows.

    There are two of each network, from other first weights, and their mean answers: one for each of two cores.
    """

    n_models = 2

    # Windows that a network sees in all, and its highest learning rate.
    boundary: ClassVar = {"seen": 65_000, "lr": 4e-3}
    deep: ClassVar = {"seen": 35_000, "lr": 4e-3}

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}
        self.n_statistics = len(self.statistics.get_feature_names_out())

    def new_networks(self, n_labels: int) -> dict[str, nn.Module]:
        made: dict[str, nn.Module] = {}
        for number in range(_N_NETWORKS):
            made[f"boundary{number}"] = BoundaryNet(len(SEAMS) + n_labels)
            made[f"deep{number}"] = SmallCNN(n_labels, n_statistics=self.n_statistics)
        return made

    def fit(self, lesson: Lesson) -> np.ndarray:
        X = measure(self.statistics, lesson.windows, lesson.n_jobs)
        jobs = [(kind, number) for kind in ("boundary", "deep") for number in range(_N_NETWORKS)]
        # On a GPU they would stand in each other's way.
        at_once = Parallel(lesson.n_jobs if lesson.options.device.type == "cpu" else 1)
        for (kind, number), (network, history) in zip(
            jobs, at_once(delayed(_train)(self, lesson, X, *job) for job in jobs), strict=True
        ):
            self.networks[f"{kind}{number}"] = network
            lesson.history.extend(history)
        self.place(lesson.options.device, lesson.options.precision)
        everything = np.ones(len(X), bool)
        pooled = in_parts(lesson.windows, everything, lambda w, lengths, _: pool_frames(self._frames(w, lengths)))
        self.trees = grow(np.hstack([X, pooled]), lesson)
        self._calibrate_frames(lesson)
        held_out = lesson.held_out
        if not held_out.any():
            return lesson.no_logits(self.n_models)
        deep = in_parts(lesson.windows, held_out, lambda w, lengths, rows: self._deep(w, lengths, X[rows]))
        return np.stack([self.trees.decision_function(np.hstack([X, pooled])[held_out]), deep], axis=1)

    def _frames(self, waveforms, lengths):
        """Log-odds of the maps of every frame."""
        return np.mean([
            ask(self.networks[f"boundary{number}"], waveforms, lengths, self.device, self.precision)[0]
            for number in range(_N_NETWORKS)
        ], axis=0)  # fmt: skip

    def _deep(self, waveforms, lengths, X):
        """Log-odds of the labels by the networks of whole windows."""
        return np.mean([
            ask(self.networks[f"deep{number}"], waveforms, lengths, self.device, self.precision, X)[0]
            for number in range(_N_NETWORKS)
        ], axis=0)  # fmt: skip

    def _calibrate_frames(self, lesson):
        """What log-odds of frames mean, by frames of some windows that the networks do not know."""
        rows = np.flatnonzero(lesson.held_out)[:_CALIBRATED]
        z, truth = np.zeros((0, len(SEAMS) + len(lesson.labels))), np.zeros(0, np.uint8)
        if len(rows):
            chosen = np.isin(np.arange(len(lesson.windows)), rows)
            frames = in_parts(lesson.windows, chosen, lambda w, lengths, _: self._frames(w, lengths))
            truth = np.asarray(lesson.windows.frames[rows])[:, :, : frames.shape[2]]
            z, truth = (np.moveaxis(maps, 1, 2).reshape(-1, frames.shape[1]) for maps in (frames, truth))
        known = (truth != UNKNOWN) & (z > -29)
        self.frame_combination = Combination.fit(z[:, None], truth == 1, known)
        proba = expit(self.frame_combination.logits(z[:, None]))
        # Seams are in so few frames that none is likely.
        self.frame_thresholds = tune_thresholds(proba, truth == 1, known, np.zeros(len(z), bool), 1.0, least=0.0)

    def answer(self, waveforms: np.ndarray, lengths: np.ndarray) -> Answer:
        X, frames = statistics_of(self.statistics, waveforms, lengths), self._frames(waveforms, lengths)
        seen, deep = np.hstack([X, pool_frames(frames)]), self._deep(waveforms, lengths, X)
        by_frame = np.moveaxis(frames, 1, 2).reshape(-1, 1, frames.shape[1])
        maps = self.frame_combination.logits(by_frame).reshape(len(frames), -1, frames.shape[1])
        logits = np.stack([self.trees.decision_function(seen), deep], axis=1)
        return Answer(logits, np.hstack([seen, deep]), np.moveaxis(maps, 1, 2))

    @property
    def embedding_dim(self) -> int:
        n_labels = len(self.trees.baseline)
        return self.n_statistics + pooled_size(len(SEAMS) + n_labels) + n_labels

    def arrays(self) -> dict[str, np.ndarray]:
        frames = self.frame_combination
        own = {"weights": frames.weights, "offsets": frames.offsets, "thresholds": self.frame_thresholds}
        return self.trees.arrays() | {f"frames.{name}": values for name, values in own.items()}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        n_maps = len(SEAMS) + n_labels
        own = {name: arrays.get(f"frames.{name}", np.zeros(0)) for name in ("weights", "offsets", "thresholds")}
        self.frame_combination = Combination.of_arrays(own["weights"], own["offsets"], n_maps, 1)
        self.frame_thresholds = check_thresholds(own["thresholds"], n_maps)
        trees = {name: values for name, values in arrays.items() if not name.startswith("frames.")}
        self.trees = BoostedTrees.of_arrays(trees, n_labels, self.n_statistics + pooled_size(n_maps))


def _train(model, lesson, X, kind, number):
    """One network, on the windows that are not held out."""
    windows, options = lesson.windows, lesson.options
    rows = np.flatnonzero(~lesson.held_out)
    how = {"options": options, "seed": lesson.seed_for(kind, str(number)), "stage": f"{kind} {number}"}
    how["seen"] = round(lesson.budget * getattr(model, kind)["seen"])
    how["lr"] = getattr(model, kind)["lr"]
    served: WindowRows
    loss: Objective
    if kind == "deep":
        served = WindowRows(windows, windows.targets, rows, options.device, X)
        loss = label_loss(lesson, ~lesson.held_out)
    else:
        parts = [(windows, rows)]
        if lesson.dense is not None:
            parts.append((lesson.dense, np.flatnonzero(~lesson.dense_held_out)))
        served = FrameRows(parts, options.device)
        weights = np.full(len(SEAMS) + len(lesson.labels), _FRAME_WEIGHT, np.float32)
        weights[: len(SEAMS)] = _SEAM_WEIGHT
        loss = FrameLoss(torch.from_numpy(weights).to(options.device))
    return train_network(lambda: model.new_networks(len(lesson.labels))[f"{kind}{number}"], served, loss, **how)


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
