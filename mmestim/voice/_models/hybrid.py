"""Default model of windows: boosted trees and small networks on statistics and on outputs of networks of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from ..._data.batches import Batch
from ..._training.devices import autocast
from ..._utils.parallel import run_tasks
from .._audio.windowing import Window
from .._constants import MIN_FRAME_LOGIT, PAST_END_LOGIT
from .._features.clip_statistics import ClipStatistics
from .._training_data.training_set import TrainingSet
from .._training_data.window_set import WindowSet
from .._window_labels import FRAME_SECONDS, LABEL_UNKNOWN
from ..networks import BoundaryNet, SharedFrontEnd
from ..networks.boundary_net import CONTEXT_FRAMES, EMBEDDING_DIM
from ..networks.feature_net import FeatureNet
from ..networks.masking import scale_to_unit_rms
from ..taxonomy import SPLICED_LABELS, frame_weights
from .base import BATCH_SIZE, WindowModel, WindowOutputs, map_windows, stack_windows
from .boosted_trees import BoostedTrees
from .calibration import ScoreFusion, check_thresholds, tune_thresholds
from .features import compute_features, fit_trees, window_statistics
from .losses import FrameLoss, build_label_loss
from .network_training import FeatureRows, WindowRows, predict_in_batches, train_network
from .pooling import N_EMBEDDING_POOLS, pool_embeddings, pool_frames, pooled_size

# Names of the networks in files and in seeds.
_SPLICE_NETWORK, _CONTENT_NETWORK = "seams", "inside"
_WINDOW_NETWORKS = ("head0", "head1")
_N_CALIBRATION_WINDOWS = 600


class _FrameTask(NamedTuple):
    """Task of a network of frames."""

    maps: slice
    positive_weight: float  # higher for splice points, which few frames have


_FRAME_TASKS = {
    _SPLICE_NETWORK: _FrameTask(slice(0, len(SPLICED_LABELS)), 8.0),
    _CONTENT_NETWORK: _FrameTask(slice(len(SPLICED_LABELS), None), 2.0),
}


class HybridModel(WindowModel):
    """Boosted trees and two small networks, which both score windows by statistics and by what networks of frames find.

    One network of frames learns only splice points. They are so short that a network which also learns the content
    between them does not learn them. There are two networks of each kind, so that two cores train them in parallel.

    Parameters
    ----------
    sample_rate : int
        Samples per second.
    """

    n_models = 2

    # Number of windows that each network of frames is trained on, counting repetitions.
    n_windows: ClassVar = {_SPLICE_NETWORK: 60_000, _CONTENT_NETWORK: 60_000}
    # Number of times that the networks of windows are trained on each window.
    n_epochs = 30
    # Highest learning rates of the networks of frames and of windows.
    lr, window_lr = 4e-3, 2e-3

    def __init__(self, sample_rate: int) -> None:
        self.statistics, self.networks = ClipStatistics(sample_rate), {}
        self.n_statistics = len(self.statistics.get_feature_names_out())

    def new_networks(self, labels: Sequence[str]) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {}
        if set(SPLICED_LABELS) & set(labels):
            networks[_SPLICE_NETWORK] = BoundaryNet(len(SPLICED_LABELS))
        networks[_CONTENT_NETWORK] = BoundaryNet(len(labels))
        n_features = self._n_tree_features(len(labels)) + N_EMBEDDING_POOLS * EMBEDDING_DIM * len(networks)
        return networks | {name: FeatureNet(n_features, len(labels)) for name in _WINDOW_NETWORKS}

    def fit(self, training_set: TrainingSet) -> np.ndarray:
        windows, held_out = training_set.windows, training_set.held_out
        X = compute_features(self.statistics, training_set)
        # On a GPU, parallel work would compete for the same device.
        n_jobs = training_set.n_jobs if training_set.options.device.type == "cpu" else 1
        frame_names = [name for name in self.new_networks(training_set.labels) if name in _FRAME_TASKS]
        self._train(_train_frames, frame_names, training_set, n_jobs)
        training_set.options.log_stage("scoring the frames of all windows")
        batches = ((slice(start, start + BATCH_SIZE),) for start in range(0, len(windows), BATCH_SIZE))
        pooled = np.concatenate(list(run_tasks(_pool_batch, batches, n_jobs, shared=(self, windows))))
        features = np.hstack([X, pooled])
        tree_features = features[:, : self._n_tree_features(len(training_set.labels))]
        self.trees = fit_trees(tree_features, training_set)
        self._train(_train_window_network, _WINDOW_NETWORKS, training_set, n_jobs, features)
        self._calibrate_frames(training_set)
        if not held_out.any():
            return training_set.no_logits(self.n_models)
        logits = self.trees.decision_function(tree_features[held_out]), self._window_logits(features[held_out])
        return np.stack(logits, axis=1)

    def predict(self, windows: Sequence[Window]) -> WindowOutputs:
        waveforms, lengths = stack_windows(windows)
        X = window_statistics(self.statistics, waveforms, lengths)
        local = self._overlapping_local_features([window.start for window in windows], waveforms, lengths)
        frames, embeddings = self._frame_outputs(local, lengths)
        features = np.hstack([X, self._pool(frames, embeddings, lengths)])
        tree_features = features[:, : self._n_tree_features(len(self.trees.baseline))]
        network_logits = self._window_logits(features)
        frame_rows = np.moveaxis(frames, 1, 2).reshape(-1, 1, frames.shape[1])
        calibrated = self.frame_fusion.logits(frame_rows).reshape(len(frames), -1, frames.shape[1])
        logits = np.stack([self.trees.decision_function(tree_features), network_logits], axis=1)
        return WindowOutputs(logits, np.hstack([tree_features, network_logits]), np.moveaxis(calibrated, 1, 2))

    @property
    def embedding_dim(self) -> int:
        n_labels = len(self.trees.baseline)
        return self._n_tree_features(n_labels) + n_labels

    def pooled(self, waveforms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the pooled scores and embeddings of the frames of windows, of shape (n_windows, n_pooled)."""
        return self._pool(*self._outputs(waveforms, lengths), lengths)

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

    @property
    def _frame_networks(self) -> SharedFrontEnd:
        networks: list[Any] = [self.networks[name] for name in _FRAME_TASKS if name in self.networks]
        return SharedFrontEnd(*networks)

    def _n_tree_features(self, n_labels: int) -> int:
        return self.n_statistics + pooled_size(len(SPLICED_LABELS) + n_labels)

    def _n_frames(self, lengths: np.ndarray) -> np.ndarray:
        network: Any = self.networks[_CONTENT_NETWORK]
        return network.frames(lengths)

    def _pool(self, frames: np.ndarray, embeddings: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return np.hstack([pool_frames(frames), pool_embeddings(embeddings, self._n_frames(lengths))])

    def _train(
        self,
        function: Callable[..., tuple[nn.Module, list[dict[str, Any]]]],
        names: Sequence[str],
        training_set: TrainingSet,
        n_jobs: int | None,
        *shared: Any,
    ) -> None:
        """Train the networks of these names, each in a process."""
        training_set.options.log_stage(f"training the networks {', '.join(names)}")
        results = run_tasks(function, ([name] for name in names), n_jobs, shared=(self, training_set, *shared))
        for name, (network, history) in zip(names, results, strict=True):
            self.networks[name] = network
            training_set.history.extend(history)
        self.to(training_set.options.device, training_set.options.precision)

    def _overlapping_local_features(
        self, starts: Sequence[int], waveforms: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """Return the local features of every frame, computed once for the frames that two windows share.

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
        float32 ndarray of shape (n_windows, n_channels, n_frames)
            The features. Frames that the window before contains are those of that window, except near its end.
        """
        hop_length = round(FRAME_SECONDS * self.statistics.sample_rate)
        scaled = scale_to_unit_rms(torch.from_numpy(waveforms), torch.from_numpy(lengths)).numpy()
        # The last window of a recording may start between two frames; the nearest is at most 5 ms away.
        shifts = np.append(0, np.round(np.diff(starts) / hop_length).astype(int))
        n_before = np.append(0, self._n_frames(lengths[:-1]))
        n_shared = np.maximum(n_before - shifts - CONTEXT_FRAMES, 0)
        local = None
        for count in np.unique(n_shared):
            rows, n_left_out = np.flatnonzero(n_shared == count), max(0, count - CONTEXT_FRAMES)
            first = n_left_out * hop_length
            part = self._local_features(scaled[rows, first:], lengths[rows] - first, is_scaled=True)
            if local is None:
                local = np.empty((len(starts), part.shape[1], n_left_out + part.shape[2]), part.dtype)
            local[rows, :, count:] = part[:, :, count - n_left_out :]
        assert local is not None
        for row in np.flatnonzero(n_shared):
            local[row, :, : n_shared[row]] = local[row - 1, :, shifts[row] : shifts[row] + n_shared[row]]
        return local

    def _local_features(self, waveforms: np.ndarray, lengths: np.ndarray, *, is_scaled: bool = False) -> np.ndarray:
        """Return the local features of every frame, of shape (n_windows, n_channels, n_frames)."""
        local = partial(self._frame_networks.local, is_scaled=is_scaled)
        return predict_in_batches(local, waveforms, lengths, self.device, self.precision)[0]

    @torch.no_grad()
    def _frame_outputs(self, local: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-odds of all maps in every frame, and the embeddings of the frames, from local features.

        Splice points without a network get `PAST_END_LOGIT`.
        """
        x, frames = (torch.from_numpy(values).to(self.device) for values in (local, self._n_frames(lengths)))
        with autocast(self.precision, self.device):
            logits, embeddings = (values.cpu().numpy() for values in self._frame_networks.outputs(x, frames))
        if _SPLICE_NETWORK not in self.networks:
            shape = (len(logits), len(SPLICED_LABELS), logits.shape[2])
            logits = np.concatenate([np.full(shape, PAST_END_LOGIT, np.float32), logits], axis=1)
        return logits, embeddings

    def _outputs(self, waveforms: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `_frame_outputs` of windows that share nothing."""
        return self._frame_outputs(self._local_features(waveforms, lengths), lengths)

    @torch.no_grad()
    def _window_logits(self, features: np.ndarray) -> np.ndarray:
        """Return the mean log-odds of the labels over the networks of windows."""
        x = torch.from_numpy(features).to(self.device)
        logits = [self.networks[name](x)[0] for name in _WINDOW_NETWORKS]
        return torch.stack(logits).mean(0).cpu().numpy()

    def _calibrate_frames(self, training_set: TrainingSet) -> None:
        """Calibrate the scores of frames, and set their thresholds, on the frames of some held-out windows."""
        windows = training_set.windows
        rows = np.flatnonzero(training_set.held_out)[:_N_CALIBRATION_WINDOWS]
        logits = targets = np.zeros((0, len(SPLICED_LABELS) + len(training_set.labels)))
        if len(rows):
            is_chosen = np.isin(np.arange(len(windows)), rows)
            maps = map_windows(windows, is_chosen, lambda waveforms, lengths, _: self._outputs(waveforms, lengths)[0])
            map_targets = np.asarray(windows.frames[rows])[:, :, : maps.shape[2]]
            logits, targets = (np.moveaxis(values, 1, 2).reshape(-1, maps.shape[1]) for values in (maps, map_targets))
        is_labelled = (targets != LABEL_UNKNOWN) & (logits > MIN_FRAME_LOGIT)
        is_positive = targets == 1
        self.frame_fusion = ScoreFusion.fit(logits[:, None], is_positive, is_labelled)
        proba = expit(self.frame_fusion.logits(logits[:, None]))
        # Few frames have splice points, so a lower bound on the thresholds would exclude them all.
        no_row = np.zeros(len(logits), bool)
        self.frame_thresholds = tune_thresholds(proba, is_positive, is_labelled, no_row, 1.0, min_threshold=0.0)


def _train_frames(model: HybridModel, training_set: TrainingSet, name: str) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train the network of frames of one name on the windows that are not held out."""
    options, task = training_set.options, _FRAME_TASKS[name]
    parts = [(training_set.windows, np.flatnonzero(~training_set.held_out))]
    if training_set.spliced_windows is not None and training_set.spliced_held_out is not None:
        parts.append((training_set.spliced_windows, np.flatnonzero(~training_set.spliced_held_out)))
    map_weights = [1.0] * len(SPLICED_LABELS) + frame_weights(training_set.labels)
    return train_network(
        lambda: model.new_networks(training_set.labels)[name],
        FrameRows(parts, task.maps, options.device),
        FrameLoss(task.positive_weight, map_weights[task.maps]),
        options,
        n_windows=round(training_set.budget * model.n_windows[name]),
        lr=training_set.lr or model.lr,
        seed=training_set.seed_for(name),
        stage=name,
    )


def _train_window_network(
    model: HybridModel, training_set: TrainingSet, features: np.ndarray, name: str
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train the network of windows of one name on the windows that are not held out."""
    rows = np.flatnonzero(~training_set.held_out)
    return train_network(
        lambda: model.new_networks(training_set.labels)[name],
        FeatureRows(features, training_set.windows.targets, rows, training_set.options.device),
        build_label_loss(training_set, ~training_set.held_out, max_weight=1.0),
        training_set.options,
        n_windows=round(training_set.budget * model.n_epochs * len(rows)),
        lr=training_set.lr or model.window_lr,
        seed=training_set.seed_for(name),
        stage=name,
    )


def _pool_batch(model: HybridModel, windows: WindowSet, rows: slice) -> np.ndarray:
    return model.pooled(windows.floats(rows), windows.lengths[rows])


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
        self.parts, self.device = [windows for windows, _ in parts], device
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
