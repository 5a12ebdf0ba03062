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
    ask_all,
    forest_arrays,
    forests_of,
    grow,
    label_loss,
    measure,
    statistics_of,
)
from ._network_training import FrameLoss, WindowRows, ask, train_network
from ._training_windows import SEAMS, UNKNOWN, Windows
from .networks import BoundaryNet, SmallCNN
from .statistics import ClipStatistics

_CALIBRATED = 300  # windows of a fold
# Frames on a border are few; those of a label are as many as others.
_SEAM_WEIGHT, _FRAME_WEIGHT = 8.0, 2.0


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
        # Seams are in so few frames that none is likely.
        self.frame_thresholds = tune_thresholds(proba, truth == 1, known, np.zeros(len(z), bool), 1.0, least=0.0)

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
