"""Default model of windows: boosted trees on statistics and on scores of frames, and networks of whole windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from ..._data.batches import Batch
from ..._training.loop import Objective
from ..._utils.parallel import run_tasks
from .._audio.windowing import Window
from .._constants import MIN_FRAME_LOGIT, PAST_END_LOGIT
from .._features.clip_statistics import ClipStatistics
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from .._window_labels import FRAME_SECONDS, LABEL_UNKNOWN
from ..networks import BoundaryNet, SharedFrontEnd, SmallCNN
from ..networks.masking import scale_to_unit_rms
from ..taxonomy import SPLICED_LABELS, frame_weights
from .base import WindowModel, WindowOutputs
from .batching import build_label_loss, map_windows, stack_windows
from .boosted_trees import BoostedTrees
from .calibration import ScoreFusion, check_thresholds, tune_thresholds
from .features import compute_features, fit_trees, window_statistics
from .losses import FrameLoss
from .network_training import WindowRows, predict_in_batches, train_network

# Names of the networks in files and in seeds.
_SPLICE_NETWORK, _CONTENT_NETWORK = "seams", "inside"
_WINDOW_NETWORKS = ("deep0", "deep1")
_N_CALIBRATION_WINDOWS = 600
# Frames on either side that a frame of `BoundaryNet` depends on.
_CONTEXT_FRAMES = 18
# Numbers of the highest frames over which pooling averages.
_TOP_FRAMES = (1, 4, 16)


class _FrameTask(NamedTuple):
    """Task of a network of frames."""

    maps: slice
    positive_weight: float  # higher for splice points, which few frames have


_FRAME_TASKS = {
    _SPLICE_NETWORK: _FrameTask(slice(0, len(SPLICED_LABELS)), 8.0),
    _CONTENT_NETWORK: _FrameTask(slice(len(SPLICED_LABELS), None), 2.0),
}


class HybridModel(WindowModel):
    """Boosted trees on statistics and on scores of frames, beside the mean of two networks of whole windows.

    One network of frames learns only splice points. They are so short that a network which also learns the content
    between them does not learn them. There are two networks of each kind, so that two cores train them in parallel.

    Parameters
    ----------
    sample_rate : int
        Samples per second.
    """

    n_models = 2

    # Number of windows that each network is trained on, counting repetitions.
    n_windows: ClassVar = {_SPLICE_NETWORK: 60_000, _CONTENT_NETWORK: 60_000, "deep0": 35_000, "deep1": 35_000}
    # Highest learning rate of all networks.
    lr = 4e-3

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}
        self.n_statistics = len(self.statistics.get_feature_names_out())

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {}
        if set(SPLICED_LABELS) & set(labels):
            networks[_SPLICE_NETWORK] = BoundaryNet(len(SPLICED_LABELS))
        networks[_CONTENT_NETWORK] = BoundaryNet(len(labels))
        return networks | {name: SmallCNN(len(labels), n_statistics=self.n_statistics) for name in _WINDOW_NETWORKS}

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        windows, held_out = training_set.windows, training_set.held_out
        X = compute_features(self.statistics, training_set)
        names = list(self.new_networks(training_set.labels))
        training_set.options.log_stage(f"training the networks {', '.join(names)}")
        # On a GPU, parallel training would compete for the same device.
        n_jobs = training_set.n_jobs if training_set.options.device.type == "cpu" else 1
        results = run_tasks(_train, ([name] for name in names), n_jobs, shared=(self, training_set, X))
        for name, (network, history) in zip(names, results, strict=True):
            self.networks[name] = network
            training_set.history.extend(history)
        self.to(training_set.options.device, training_set.options.precision)
        training_set.options.log_stage("scoring the frames of all windows")
        pooled = map_windows(
            windows,
            np.ones(len(X), bool),
            lambda waveforms, lengths, _: pool_frames(self._frame_logits(waveforms, lengths)),
        )
        tree_features = np.hstack([X, pooled])
        self.trees = fit_trees(tree_features, training_set)
        self._calibrate_frames(training_set)
        if not held_out.any():
            return training_set.no_logits(self.n_models)
        network_logits = map_windows(
            windows, held_out, lambda waveforms, lengths, rows: self._window_logits(waveforms, lengths, X[rows])
        )
        return np.stack([self.trees.decision_function(tree_features[held_out]), network_logits], axis=1)

    def predict(self, windows: Sequence[Window]) -> WindowOutputs:
        waveforms, lengths = stack_windows(windows)
        X = window_statistics(self.statistics, waveforms, lengths)
        frames = self._overlapping_frame_logits([window.start for window in windows], waveforms, lengths)
        tree_features = np.hstack([X, pool_frames(frames)])
        network_logits = self._window_logits(waveforms, lengths, X)
        frame_rows = np.moveaxis(frames, 1, 2).reshape(-1, 1, frames.shape[1])
        calibrated = self.frame_fusion.logits(frame_rows).reshape(len(frames), -1, frames.shape[1])
        logits = np.stack([self.trees.decision_function(tree_features), network_logits], axis=1)
        return WindowOutputs(logits, np.hstack([tree_features, network_logits]), np.moveaxis(calibrated, 1, 2))

    @property
    def embedding_dim(self) -> int:
        n_labels = len(self.trees.baseline)
        return self.n_statistics + pooled_size(len(SPLICED_LABELS) + n_labels) + n_labels

    def arrays(self) -> dict[str, np.ndarray]:
        fusion = self.frame_fusion
        frame_arrays: dict[str, Any] = {"weights": fusion.weights, "offsets": fusion.offsets}
        frame_arrays["thresholds"] = self.frame_thresholds
        return self.trees.arrays() | {f"frames.{name}": values for name, values in frame_arrays.items()}

    def set_arrays(self, arrays: Mapping[str, np.ndarray], n_labels: int) -> None:
        n_maps = len(SPLICED_LABELS) + n_labels
        weights, offsets, thresholds = (
            arrays.get(f"frames.{name}", np.zeros(0)) for name in ("weights", "offsets", "thresholds")
        )
        self.frame_fusion = ScoreFusion.from_arrays(weights, offsets, n_maps, 1)
        self.frame_thresholds = check_thresholds(thresholds, n_maps)
        tree_arrays = {name: values for name, values in arrays.items() if not name.startswith("frames.")}
        self.trees = BoostedTrees.from_arrays(tree_arrays, n_labels, self.n_statistics + pooled_size(n_maps))

    def _overlapping_frame_logits(
        self, starts: Sequence[int], waveforms: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Return the log-odds of all maps in every frame, computed once for the frames that two windows share.

        Parameters
        ----------
        starts : sequence of int
            Positions of the windows in the recording.
        waveforms : float32 ndarray of shape (n_windows, n_samples)
            The windows, padded with zeros.
        lengths : int64 ndarray of shape (n_windows,)
            Number of samples of each window without the padding.

        Returns
        -------
        float32 ndarray of shape (n_windows, n_maps, n_frames)
            The log-odds. Frames that the window before contains are those of that window, except near its end.
        """
        hop_length = round(FRAME_SECONDS * self.statistics.sample_rate)
        scaled = scale_to_unit_rms(torch.from_numpy(waveforms), torch.from_numpy(lengths)).numpy()
        n_frames = 1 + waveforms.shape[1] // hop_length
        # The last window of a recording may start between two frames; the nearest is at most 5 ms away.
        shifts = np.append(0, np.round(np.diff(starts) / hop_length).astype(int))
        n_before = np.append(0, 1 + lengths[:-1] // hop_length)
        n_shared = np.maximum(n_before - shifts - _CONTEXT_FRAMES, 0)
        logits = None
        for count in np.unique(n_shared):
            rows, n_left_out = np.flatnonzero(n_shared == count), max(0, count - _CONTEXT_FRAMES)
            first = n_left_out * hop_length
            part = self._frame_logits(scaled[rows, first:], lengths[rows] - first, is_scaled=True)
            if logits is None:
                logits = np.empty((len(starts), part.shape[1], n_frames), part.dtype)
            logits[rows, :, count:] = part[:, :, count - n_left_out :]
        assert logits is not None
        for row in np.flatnonzero(n_shared):
            logits[row, :, : n_shared[row]] = logits[row - 1, :, shifts[row] : shifts[row] + n_shared[row]]
        return logits

    def _frame_logits(self, waveforms: np.ndarray, lengths: np.ndarray, *, is_scaled: bool = False) -> np.ndarray:
        """Return the log-odds of all maps in every frame; splice points without a network get `PAST_END_LOGIT`."""
        networks = [self.networks[name] for name in _FRAME_TASKS if name in self.networks]
        together = partial(SharedFrontEnd(*networks), is_scaled=is_scaled)
        logits = predict_in_batches(together, waveforms, lengths, self.device, self.precision)[0]
        if _SPLICE_NETWORK in self.networks:
            return logits
        shape = (len(logits), len(SPLICED_LABELS), logits.shape[2])
        return np.concatenate([np.full(shape, PAST_END_LOGIT, np.float32), logits], axis=1)

    def _window_logits(self, waveforms: np.ndarray, lengths: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Return the mean log-odds of the labels over the networks of whole windows."""
        networks = SharedFrontEnd(*(self.networks[name] for name in _WINDOW_NETWORKS))
        logits = predict_in_batches(networks, waveforms, lengths, self.device, self.precision, X)[0]
        return logits.reshape(len(logits), len(_WINDOW_NETWORKS), -1).mean(axis=1)

    def _calibrate_frames(self, training_set: TrainingSet) -> None:
        """Calibrate the scores of frames, and set their thresholds, on the frames of some held-out windows."""
        windows = training_set.windows
        rows = np.flatnonzero(training_set.held_out)[:_N_CALIBRATION_WINDOWS]
        logits = targets = np.zeros((0, len(SPLICED_LABELS) + len(training_set.labels)))
        if len(rows):
            is_chosen = np.isin(np.arange(len(windows)), rows)
            maps = map_windows(windows, is_chosen, lambda waveforms, lengths, _: self._frame_logits(waveforms, lengths))
            map_targets = np.asarray(windows.frames[rows])[:, :, : maps.shape[2]]
            logits, targets = (np.moveaxis(values, 1, 2).reshape(-1, maps.shape[1]) for values in (maps, map_targets))
        is_labelled = (targets != LABEL_UNKNOWN) & (logits > MIN_FRAME_LOGIT)
        is_positive = targets == 1
        self.frame_fusion = ScoreFusion.fit(logits[:, None], is_positive, is_labelled)
        proba = expit(self.frame_fusion.logits(logits[:, None]))
        # Few frames have splice points, so a lower bound on the thresholds would exclude them all.
        no_row = np.zeros(len(logits), bool)
        self.frame_thresholds = tune_thresholds(proba, is_positive, is_labelled, no_row, 1.0, min_threshold=0.0)


def _train(
    model: HybridModel, training_set: TrainingSet, X: np.ndarray, name: str
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train the network of one name on the windows that are not held out."""
    windows, options = training_set.windows, training_set.options
    training_rows = np.flatnonzero(~training_set.held_out)
    rows: WindowRows
    loss: Objective
    if name in _WINDOW_NETWORKS:
        rows = WindowRows(windows, windows.targets, training_rows, options.device, X)
        loss = build_label_loss(training_set, ~training_set.held_out)
    else:
        parts = [(windows, training_rows)]
        if training_set.spliced_windows is not None and training_set.spliced_held_out is not None:
            parts.append((training_set.spliced_windows, np.flatnonzero(~training_set.spliced_held_out)))
        task = _FRAME_TASKS[name]
        map_weights = [1.0] * len(SPLICED_LABELS) + frame_weights(training_set.labels)
        rows = FrameRows(parts, task.maps, options.device)
        loss = FrameLoss(task.positive_weight, map_weights[task.maps])
    return train_network(
        lambda: model.new_networks(training_set.labels)[name],
        rows,
        loss,
        options,
        n_windows=round(training_set.budget * model.n_windows[name]),
        lr=training_set.lr or model.lr,
        seed=training_set.seed_for(name),
        stage=name,
    )


class FrameRows(WindowRows):
    """Windows of one or two sets with the labels of their frames.

    Parameters
    ----------
    parts : sequence of (WindowSet, ndarray)
        Sets and the numbers of the windows to use.
    maps : slice
        Maps of `WindowSet.frames` to use as targets.
    device : torch.device
        Device of the batches.
    """

    def __init__(self, parts: Sequence[tuple[WindowSet, np.ndarray]], maps: slice, device: torch.device) -> None:
        self.parts, self.device, self.statistics = [windows for windows, _ in parts], device, None
        self.maps = maps
        self.offsets = np.cumsum([0, *(len(windows) for windows, _ in parts)])
        numbers = [rows + offset for (_, rows), offset in zip(parts, self.offsets, strict=False)]
        self.rows = torch.from_numpy(np.concatenate(numbers))

    def batch(self, rows: torch.Tensor, training: bool = False) -> Batch:
        """Return windows by their numbers over all sets, on the device."""
        numbers = rows.numpy()
        part_numbers = np.searchsorted(self.offsets, numbers, side="right") - 1
        row_numbers = numbers - self.offsets[part_numbers]
        places = [(self.parts[part], row) for part, row in zip(part_numbers, row_numbers, strict=True)]
        waveforms = np.stack([windows.floats(row) for windows, row in places])
        lengths = np.array([windows.lengths[row] for windows, row in places])
        frames = np.stack([windows.frames[row, self.maps] for windows, row in places])
        x = {"waveform": torch.from_numpy(waveforms), "lengths": torch.from_numpy(lengths)}
        x = {name: values.to(self.device, non_blocking=True) for name, values in x.items()}
        y = torch.from_numpy(frames).to(self.device, non_blocking=True)
        return Batch(x, {}, len(rows), y, None, rows)


def pooled_size(n_maps: int) -> int:
    """Return the number of features that `pool_frames` computes from `n_maps` maps."""
    return (len(_TOP_FRAMES) + 2) * n_maps + 1


def pool_frames(frames: np.ndarray) -> np.ndarray:
    """Pool maps of log-odds over the frames of a window.

    Parameters
    ----------
    frames : ndarray of shape (n_windows, n_maps, n_frames)
        `PAST_END_LOGIT` past the end of a clip.

    Returns
    -------
    float32 ndarray of shape (n_windows, pooled_size(n_maps))
        For each map the means of its 1, 4 and 16 highest frames, the mean of the frames inside the clip and the
        log-sum-exp of all frames; then the highest value of all maps of splice points.
    """
    is_inside = frames > MIN_FRAME_LOGIT
    n_inside = np.maximum(is_inside.sum(axis=2), 1)
    descending = -np.sort(-frames, axis=2)
    top_means = [descending[:, :, : min(n, frames.shape[2])].mean(axis=2) for n in _TOP_FRAMES]
    mean = np.where(is_inside, frames, 0).sum(axis=2) / n_inside
    log_sum = np.logaddexp.reduce(frames.astype(np.float64), axis=2)
    highest_splice = descending[:, : len(SPLICED_LABELS), 0].max(axis=1, keepdims=True)
    return np.hstack([*top_means, mean, log_sum, highest_splice]).astype(np.float32)
