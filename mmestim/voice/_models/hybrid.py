"""The default model: trees on statistics and on what networks of frames see, beside networks of whole windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.special import expit
from torch import nn

from ..._data.batches import Batch
from ..._training.loop import Objective
from .._constants import MIN_FRAME_LOGIT, PAST_END_LOGIT
from .._features.clip_statistics import ClipStatistics
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from .._window_labels import LABEL_UNKNOWN
from ..networks import BoundaryNet, SmallCNN
from ..taxonomy import SPLICED_LABELS, frame_weights
from .base import WindowModel, WindowOutputs
from .batching import in_parts, label_loss
from .boosted_trees import BoostedTrees
from .calibration import ScoreFusion, check_thresholds, tune_thresholds
from .features import compute_features, fit_trees, statistics_of
from .losses import FrameLoss
from .network_training import WindowRows, predict_in_batches, train_network

_DEEP = ("deep0", "deep1")
_CALIBRATED = 600  # windows
# Which maps each network of frames learns, and what a frame counts that has one: those on a seam are few.
_MAPS = {"seams": (slice(0, len(SPLICED_LABELS)), 8.0), "inside": (slice(len(SPLICED_LABELS), None), 2.0)}


class HybridModel(WindowModel):
    """Trees on statistics and on what two networks of frames see, beside the mean of two networks of whole windows.

    One of those of frames sees seams and nothing else: they are so short that a network which is to learn what goes
    on between them as well does not learn them. There are two of each kind, for two cores.
    """

    n_models = 2

    # Windows that a network sees in all; all have the same highest learning rate.
    seen: ClassVar = {"seams": 60_000, "inside": 60_000, "deep0": 35_000, "deep1": 35_000}
    lr = 4e-3

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}
        self.n_statistics = len(self.statistics.get_feature_names_out())

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        made: dict[str, nn.Module] = (
            {"seams": BoundaryNet(len(SPLICED_LABELS))} if set(SPLICED_LABELS) & set(labels) else {}
        )
        made["inside"] = BoundaryNet(len(labels))
        return made | {name: SmallCNN(len(labels), n_statistics=self.n_statistics) for name in _DEEP}

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        X = compute_features(self.statistics, training_set.windows, training_set.n_jobs)
        names = list(self.new_networks(training_set.labels))
        # On a GPU they would stand in each other's way.
        at_once = Parallel(training_set.n_jobs if training_set.options.device.type == "cpu" else 1)
        for name, (network, history) in zip(
            names, at_once(delayed(_train)(self, training_set, X, name) for name in names), strict=True
        ):
            self.networks[name] = network
            training_set.history.extend(history)
        self.to(training_set.options.device, training_set.options.precision)
        everything = np.ones(len(X), bool)
        pooled = in_parts(training_set.windows, everything, lambda w, lengths, _: pool_frames(self._frames(w, lengths)))
        seen = np.hstack([X, pooled])
        self.trees = fit_trees(seen, training_set)
        self._calibrate_frames(training_set)
        held_out = training_set.held_out
        if not held_out.any():
            return training_set.no_logits(self.n_models)
        deep = in_parts(training_set.windows, held_out, lambda w, lengths, rows: self._deep(w, lengths, X[rows]))
        return np.stack([self.trees.decision_function(seen[held_out]), deep], axis=1)

    def _frames(self, waveforms, lengths):
        """Log-odds of the maps of every frame; of seams that need not be known they are those past the end."""
        args = waveforms, lengths, self.device, self.precision
        inside = predict_in_batches(self.networks["inside"], *args)[0]
        if "seams" in self.networks:
            seams = predict_in_batches(self.networks["seams"], *args)[0]
        else:
            seams = np.full((len(inside), len(SPLICED_LABELS), inside.shape[2]), PAST_END_LOGIT, np.float32)
        return np.concatenate([seams, inside], axis=1)

    def _deep(self, waveforms, lengths, X):
        """Log-odds of the labels by the networks of whole windows."""
        args = waveforms, lengths, self.device, self.precision, X
        return np.mean([predict_in_batches(self.networks[name], *args)[0] for name in _DEEP], axis=0)

    def _calibrate_frames(self, training_set):
        """What log-odds of frames mean, by frames of some windows that the networks do not know."""
        rows = np.flatnonzero(training_set.held_out)[:_CALIBRATED]
        z = truth = np.zeros((0, len(SPLICED_LABELS) + len(training_set.labels)))
        if len(rows):
            chosen = np.isin(np.arange(len(training_set.windows)), rows)
            frames = in_parts(training_set.windows, chosen, lambda w, lengths, _: self._frames(w, lengths))
            truth = np.asarray(training_set.windows.frames[rows])[:, :, : frames.shape[2]]
            z, truth = (np.moveaxis(maps, 1, 2).reshape(-1, frames.shape[1]) for maps in (frames, truth))
        is_labelled = (truth != LABEL_UNKNOWN) & (z > MIN_FRAME_LOGIT)
        self.frame_fusion = ScoreFusion.fit(z[:, None], truth == 1, is_labelled)
        proba = expit(self.frame_fusion.logits(z[:, None]))
        # Seams are in so few frames that none is likely.
        self.frame_thresholds = tune_thresholds(proba, truth == 1, is_labelled, np.zeros(len(z), bool), 1.0, least=0.0)

    def predict(self, waveforms: np.ndarray, lengths: np.ndarray) -> WindowOutputs:
        X, frames = statistics_of(self.statistics, waveforms, lengths), self._frames(waveforms, lengths)
        seen, deep = np.hstack([X, pool_frames(frames)]), self._deep(waveforms, lengths, X)
        by_frame = np.moveaxis(frames, 1, 2).reshape(-1, 1, frames.shape[1])
        maps = self.frame_fusion.logits(by_frame).reshape(len(frames), -1, frames.shape[1])
        logits = np.stack([self.trees.decision_function(seen), deep], axis=1)
        return WindowOutputs(logits, np.hstack([seen, deep]), np.moveaxis(maps, 1, 2))

    @property
    def embedding_dim(self) -> int:
        n_labels = len(self.trees.baseline)
        return self.n_statistics + pooled_size(len(SPLICED_LABELS) + n_labels) + n_labels

    def arrays(self) -> dict[str, np.ndarray]:
        frames = self.frame_fusion
        own = {"weights": frames.weights, "offsets": frames.offsets, "thresholds": self.frame_thresholds}
        return self.trees.arrays() | {f"frames.{name}": values for name, values in own.items()}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        n_maps = len(SPLICED_LABELS) + n_labels
        own = {name: arrays.get(f"frames.{name}", np.zeros(0)) for name in ("weights", "offsets", "thresholds")}
        self.frame_fusion = ScoreFusion.from_arrays(own["weights"], own["offsets"], n_maps, 1)
        self.frame_thresholds = check_thresholds(own["thresholds"], n_maps)
        trees = {name: values for name, values in arrays.items() if not name.startswith("frames.")}
        self.trees = BoostedTrees.from_arrays(trees, n_labels, self.n_statistics + pooled_size(n_maps))


def _train(model, training_set, X, name):
    """One network, on the windows that are not held out."""
    windows, options = training_set.windows, training_set.options
    rows = np.flatnonzero(~training_set.held_out)
    how = {"options": options, "seed": training_set.seed_for(name), "stage": name, "lr": training_set.lr or model.lr}
    how["seen"] = round(training_set.budget * model.seen[name])
    served: WindowRows
    loss: Objective
    if name in _DEEP:
        served = WindowRows(windows, windows.targets, rows, options.device, X)
        loss = label_loss(training_set, ~training_set.held_out)
    else:
        parts = [(windows, rows)]
        if training_set.spliced_windows is not None:
            parts.append((training_set.spliced_windows, np.flatnonzero(~training_set.spliced_held_out)))
        maps, weight = _MAPS[name]
        shares = [1.0] * len(SPLICED_LABELS) + frame_weights(training_set.labels)
        served, loss = FrameRows(parts, maps, options.device), FrameLoss(weight, shares[maps])
    return train_network(lambda: model.new_networks(training_set.labels)[name], served, loss, **how)


class FrameRows(WindowRows):
    """Windows of one or two sets, with what some maps have in each of their frames."""

    def __init__(self, parts: Sequence[tuple[WindowSet, np.ndarray]], maps: slice, device: torch.device) -> None:
        self.parts, self.device, self.statistics = [windows for windows, _ in parts], device, None
        self.maps = maps
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
        frames = np.stack([self.parts[p].frames[n, self.maps] for p, n in zip(which, own, strict=True)])
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
        `PAST_END_LOGIT` past the end of a clip.

    Returns
    -------
    ndarray of shape (n_windows, pooled_size(n_maps))
        Float32.
    """
    real = frames > MIN_FRAME_LOGIT
    n_real = np.maximum(real.sum(axis=2), 1)
    ordered = -np.sort(-frames, axis=2)
    highest = [ordered[:, :, : min(k, frames.shape[2])].mean(axis=2) for k in (1, 4, 16)]
    mean = np.where(real, frames, 0).sum(axis=2) / n_real
    total = np.logaddexp.reduce(frames.astype(np.float64), axis=2)
    seams = ordered[:, : len(SPLICED_LABELS), 0].max(axis=1, keepdims=True)
    return np.hstack([*highest, mean, total, seams]).astype(np.float32)
