"""Gradient blending: losses weighted by how each modality overfits and generalises on its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from .._data.batches import Rows
from .._training.evaluation import evaluate
from .._training.loop import train
from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import check_held_out


class GradientBlending(Balancer):
    """Gradient blending: unimodal and joint losses weighted by overfitting and generalisation.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import GradientBlending
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=GradientBlending(1), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["weights"].shape
    (2, 3)

    A branch is either one modality under its own head, or all modalities under the joint head. Each branch is trained
    by itself for a few epochs on a copy of the network. Branches that then generalise more than they overfit get
    larger weights.

    Parameters
    ----------
    n_epochs : int, default=10
        Number of epochs that each branch trains in a measurement, at least 1.
    super_epoch : int or None, default=None
        Number of epochs after which the weights are measured again from the current network, at least 1 (online
        blending). None measures once, before the first epoch (offline blending).
    eps : float, default=1e-3
        Value added to the squared overfitting, in squared nats, above 0. It keeps a branch that happens not to overfit
        from taking all the weight.

    Attributes
    ----------
    weights_ : ndarray of shape (n_modalities + 1,)
        Latest weights of the losses: the modalities by name, then the joint head.
    generalisation_, overfitting_ : ndarray of shape (n_modalities + 1,)
        G and O of each branch, from which these weights were computed.

    Notes
    -----
    With mean losses L_t on the training rows and L_v on the validation rows, before and after n epochs, branch k has

    G_k = Lv_before - Lv_after,  O_k = (Lv - Lt)_after - (Lv - Lt)_before,

    and the network minimises sum_k w_k CE_k. The weights w_k are proportional to abs(G_k) / (O_k^2 + eps) and sum to 1
    [1]_. The validation rows are those that the classifier holds out for early stopping, which the method therefore
    requires. Released implementations subtract sums over sets of different sizes; here the losses are means.

    The following choices are ours. `eps` is added because an O near 0 by chance starved the joint head in trials. The
    formula is the same for any number of modalities, each measured on the rows that have it. The copies start with a
    fresh optimizer at the current learning rate; they leave the network, its optimizer and its random numbers
    unchanged. In the paper a measurement lasts as long as its weights are used: to match it, set `n_epochs` to
    `max_epochs` offline, and to `super_epoch` online. A measurement takes twice the time of as many epochs of training,
    for any number of modalities. The classifier's ``unimodal_weight``, if set, multiplies the modalities' weights in
    the loss.

    A branch that hardly overfits takes nearly all the weight. If it is not the joint branch, the fused head learns
    slowly, and early stopping may end the training too early; a larger `eps` makes the weights more even.

    `balance_history_` has ``weights``, ``generalisation`` and ``overfitting`` as used in each epoch. `history_` has
    the epochs of the copies as stage ``blending``, with modality None for the joint branch.

    References
    ----------
    .. [1] W. Wang, D. Tran and M. Feiszli, "What Makes Training Multi-Modal Classification Networks
       Hard?", CVPR 2020.
    """

    unimodal = "heads"

    def __init__(self, n_epochs: int = 10, super_epoch: int | None = None, eps: float = 1e-3) -> None:
        self.n_epochs = n_epochs
        self.super_epoch = super_epoch
        self.eps = eps

    def begin(self, training: Training) -> None:
        check_number("n_epochs", self.n_epochs, low=1, integer=True)
        if self.super_epoch is not None:
            check_number("super_epoch", self.super_epoch, low=1, integer=True)
        check_number("eps", self.eps, closed=False)
        check_held_out(self, training)

    def begin_epoch(self, training: Training) -> None:
        if training.epoch == 0 or (self.super_epoch is not None and training.epoch % self.super_epoch == 0):
            gains, excesses = measured = np.array(list(self._measure(training))).T
            weights = blending_weights(gains, excesses, self.eps)
            self.weights_ = torch.tensor(weights, dtype=torch.float32, device=training.device)
            self.generalisation_, self.overfitting_ = torch.from_numpy(measured)
        training.record("weights", self.weights_)
        training.record("generalisation", self.generalisation_)
        training.record("overfitting", self.overfitting_)

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        batch = outputs.batch
        losses = []
        for name, logits in outputs.unimodal.items():
            losses.append(training.unimodal_weight * unimodal_cross_entropy(logits, batch, name))
        return (self.weights_ * torch.stack([*losses, weighted_cross_entropy(outputs.logits, batch)])).sum()

    def _measure(self, training: Training) -> Iterator[tuple[float, float]]:
        """Yield the generalisation and the overfitting of each branch, the joint branch last."""
        context = training.context
        # Every branch must train for the same number of epochs, without early stopping or the user's callbacks.
        options = replace(
            context.options,
            **training.net.current_lr(),
            lr_schedule=None,
            max_epochs=self.n_epochs,
            early_stopping=False,
            callbacks=[],
            verbose=0,
            compile=False,
        )
        branches: list[tuple[nn.Module, Rows, Rows, str | None]] = [
            (training.module.branch(name), training.rows.with_modality(name), training.valid.with_modality(name), name)
            for name in training.names
        ]
        for original, rows, valid, name in [*branches, (training.module, training.rows, training.valid, None)]:
            branch = copy.deepcopy(original)
            train_before, valid_before = (evaluate(branch, part, options)[0] for part in (rows, valid))
            run = train(
                branch,
                rows,
                valid,
                options,
                n_classes=training.n_classes,
                stage="blending",
                modality=name,
                seed=context.seed_for(*([] if name is None else [name]), "blending", str(training.epoch)),
            )
            training.history += run.history
            if run.interrupted:
                raise KeyboardInterrupt
            train_after, valid_after = (evaluate(branch, part, options)[0] for part in (rows, valid))
            yield valid_before - valid_after, (valid_after - train_after) - (valid_before - train_before)


def blending_weights(gains: np.ndarray, excesses: np.ndarray, eps: float) -> np.ndarray:
    """Return weights of sum 1 proportional to each branch's gain over its squared overfitting; equal if none gains."""
    ratios = np.abs(gains) / (excesses**2 + eps)
    total = ratios.sum()
    return ratios / total if total > 0 else np.full(len(ratios), 1 / len(ratios))
