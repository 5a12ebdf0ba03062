"""PMR: class prototypes that speed up slow modalities and hold the fastest one back in the first epochs."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from .._data.batches import Rows
from .._utils.validation import check_choice, check_number
from ._base import Balancer
from ._joint_training import Outputs, Training

# Similarity to a class without a prototype: probability zero, but finite, because infinity times zero is NaN.
_NO_PROTOTYPE = -1e9


class PMR(Balancer):
    """Prototypical modal rebalance: slow modalities get an extra loss on distances to class prototypes.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import PMR
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=PMR(alpha=2.0), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balancers_[0].prototypes_["pixels"].shape
    (10, 64)

    Before each epoch the mean feature of every class is computed for each modality. A modality is slow if its features
    are less close to the prototype of their own class than another modality's. Slow modalities get the cross-entropy
    of these distances as an extra loss. In the first epochs the fastest modality is kept from becoming too confident.

    Parameters
    ----------
    alpha : float, default=1.0
        Weight of the losses of slow modalities, at least 0; the paper uses 1 or 2.
    mu : float, default=0.01
        Weight of the entropy of the fastest modality, at least 0; the paper uses 0.01 or 0.001. With
        `alpha` and `mu` at 0 training is plain.
    entropy_epochs : int, default=10
        Number of epochs, from the first on, in which the entropy term is used. The default is ours.
    rule : {'soft', 'hard'}, default='soft'
        Weight of a slow modality: by how far it is behind, as in the paper, or 0 or 1, as in the released code.
    momentum : float, default=0.2
        Fraction of the old prototypes in the new ones, from 0 to 1; the default is the released code's.
    fraction : float, default=0.1
        Fraction of the training rows of each class that the means are computed from, above 0 and at most 1; at least
        one row per class.

    Attributes
    ----------
    prototypes_ : dict of str to ndarray of shape (n_classes, embedding_dim)
        Mean features of the classes in each modality, zeros for a class that never had a prototype.
    known_ : ndarray of shape (n_modalities, n_classes)
        Mask of the classes that have a prototype, modalities sorted by name.

    See Also
    --------
    mmestim.JointClassifier : Classifier that takes this as `balancer`.

    Notes
    -----
    Take the softmax of negative Euclidean distances to the prototypes as probabilities. In a batch, let t_m be modality
    m's mean probability of the true class, PCE_m its cross-entropy and H_m its mean entropy. The loss is

        CE + alpha * sum_m w_m PCE_m - mu * v_f H_f  (the last term for `entropy_epochs`)

    with w_m = clip(max_j t_j / t_m - 1, 0, 1), or 1 for every m with t_m < max_j t_j if `rule` is ``'hard'``. f is the
    fastest modality and v_f the largest w. For two modalities this is the paper's loss, with its beta and gamma, and
    the released code's rule; that code has no entropy term. The following choices are ours. There may be more than two
    modalities. The drawn rows contain every class in proportion. t_m is over rows that have the modality and another
    one. Rows whose class has no prototype in a modality are left out of its t_m and PCE_m. Means use the rows' weights.

    `balance_history_` has ``score`` (t_m), ``weight`` (w_m) and ``entropy_weight`` (v_f, 0 for the other modalities).

    References
    ----------
    Yunfeng Fan, Wenchao Xu, Haozhao Wang, Junxiao Wang, Song Guo. PMR: Prototypical Modal Rebalance for
    Multimodal Learning. CVPR 2023.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        mu: float = 0.01,
        entropy_epochs: int = 10,
        rule: Literal["soft", "hard"] = "soft",
        momentum: float = 0.2,
        fraction: float = 0.1,
    ) -> None:
        self.alpha = alpha
        self.mu = mu
        self.entropy_epochs = entropy_epochs
        self.rule = rule
        self.momentum = momentum
        self.fraction = fraction

    def begin(self, training: Training) -> None:
        check_number("alpha", self.alpha)
        check_number("mu", self.mu)
        check_number("entropy_epochs", self.entropy_epochs, integer=True)
        check_choice("rule", self.rule, ("soft", "hard"))
        check_number("momentum", self.momentum, high=1)
        check_number("fraction", self.fraction, high=1, closed=False)
        sizes, n_classes = training.module.embedding_sizes, training.n_classes
        self.prototypes_ = {
            name: torch.zeros(n_classes, sizes[name], device=training.device) for name in training.names
        }
        self.known_ = torch.zeros(len(training.names), n_classes, dtype=torch.bool, device=training.device)
        self._random = np.random.default_rng(training.context.seed_for("PMR", "prototypes"))

    def begin_epoch(self, training: Training) -> None:
        sums = {name: torch.zeros_like(prototypes) for name, prototypes in self.prototypes_.items()}
        counts = torch.zeros(self.known_.shape, device=training.device)
        for outputs in training.evaluate(training.rows.subset(self._draw(training.rows))):
            batch = outputs.batch
            # A matrix product, because the order of summation of index_add_ varies on a GPU.
            membership = F.one_hot(batch.y, training.n_classes).float()
            if batch.weight is not None:
                membership = membership * batch.weight.unsqueeze(1)
            for name, features in outputs.features.items():
                sums[name] += membership.T @ features
            counts += outputs.present.float() @ membership
        has_rows = counts > 0
        momentum = torch.where(has_rows, torch.where(self.known_, self.momentum, 0.0), 1.0).unsqueeze(2)
        for m, (name, old) in enumerate(self.prototypes_.items()):
            new = sums[name] / torch.where(has_rows[m], counts[m], 1.0).unsqueeze(1)
            self.prototypes_[name] = momentum[m] * old + (1 - momentum[m]) * new
        self.known_ = self.known_ | has_rows

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        y = outputs.batch.y
        distances = torch.cdist(
            _stack_padded(list(outputs.features.values())),
            _stack_padded(list(self.prototypes_.values())),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        log_proba = (-distances).masked_fill(~self.known_.unsqueeze(1), _NO_PROTOTYPE).log_softmax(2)
        cross_entropies = -log_proba.gather(2, y.expand(len(log_proba), -1).unsqueeze(2)).squeeze(2)
        present, has_prototype = outputs.present, self.known_[:, y]
        shared = has_prototype
        if outputs.batch.present:
            has_prototype = has_prototype & present
            shared = has_prototype & (present.sum(0) > 1)
        row_weights = outputs.batch.weight
        weights = shared if row_weights is None else shared * row_weights
        is_compared = shared.any(1)
        proba_sums = (cross_entropies.detach().neg().exp() * weights).sum(1)
        scores = proba_sums / torch.where(is_compared, weights.sum(1), 1.0)
        slow, fast = self._weights(scores, is_compared)
        training.record("score", scores)
        training.record("weight", slow)

        # The weight of each row's loss: that of the modality in the mean over the rows that have a prototype.
        slow_terms = (self.alpha * slow / has_prototype.sum(1).clamp(min=1)).unsqueeze(1) * has_prototype
        loss = training.joint_loss(outputs) + _weighted_sum(slow_terms, cross_entropies, row_weights)
        if training.epoch < self.entropy_epochs:
            training.record("entropy_weight", fast)
            fast_terms = (self.mu * fast / present.sum(1).clamp(min=1)).unsqueeze(1) * present
            loss = loss + _weighted_sum(fast_terms, (log_proba.exp() * log_proba).sum(2), row_weights)
        else:
            training.record("entropy_weight", torch.zeros_like(fast))
        return loss

    def _weights(self, scores: torch.Tensor, is_compared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weights of the slow modalities' losses and of the fastest modality's entropy.

        Modalities outside the mask `is_compared` are neither slow nor fast.
        """
        best = torch.where(is_compared, scores, 0.0).max()
        if self.rule == "soft":
            slow = (best / scores.clamp(min=torch.finfo(scores.dtype).tiny) - 1).clamp(0, 1)
        else:
            slow = (scores < best).float()
        slow = torch.where(is_compared, slow, 0.0)
        return slow, torch.where(is_compared & (scores == best), slow.max(), 0.0)

    def _draw(self, rows: Rows) -> np.ndarray:
        """Draw a random fraction of the rows of each class."""
        shuffled = self._random.permutation(rows.rows.numpy())
        y = rows.y.cpu().numpy()[shuffled]
        by_class = np.argsort(y, kind="stable")  # stable sorting keeps the random order within a class
        counts = np.bincount(y)
        rank = np.arange(len(y)) - np.repeat(counts.cumsum() - counts, counts)
        return shuffled[by_class[rank < np.repeat(np.ceil(self.fraction * counts), counts)]]


def _stack_padded(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Stack matrices, with zeros to the width of the widest, which leave Euclidean distances unchanged."""
    width = max(x.shape[1] for x in tensors)
    return torch.stack([x if x.shape[1] == width else F.pad(x, (0, width - x.shape[1])) for x in tensors])


def _weighted_sum(terms: torch.Tensor, values: torch.Tensor, row_weights: torch.Tensor | None) -> torch.Tensor:
    """Return the sum of the values times their weights."""
    return (terms * values if row_weights is None else terms * values * row_weights).sum()
