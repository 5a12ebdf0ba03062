"""Modality dropout: every modality is absent at times, so that the others have to do without it."""

from __future__ import annotations

import torch

from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import fuse


class ModalityDropout(Balancer):
    """Features of whole modalities set to zero at random, row by row.

    The fused prediction sees each row with some of its modalities, at least one, and so learns to use each
    of them and to do without it. All modalities are dropped alike, whichever leads.

    Parameters
    ----------
    p : float, default=0.3
        Probability, from 0 to 1, that a row loses a modality; with 1 every row is left with a single one.

    See Also
    --------
    OPM : Drops the modality that leads.

    Notes
    -----
    Each row draws a number u_m, uniform in [0, 1), for every modality that it has, and keeps the modality if
    u_m is at least p or is the row's highest; so no row loses all, and one that would have keeps any of
    them with equal chances. Of n modalities a row loses each with probability p - p^n / n.

    Dropping modalities at random is ModDrop; what happens to a row that would lose all of them, the default
    of p, and dropping features rather than inputs are ours. Features that are left are not scaled up, for a
    row that lacks a modality is predicted by plain ones, too. Heads of single modalities, if there are any,
    see all features.

    Over the epochs `balance_history_` has ``dropped``, the fraction of the rows with a modality that lost
    it, by modality in alphabetical order.

    References
    ----------
    N. Neverova, C. Wolf, G. Taylor, F. Nebout. ModDrop: Adaptive Multi-modal Gesture Recognition. IEEE
    Transactions on Pattern Analysis and Machine Intelligence 38(8), 2016.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import ModalityDropout
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=ModalityDropout(0.2), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["dropped"].shape
    (2, 2)
    """

    def __init__(self, p: float = 0.3) -> None:
        self.p = p

    def begin(self, training: Training) -> None:
        check_number("p", self.p, high=1)
        self._generators = training.generators("ModalityDropout")

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        batch, present = outputs.batch, outputs.present
        draws = [torch.rand(batch.size, generator=g, device=training.device) for g in self._generators.values()]
        u = torch.where(present, torch.stack(draws), -1.0)
        kept = present & ((u >= self.p) | (u == u.amax(0)))
        training.record("dropped", (present & ~kept).sum(1) / present.sum(1).clamp(min=1))
        logits = fuse(training, outputs, kept)
        return training.joint_loss(Outputs(training, batch, (logits, outputs.features)))
