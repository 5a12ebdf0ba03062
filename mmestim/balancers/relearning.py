"""Re-learning: encoders that separate the classes only in training rows return towards their initial weights."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler

from .._data.batches import Rows
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Training
from ._scores import check_held_out

# Number of rows from which k-means by mini-batches is as good as, and much faster than, k-means on all rows.
_MIN_MINI_BATCH_ROWS = 10_000


class Relearning(Balancer):
    """Re-learning: encoders that cluster training rows better than validation rows return towards their initial state.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import Relearning
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=Relearning(interval=1), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["weight"].shape
    (2, 2)

    Every few epochs the features of each modality are clustered, separately for the training and the validation rows.
    The more the purities of the two clusterings differ, the further the modality's encoder returns.

    Parameters
    ----------
    interval : int, default=20
        Number of epochs between two returns, at least 1.
    max_times : int, default=3
        Maximum number of returns in a fit, at least 0. With 0 training is plain.
    strength : float, default=3.0
        Factor lambda of the gap in purity, at least 0. With 0 training is plain.

    Attributes
    ----------
    n_times_ : int
        Number of returns.
    gap_ : ndarray of shape (n_modalities,)
        Latest gaps in purity; 0 before the first measurement.

    Notes
    -----
    Before every H-th epoch, at most R times, each encoder becomes

    theta_m <- (1 - w_m) theta_m + w_m theta_m^init,  w_m = tanh(lambda * abs(purity_train - purity_valid)),

    where H is `interval` and R is `max_times`. The purity of a set of rows is the fraction of them that belong to the
    largest class of their cluster. There are as many clusters as classes, found by k-means on features that are scaled
    to [-1, 1] in the set [1]_. The validation rows are those that the classifier holds out for early stopping, which
    the method therefore requires. With few of them the purity is high by chance.

    An encoder returns before an epoch, not after one, so that early stopping retains weights that it has evaluated.
    Early stopping waits for the first return, and after each return for another `interval` epochs. As in the released
    code all weights of an encoder return, but not its buffers or the fusion head. The optimizer's state is unchanged:
    its momentum belongs to the old weights and decays within a few tens of steps. The following choices are ours. The
    first return is after `interval` epochs; in the code it is one epoch later. k-means has three starts with fixed
    seeds and uses mini-batches from 10 000 rows on. Each modality's purity is over the rows that have it.

    `balance_history_` has ``gap`` and ``weight``, the latest gaps and the w_m of the epoch, 0 where no encoder
    returned.

    References
    ----------
    .. [1] Y. Wei, S. Li, R. Feng and D. Hu, "Diagnosing and Re-learning for Balanced Multimodal
       Learning", ECCV 2024.
    """

    def __init__(self, interval: int = 20, max_times: int = 3, strength: float = 3.0) -> None:
        self.interval = interval
        self.max_times = max_times
        self.strength = strength

    def begin(self, training: Training) -> None:
        check_number("interval", self.interval, low=1, integer=True)
        check_number("max_times", self.max_times, integer=True)
        check_number("strength", self.strength)
        check_held_out(self, training)
        self._initial_weights = {
            name: [p.detach().clone() for p in parameters] for name, parameters in training.parameters.items()
        }
        self.n_times_ = 0
        # Early stopping waits until this epoch.
        self._min_stopping_epoch = self.interval if self.max_times and self.strength else 0
        self.gap_ = torch.zeros(len(training.names))

    def begin_epoch(self, training: Training) -> None:
        weights = torch.zeros_like(self.gap_)
        if training.epoch > 0 and training.epoch % self.interval == 0 and self.n_times_ < self.max_times:
            self.n_times_ += 1
            train_purities, valid_purities = (
                self._purities(training, rows) for rows in (training.rows, training.valid)
            )
            self.gap_ = torch.from_numpy(np.abs(train_purities - valid_purities)).float()
            weights = torch.tanh(self.strength * self.gap_)
            for name, weight in zip(training.names, weights.tolist(), strict=True):
                parameters = training.parameters[name]
                if parameters:
                    with torch.no_grad():
                        torch._foreach_lerp_(parameters, self._initial_weights[name], weight)
            if weights.any():
                self._min_stopping_epoch = training.epoch + self.interval
        if (remaining_epochs := self._min_stopping_epoch - training.epoch) > 0:
            training.net.defer_early_stopping(remaining_epochs)
        training.record("gap", self.gap_)
        training.record("weight", weights)

    def _purities(self, training: Training, rows: Rows) -> np.ndarray:
        """Return the purity of each modality's features over the rows that have it."""
        features: dict[str, list[np.ndarray]] = {name: [] for name in training.names}
        classes: dict[str, list[np.ndarray]] = {name: [] for name in training.names}
        for outputs in training.evaluate(rows):
            for name, batch_features in outputs.features.items():
                modality_batch = outputs.batch.with_modality(name)
                positions = slice(None) if modality_batch is outputs.batch else outputs.batch.present[name]
                features[name].append(batch_features[positions].cpu().numpy())
                classes[name].append(modality_batch.y.cpu().numpy())
        return np.array(
            [
                purity(np.concatenate(features[name]), np.concatenate(classes[name]), training.n_classes)
                for name in training.names
            ]
        )


def purity(features: np.ndarray, classes: np.ndarray, n_classes: int) -> float:
    """Return the fraction of the rows that belong to the largest class of their cluster."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # takes as long to import as the package

    method = KMeans if len(features) < _MIN_MINI_BATCH_ROWS else MiniBatchKMeans
    k_means = method(n_clusters=min(n_classes, len(features)), n_init=3, random_state=0)
    with warnings.catch_warnings():
        # There may be fewer distinct points than clusters, for example if an encoder's output is constant.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = k_means.fit_predict(MinMaxScaler((-1, 1)).fit_transform(features))
    counts = np.zeros((labels.max() + 1, n_classes))
    np.add.at(counts, (labels, classes), 1)
    return counts.max(axis=1).sum() / len(features)
