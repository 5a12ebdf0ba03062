"""Sample-level valuation: rows are repeated for the modalities that contribute little to them."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F

from .._training.losses import weighted_cross_entropy
from .._utils.validation import check_choice, check_number
from ._base import Balancer
from ._joint_training import Outputs, Training

# A contribution gets one more copy for each of these thresholds that it is below.
_THRESHOLDS = (1.0, 0.4, -0.1)


class Valuation(Balancer):
    """Sample-level valuation: a modality that contributes little to a row gets copies of it without other modalities.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import Valuation
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=Valuation(warmup=1), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balancers_[0].contributions_.shape
    (2, 1797)

    Before each epoch after the warm-up, Shapley values measure the contribution of each modality to the correct
    prediction of each training row. A modality that contributes little is trained on further copies of the
    row, without the other modalities.

    Parameters
    ----------
    level : {'sample', 'modality'}, default='sample'
        Whether the copies depend on the contribution to each row, or on the mean contribution, for rows drawn at
        random.
    warmup : int, default=5
        Number of epochs of plain training, at least 0.
    alpha : float, default=1.0
        Factor of the fraction of rows that are copied, at least 0, for ``level='modality'``. With 0 training is plain.
    fraction : float, default=0.2
        Fraction of the rows in the mean contribution, above 0 and at most 1, for ``level='modality'``.

    Attributes
    ----------
    contributions_ : ndarray of shape (n_modalities, n_samples)
        Latest contributions to the rows of X. NaN in rows that are not training rows, or that lack the modality or all
        other ones.
    copies_ : ndarray of shape (n_modalities, n_samples)
        Latest number of copies of each row of X for each modality.

    Notes
    -----
    The value v(S) of a set S of s modalities is s if the prediction from its features, with the others zero, is
    correct, and otherwise 0. With M modalities, the contribution of modality m to a row is its Shapley value

    phi_m = sum_S s! (M - s - 1)! / M! (v(S + m) - v(S)) over the sets S without m,

    computed exactly, in eval mode. With two modalities it is one of -0.5, 0, 0.5, 1 and 1.5. With ``level='sample'`` a
    row gets three copies for m if phi_m < -0.1, two if phi_m < 0.4, and one if phi_m < 1. With ``level='modality'``
    each row gets one copy for m with probability

    p_m = alpha * 2/3 * max(0, mean of Phi_j over j != m - Phi_m),

    at most 1, where Phi_m is the mean of phi_m over a random `fraction` of the rows [1]_.

    The paper adds the copies, in which all features but those of m are zero, to a larger data set. Here they are terms
    of the step that processes the row: the loss is the mean cross-entropy of the batch's rows and their copies. An
    epoch thus has as many steps as before, and a copy costs one evaluation of the fusion head. The following choices
    are also ours. The rules for more than two modalities use the same thresholds. An absent modality has the value 0
    and gets no copy, and neither does a row with a single modality. Rows are drawn independently; the paper draws a
    fixed number with repetition. With M modalities the contributions take 2^M - 1 evaluations of the fusion head per
    row and epoch.

    `balance_history_` has ``copies``, the mean number of copies of a training row, and, after the warm-up,
    ``contribution``, the mean of each modality's contributions.

    References
    ----------
    .. [1] Y. Wei, R. Feng, Z. Wang and D. Hu, "Enhancing Multimodal Cooperation via Sample-level Modality
       Valuation", CVPR 2024.
    """

    def __init__(
        self,
        level: Literal["sample", "modality"] = "sample",
        warmup: int = 5,
        alpha: float = 1.0,
        fraction: float = 0.2,
    ) -> None:
        self.level = level
        self.warmup = warmup
        self.alpha = alpha
        self.fraction = fraction

    def begin(self, training: Training) -> None:
        check_choice("level", self.level, ("sample", "modality"))
        check_number("warmup", self.warmup, integer=True)
        check_number("alpha", self.alpha)
        check_number("fraction", self.fraction, high=1, closed=False)
        shape = len(training.names), len(training.rows.y)
        self.contributions_ = torch.full(shape, torch.nan, device=training.device)
        self.copies_ = torch.zeros(shape, dtype=torch.int8, device=training.device)
        self._shapley_factors = shapley_factors(len(training.names)).to(training.device)
        self._generators = training.generators("Valuation")
        self._subset_generator = torch.Generator().manual_seed(training.context.seed_for("Valuation"))

    def begin_epoch(self, training: Training) -> None:
        if training.epoch >= self.warmup:
            for outputs in training.evaluate(training.rows):
                self.contributions_[:, outputs.batch.rows] = self._contributions(training, outputs)
            has_contribution = ~self.contributions_.isnan()
            copies = self._copies_by_sample() if self.level == "sample" else self._copies_by_modality(training)
            self.copies_ = copies * has_contribution
            n_rows = has_contribution.sum(1).clamp(min=1)
            training.record("contribution", self.contributions_.nansum(1) / n_rows)
        training.record("copies", self.copies_.sum(1) / len(training.rows))

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        loss = training.joint_loss(outputs)
        if training.epoch < self.warmup:
            return loss
        batch = outputs.batch
        copies = self.copies_[:, batch.rows] * outputs.present
        with training.context.options.autocast():
            logits = [training.module.fusion_head.unimodal(outputs.features, name) for name in training.names]
        copy_losses = torch.stack([F.cross_entropy(z.float(), batch.y, reduction="none") for z in logits])
        if batch.weight is not None:
            copy_losses = copy_losses * batch.weight
        n_copies = copies.sum()
        n_terms = batch.size + n_copies
        # The mean over rows and copies, in a form that equals the plain loss bit by bit if there are no copies.
        fused_loss = weighted_cross_entropy(outputs.logits, batch)
        return loss + ((copy_losses * copies).sum() / n_terms - n_copies / n_terms * fused_loss)

    def _contributions(self, training: Training, outputs: Outputs) -> torch.Tensor:
        """Return the Shapley value of each modality in each row, NaN where it or all other modalities are absent."""
        names, features, y = training.names, outputs.features, outputs.batch.y
        zeros = {name: torch.zeros_like(f) for name, f in features.items()}
        present = outputs.present
        values = [torch.zeros_like(y, dtype=torch.float32)]
        for subset in range(1, 2 ** len(names)):
            is_member = [bool(subset >> k & 1) for k in range(len(names))]
            subset_features = {
                name: (features if member else zeros)[name] for name, member in zip(names, is_member, strict=True)
            }
            with training.context.options.autocast():
                logits = training.module.fusion_head.fuse(subset_features)
            size = present[torch.tensor(is_member, device=present.device)].sum(0)
            values.append(size * (logits.argmax(1) == y))
        contributions = self._shapley_factors @ torch.stack(values) / math.factorial(len(names))
        return contributions.masked_fill(~(present & (present.sum(0) > 1)), torch.nan)

    def _copies_by_sample(self) -> torch.Tensor:
        """Return the number of copies of each row by its contributions."""
        return torch.stack([self.contributions_ < limit for limit in _THRESHOLDS]).sum(0, dtype=torch.int8)

    def _copies_by_modality(self, training: Training) -> torch.Tensor:
        """Return 1 for rows drawn at random, with each modality's probability of a copy."""
        n_rows = max(1, round(self.fraction * len(training.rows)))
        order = torch.randperm(len(training.rows), generator=self._subset_generator)
        rows = training.rows.rows[order[:n_rows]].to(training.device)
        probabilities = copy_probabilities(self.contributions_[:, rows].nanmean(1), self.alpha)
        draws = [torch.rand(self.copies_.shape[1], generator=g, device=g.device) for g in self._generators.values()]
        return (torch.stack(draws) < probabilities.unsqueeze(1)).to(torch.int8)


def shapley_factors(n_modalities: int) -> torch.Tensor:
    """Return the factor of each subset's value in each modality's Shapley value, times `n_modalities` factorial.

    Parameters
    ----------
    n_modalities : int
        Number of modalities.

    Returns
    -------
    Tensor of shape (n_modalities, 2 ** n_modalities)
        Integers; subset s contains the modalities whose bits are set in s.
    """
    factors = torch.zeros(n_modalities, 2**n_modalities)
    for subset in range(2**n_modalities):
        size = subset.bit_count()
        for k in range(n_modalities):
            n_others = size - (subset >> k & 1)
            factor = math.factorial(n_others) * math.factorial(n_modalities - n_others - 1)
            factors[k, subset] = factor if subset >> k & 1 else -factor
    return factors


def copy_probabilities(contributions: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return each modality's probability of a copy from the mean contributions; 0 where they are NaN."""
    has_mean = ~contributions.isnan()
    n_others = (has_mean.sum() - has_mean.float()).clamp(min=1)
    total = contributions.nansum()
    deficit = (total - contributions.nan_to_num()) / n_others - contributions
    return torch.where(has_mean & (has_mean.sum() > 1), alpha * 2 / 3 * deficit, 0.0).clamp(0, 1)
