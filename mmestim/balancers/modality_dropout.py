"""Modality dropout: whole modalities are dropped at random."""

from __future__ import annotations

import torch

from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import fuse


class ModalityDropout(Balancer):
    """Modality dropout: features of whole modalities set to zero at random, row by row.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import ModalityDropout
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=ModalityDropout(0.2), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["dropped"].shape
    (2, 2)

    The fused prediction receives each row with some of its modalities, at least one. The network thus learns to use
    each modality and to do without it. All modalities are dropped with the same probability, whichever leads.

    Parameters
    ----------
    p : float, default=0.3
        Probability, from 0 to 1, that a row loses a modality. With 1 every row keeps a single modality.

    See Also
    --------
    OPM : Drops the leading modality.

    Notes
    -----
    For every modality that it has, each row draws a number u_m, uniform in [0, 1). It keeps the modality if u_m is at
    least p or is the row's highest number. No row therefore loses all its modalities; a row that would keeps each of
    them with equal probability. Of n modalities a row loses each with probability p - p^n / n.

    Dropping modalities at random is ModDrop. The following choices are ours: the treatment of a row that would lose
    all modalities, the default of p, and dropping features instead of inputs. The remaining features are not scaled
    up, because the prediction for a row that lacks a modality does not scale them either. Unimodal heads, if there are
    any, receive all features.

    For each epoch `balance_history_` has ``dropped``, the fraction of the rows with a modality that lost it, by
    modality in alphabetical order.

    References
    ----------
    N. Neverova, C. Wolf, G. Taylor, F. Nebout. ModDrop: Adaptive Multi-modal Gesture Recognition. IEEE
    Transactions on Pattern Analysis and Machine Intelligence 38(8), 2016.
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
        is_kept = present & ((u >= self.p) | (u == u.amax(0)))
        training.record("dropped", (present & ~is_kept).sum(1) / present.sum(1).clamp(min=1))
        outputs.logits = fuse(training, outputs, is_kept)
        return training.joint_loss(outputs)
