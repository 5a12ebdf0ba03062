"""Re-learning: encoders whose features separate the classes only in training go back towards their start."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler

from .._data.batches import Rows
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Training
from ._scores import check_held_out

# From here on k-means by mini-batches is as good, and much faster.
_MANY_ROWS = 10_000


class Relearning(Balancer):
    """Encoders moved back towards their initial weights, by how much better they cluster training rows.

    Every few epochs the features of each modality are clustered, in the training rows and in the
    validation rows; the more the purities of the two differ, the further its encoder goes back.

    Parameters
    ----------
    interval : int, default=20
        Epochs between two returns, at least 1.
    max_times : int, default=3
        Most returns of a fit, at least 0; with 0 training is plain.
    strength : float, default=3.0
        Factor lambda of the gap in purity, at least 0; with 0 training is plain.

    Attributes
    ----------
    n_times_ : int
        Number of returns that were made.
    gap_ : ndarray of shape (n_modalities,)
        Latest gaps in purity; 0 before the first measurement.

    Notes
    -----
    Before every H-th epoch, at most R times, each encoder becomes

    theta_m <- (1 - w_m) theta_m + w_m theta_m^init,  w_m = tanh(lambda * abs(purity_train - purity_valid)),

    where the purity of a set of rows is the share of those that belong to the largest class of their
    cluster; there are as many clusters as classes, by k-means on features scaled to [-1, 1] in the
    set [1]_. The validation rows are those that the classifier holds out for early stopping, which it
    therefore needs; few of them make a high purity by chance.

    The return comes before an epoch, not after one, so that early stopping keeps weights that it has
    judged; it waits for the first return, and after each `interval` epochs more. As in the released code
    all weights of an encoder go back, its buffers and the fusion head do not, and the optimizer's state
    stays: its
    momentum is of the old weights and dies out within a few tens of steps. Ours are the counts of epochs
    (the code's first return comes one later), k-means of three starts with fixed seeds, by mini-batches
    from 10 000 rows on, and the rows: each modality's purity is that of the rows that have it.

    `balance_history_` has ``gap`` and ``weight``, the latest gaps and the w_m of the epoch, 0 where
    nothing went back.

    References
    ----------
    .. [1] Y. Wei, S. Li, R. Feng and D. Hu, "Diagnosing and Re-learning for Balanced Multimodal
       Learning", ECCV 2024.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import Relearning
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=Relearning(interval=1), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["weight"].shape
    (2, 2)
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
        self._until = self.interval if self.max_times and self.strength else 0  # early stopping waits
        self.gap_ = torch.zeros(len(training.names))

    def begin_epoch(self, training: Training) -> None:
        weights = torch.zeros_like(self.gap_)
        if training.epoch > 0 and training.epoch % self.interval == 0 and self.n_times_ < self.max_times:
            self.n_times_ += 1
            trained, held_out = (self._purities(training, rows) for rows in (training.rows, training.valid))
            self.gap_ = torch.from_numpy(np.abs(trained - held_out)).float()
            weights = torch.tanh(self.strength * self.gap_)
            for name, weight in zip(training.names, weights.tolist(), strict=True):
                parameters = training.parameters[name]
                if parameters:
                    with torch.no_grad():
                        torch._foreach_lerp_(parameters, self._initial_weights[name], weight)
            if weights.any():
                self._until = training.epoch + self.interval
        if (left := self._until - training.epoch) > 0:
            training.net.restart_stopping(left)
        training.record("gap", self.gap_)
        training.record("weight", weights)

    def _purities(self, training: Training, rows: Rows) -> np.ndarray:
        """Purity of each modality's features, in the rows that have it."""
        features: dict[str, list[np.ndarray]] = {name: [] for name in training.names}
        classes: dict[str, list[np.ndarray]] = {name: [] for name in training.names}
        for outputs in training.evaluate(rows):
            for name, f in outputs.features.items():
                having = outputs.batch.with_modality(name)
                at = slice(None) if having is outputs.batch else outputs.batch.present[name]
                features[name].append(f[at].cpu().numpy())
                classes[name].append(having.y.cpu().numpy())
        return np.array(
            [
                purity(np.concatenate(features[name]), np.concatenate(classes[name]), training.n_classes)
                for name in training.names
            ]
        )


def purity(features: np.ndarray, classes: np.ndarray, n_classes: int) -> float:
    """Share of the rows that are of the largest class in their cluster."""
    method = KMeans if len(features) < _MANY_ROWS else MiniBatchKMeans
    clusters = method(n_clusters=min(n_classes, len(features)), n_init=3, random_state=0)
    with warnings.catch_warnings():
        # Rows may fall into fewer points than there are clusters, as where an encoder gives nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = clusters.fit_predict(MinMaxScaler((-1, 1)).fit_transform(features))
    counts = np.zeros((labels.max() + 1, n_classes))
    np.add.at(counts, (labels, classes), 1)
    return counts.max(axis=1).sum() / len(features)
