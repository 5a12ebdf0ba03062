"""OPM: on-the-fly prediction modulation, which drops features of the modality with the leading scores."""

from __future__ import annotations

import torch

from .._utils.validation import check_number
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import fuse, score_ratios


class OPM(Balancer):
    """On-the-fly prediction modulation: a leading modality's features are dropped so that the others are trained.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import OPM
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=OPM(starts=0), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["drop_probability"].shape
    (2, 2)

    In every batch each modality's probability of the true class is compared with the other modalities'. The features of
    a modality that leads are left out of the fused prediction in some rows, the more rows the further it leads.

    Parameters
    ----------
    q_base : float, default=0.5
        Probability, from 0 to 1, that a row loses the features of a modality whose lead is close to zero.
    alpha : float, default=0.5
        Increase of that probability with the lead, at least 0. The probability reaches ``q_base * (1 + alpha)``, but
        at most 1.
    p_exe : float, default=0.7
        Probability, from 0 to 1, that features are dropped in a batch.
    starts : int, default=6
        First epoch in which features are dropped, counted from 0.

    See Also
    --------
    OGM : Slows the encoder of the leading modality instead.
    ModalityDropout : Drops features of all modalities with the same probability.

    Notes
    -----
    Let s_m be the sum over the batch of modality m's probabilities of the true class, from its part of the fused
    logits, and s_j the same sum of the other modality j::

        r_m = tanh(max(0, s_m / s_j - 1))
        q_m = min(1, q_base (1 + alpha r_m)) if r_m > 0 else 0
        z_m <- B_m z_m / (1 - theta),    B_m ~ Bernoulli(1 - q_m) in every row,
        theta = sum_m d_m q_m / sum_m d_m

    with features z_m of length d_m. A row that loses all its modalities is excluded from the batch's loss.

    The formula for two modalities is the paper's; the defaults are from the authors' code, whose ``lam`` is `alpha`.
    The following choices are ours. For more than two modalities s_j is the mean over the others. Sums are over the rows
    that have the modality and another one, by their weights. theta counts the modalities that a row has. A row with
    one modality keeps it unchanged. Unimodal heads, if there are any, receive all features.

    For each epoch `balance_history_` has ``drop_probability``, q_m, and ``ratio``, s_m / s_j, by modality in
    alphabetical order, and ``lost``, the fraction of rows that were excluded from the loss.

    References
    ----------
    Y. Wei, D. Hu, H. Du, J.-R. Wen. On-the-Fly Modulation for Balanced Multimodal Learning. IEEE
    Transactions on Pattern Analysis and Machine Intelligence, 2024.
    """

    unimodal = "split"

    def __init__(self, q_base: float = 0.5, *, alpha: float = 0.5, p_exe: float = 0.7, starts: int = 6) -> None:
        self.q_base = q_base
        self.alpha = alpha
        self.p_exe = p_exe
        self.starts = starts

    def begin(self, training: Training) -> None:
        check_number("q_base", self.q_base, high=1)
        check_number("alpha", self.alpha)
        check_number("p_exe", self.p_exe, high=1)
        check_number("starts", self.starts, integer=True)
        lengths = [[float(training.module.embedding_sizes[name])] for name in training.names]
        self._lengths = torch.tensor(lengths, device=training.device)
        self._total_length = sum(training.module.embedding_sizes.values())
        self._generators = training.generators("OPM")
        self._batch_generator = torch.Generator(training.device).manual_seed(training.context.seed_for("OPM"))

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        if training.epoch < self.starts:
            training.record("drop_probability", torch.zeros(len(training.names)))
            return training.joint_loss(outputs)
        batch = outputs.batch
        ratios = score_ratios(outputs)
        leads = torch.tanh((ratios - 1).clamp(min=0))
        q = (self.q_base * (1 + self.alpha * leads)).clamp(max=1) * (leads > 0)
        is_dropping_batch = torch.rand(1, generator=self._batch_generator, device=training.device) < self.p_exe
        probabilities = (q * is_dropping_batch).unsqueeze(1)
        draws = [torch.rand(batch.size, generator=g, device=training.device) for g in self._generators.values()]
        if batch.present:
            present = outputs.present
            # Per modality and row; a row's only modality is never dropped.
            probabilities = probabilities * (present & (present.sum(0) > 1))
            is_kept = present & (torch.stack(draws) >= probabilities)
            lengths = self._lengths * present
            theta = (lengths * probabilities).sum(0) / lengths.sum(0).clamp(min=1)
            in_loss = is_kept.any(0) | ~present.any(0)
        else:
            is_kept = torch.stack(draws) >= probabilities
            theta = (self._lengths * probabilities).sum(0) / self._total_length
            in_loss = is_kept.any(0)
        factors = is_kept / (1 - theta).clamp(min=1e-5)
        n_in_loss = in_loss.sum()
        training.record("drop_probability", q)
        training.record("ratio", ratios)
        training.record("lost", 1 - n_in_loss / batch.size)
        # The loss divides by the batch size; the factor makes it the mean over the rows in the loss.
        fused_batch = batch.reweighted(in_loss * (batch.size / n_in_loss.clamp(min=1)))
        outputs.logits = fuse(training, outputs, factors)
        return training.joint_loss(outputs, fused_batch)
