"""PMR: class prototypes that hurry the slow modality and hold the fast one back early on."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .._utils.validation import check_choice, check_number
from ._base import Balancer
from ._joint_training import Outputs, Training

# Similarity to a class that has no prototype: no chance, and finite, so that nothing times zero is NaN.
_NONE = -1e9


class PMR(Balancer):
    """Prototypical modal rebalance: a loss on distances to class means for the modality that lags behind.

    Before each epoch the mean feature of every class is taken for each modality. How well features fall
    near the mean of their own class tells slow modalities from fast ones: slow ones get the cross-entropy
    of these distances as an extra loss, and early on the fast one is kept from being too sure by them.

    Parameters
    ----------
    alpha : float, default=1.0
        Weight of the losses of slow modalities, at least 0; the paper takes 1 or 2.
    mu : float, default=0.01
        Weight of the entropy of the fast modality, at least 0; the paper takes 0.01 or 0.001. With
        `alpha` and `mu` at 0 training is plain joint training.
    entropy_epochs : int, default=10
        Number of epochs, from the first on, in which that entropy counts. The default is ours.
    rule : {'soft', 'hard'}, default='soft'
        How much a slow modality needs: the paper's, by how far it is behind; or all or nothing, as in
        the released code.
    momentum : float, default=0.2
        Share of the old prototypes in the new ones, from 0 to 1; the default is the released code's.
    fraction : float, default=0.1
        Share of the training rows of each class, above 0 and at most 1, to take the means of; at least one.

    Attributes
    ----------
    prototypes_ : dict of str to ndarray of shape (n_classes, embedding_dim)
        Mean features of the classes in each modality, zeros for a class that never had one.
    known_ : ndarray of shape (n_modalities, n_classes)
        Which classes have a prototype, modalities sorted by name.

    See Also
    --------
    mmestim.JointClassifier : Takes it as `balancer`.

    Notes
    -----
    With the softmax of negative Euclidean distances to the prototypes let t_m be modality m's mean
    probability of the true class in a batch, PCE_m its cross-entropy and H_m its mean entropy. The loss is

        CE + alpha * sum_m w_m PCE_m - mu * v_f H_f  (the last for `entropy_epochs`)

    with w_m = clip(max_j t_j / t_m - 1, 0, 1), or 1 for every m with t_m < max_j t_j if `rule` is
    ``'hard'``; f is the fastest modality and v_f the largest w. For two modalities this is the paper's
    loss, with its beta and gamma, and the released code's rule; that code has no entropy term. The
    extension to more modalities is ours, and so are these: the drawn rows have every class in proportion;
    t_m is over rows that have the modality and another; rows whose class has no prototype in a modality
    take no part in its t_m and PCE_m; means are weighted as the rows are.

    `balance_history_` has ``score`` (t_m), ``weight`` (w_m) and ``entropy_weight`` (v_f, 0 for the others).

    References
    ----------
    Yunfeng Fan, Wenchao Xu, Haozhao Wang, Junxiao Wang, Song Guo. PMR: Prototypical Modal Rebalance for
    Multimodal Learning. CVPR 2023.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import PMR
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=PMR(alpha=2.0), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balancer_.prototypes_["pixels"].shape
    (10, 64)
    """

    def __init__(
        self,
        alpha: float = 1.0,
        mu: float = 0.01,
        entropy_epochs: int = 10,
        rule: str = "soft",
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
            # A product rather than index_add_, whose order of summation varies on a GPU.
            membership = F.one_hot(batch.y, training.n_classes).float()
            if batch.weight is not None:
                membership = membership * batch.weight.unsqueeze(1)
            for name, features in outputs.features.items():
                sums[name] += membership.T @ features
            counts += outputs.present.float() @ membership
        seen = counts > 0
        keep = torch.where(seen, torch.where(self.known_, self.momentum, 0.0), 1.0).unsqueeze(2)
        for m, (name, old) in enumerate(self.prototypes_.items()):
            new = sums[name] / torch.where(seen[m], counts[m], 1.0).unsqueeze(1)
            self.prototypes_[name] = keep[m] * old + (1 - keep[m]) * new
        self.known_ = self.known_ | seen

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        y, present = outputs.batch.y, outputs.present
        distances = [
            torch.cdist(features, self.prototypes_[name], compute_mode="donot_use_mm_for_euclid_dist")
            for name, features in outputs.features.items()
        ]
        similarities = -torch.stack(distances)
        log_shares = similarities.masked_fill(~self.known_.unsqueeze(1), _NONE).log_softmax(2)
        costs = -log_shares.gather(2, y.expand(len(present), -1).unsqueeze(2)).squeeze(2)
        entropies = -(log_shares.exp() * log_shares).sum(2)
        counted = present & self.known_[:, y]

        shared = counted & (present.sum(0) > 1)
        weight = torch.ones_like(costs[0]) if outputs.batch.weight is None else outputs.batch.weight
        heard = shared * weight
        scores = (costs.detach().neg().exp() * heard).sum(1) / torch.where(shared.any(1), heard.sum(1), 1.0)
        slow, fast = self._weights(scores, shared.any(1))
        if training.epoch >= self.entropy_epochs:
            fast = torch.zeros_like(fast)
        training.record("score", scores)
        training.record("weight", slow)
        training.record("entropy_weight", fast)

        hurry = self.alpha * (slow * _means(costs * weight, counted)).sum()
        hold = self.mu * (fast * _means(entropies * weight, present)).sum()
        return training.joint_loss(outputs) + hurry - hold

    def _weights(self, scores, heard):
        """Weights of the losses of slow modalities and of the entropy of the fastest, of those that are `heard`."""
        best = torch.where(heard, scores, 0.0).max()
        if self.rule == "soft":
            slow = (best / scores.clamp(min=torch.finfo(scores.dtype).tiny) - 1).clamp(0, 1)
        else:
            slow = (scores < best).float()
        slow = torch.where(heard, slow, 0.0)
        return slow, torch.where(heard & (scores == best), slow.max(), 0.0)

    def _draw(self, rows):
        """Some rows of each class, at random."""
        numbers = self._random.permutation(rows.rows.numpy())
        y = rows.y.cpu().numpy()[numbers]
        by_class = np.argsort(y, kind="stable")  # shuffled within a class
        counts = np.bincount(y)
        rank = np.arange(len(y)) - np.repeat(counts.cumsum() - counts, counts)
        return numbers[by_class[rank < np.repeat(np.ceil(self.fraction * counts), counts)]]


def _means(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of each row of values where the mask is set; 0 where it nowhere is."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)
