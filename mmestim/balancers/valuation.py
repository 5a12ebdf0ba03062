"""Sample-level valuation: rows are learnt again from the modalities that gave them little."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .._training.losses import weighted_cross_entropy
from .._utils.validation import check_choice, check_number
from ._base import Balancer
from ._joint_training import Outputs, Training

# Contributions below each of these get one more copy.
_THRESHOLDS = (1.0, 0.4, -0.1)


class Valuation(Balancer):
    """More copies of a row for the modality that contributes little to it, with the others left out.

    Before each epoch after the warm-up, the Shapley value says what each modality contributes to the
    right prediction of each training row; those of little contribution see the row again, alone.

    Parameters
    ----------
    level : {'sample', 'modality'}, default='sample'
        Whether the copies go by the contribution to each row, or by the mean contribution, to rows
        drawn at random.
    warmup : int, default=5
        Epochs of plain training, at least 0.
    alpha : float, default=1.0
        Factor of the share of rows that are copied, at least 0, for ``level='modality'``; with 0
        training is plain.
    fraction : float, default=0.2
        Share of the rows in the mean contribution, above 0 and at most 1, for ``level='modality'``.

    Attributes
    ----------
    contributions_ : ndarray of shape (n_modalities, n_samples)
        Latest contributions to the rows of X; NaN in rows that were not trained on, or lack the
        modality or all others.
    copies_ : ndarray of shape (n_modalities, n_samples)
        Latest number of copies of each row of X for each modality.

    Notes
    -----
    A set S of modalities is worth v(S) = |S| if the prediction from its features, the others zero, is
    right, and else 0. With M modalities, the contribution of modality m to a row is its Shapley value

    phi_m = sum_S |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)) over the sets S without m,

    exact, in eval mode. With two modalities it is one of -0.5, 0, 0.5, 1 and 1.5. On the level of
    samples a row with phi_m < -0.1 gets three copies for m, below 0.4 two and below 1 one. On the level
    of modalities each row gets one copy for m with probability

    p_m = alpha * 2/3 * max(0, mean of Phi_j over j != m - Phi_m),

    at most 1, where Phi_m is the mean of phi_m over a random `fraction` of the rows [1]_.

    The paper puts the copies, in which all features but those of m are zero, into a larger data set. Here
    they are terms of the step that sees the row: the loss is the mean cross-entropy of the batch's
    rows and of their copies together, so an epoch has as many steps as before, and a copy costs an
    evaluation of the fusion head alone. Ours are also the rules for more than two modalities, which
    keep the thresholds; that an absent modality is worth nothing and gets no copy, and a row with a single
    one neither; and rows drawn one by one in place of a fixed number drawn with repetition. With M
    modalities the contributions take 2^M - 1 evaluations of the fusion head per row and epoch.

    `balance_history_` has ``copies``, the mean number of copies of a training row, and, after the
    warm-up, ``contribution``, the mean of each modality's contributions.

    References
    ----------
    .. [1] Y. Wei, R. Feng, Z. Wang and D. Hu, "Enhancing Multimodal Cooperation via Sample-level Modality
       Valuation", CVPR 2024.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import Valuation
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=Valuation(warmup=1), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balancer_.contributions_.shape
    (2, 1797)
    """

    def __init__(self, level: str = "sample", warmup: int = 5, alpha: float = 1.0, fraction: float = 0.2) -> None:
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
        self._shares = shapley_shares(len(training.names)).to(training.device)
        self._generators = training.generators("Valuation")
        self._subset = torch.Generator().manual_seed(training.context.seed_for("Valuation"))

    def begin_epoch(self, training: Training) -> None:
        if training.epoch >= self.warmup:
            for outputs in training.evaluate(training.rows):
                self.contributions_[:, outputs.batch.rows] = self._contributions(training, outputs)
            known = ~self.contributions_.isnan()
            self.copies_ = (self._by_sample() if self.level == "sample" else self._by_modality(training)) * known
            every = known.sum(1).clamp(min=1)
            training.record("contribution", self.contributions_.nansum(1) / every)
        training.record("copies", self.copies_.sum(1) / len(training.rows))

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        loss = training.joint_loss(outputs)
        if training.epoch < self.warmup:
            return loss
        batch = outputs.batch
        copies = self.copies_[:, batch.rows] * outputs.present
        with training.context.options.autocast():
            alone = [training.module.fusion_head.unimodal(outputs.features, name) for name in training.names]
        losses = torch.stack([F.cross_entropy(z.float(), batch.y, reduction="none") for z in alone])
        if batch.weight is not None:
            losses = losses * batch.weight
        n_copies = copies.sum()
        n_rows = batch.size + n_copies
        # The mean over rows and copies, written so that without copies it is the plain loss to the bit.
        excess = (losses * copies).sum() / n_rows - n_copies / n_rows * weighted_cross_entropy(outputs.logits, batch)
        return loss + excess

    def _contributions(self, training, outputs):
        """Shapley value of each modality in each row, NaN where it or all others are absent."""
        names, features, y = training.names, outputs.features, outputs.batch.y
        nothing = {name: torch.zeros_like(f) for name, f in features.items()}
        present = outputs.present
        worth = [torch.zeros_like(y, dtype=torch.float32)]
        for number in range(1, 2 ** len(names)):
            members = [bool(number >> k & 1) for k in range(len(names))]
            kept = {name: (features if m else nothing)[name] for name, m in zip(names, members, strict=True)}
            with training.context.options.autocast():
                logits = training.module.fusion_head.fuse(kept)
            size = present[torch.tensor(members, device=present.device)].sum(0)
            worth.append(size * (logits.argmax(1) == y))
        values = self._shares @ torch.stack(worth) / math.factorial(len(names))
        return values.masked_fill(~(present & (present.sum(0) > 1)), torch.nan)

    def _by_sample(self):
        return torch.stack([self.contributions_ < limit for limit in _THRESHOLDS]).sum(0, dtype=torch.int8)

    def _by_modality(self, training):
        n_rows = max(1, round(self.fraction * len(training.rows)))
        order = torch.randperm(len(training.rows), generator=self._subset)
        rows = training.rows.rows[order[:n_rows]].to(training.device)
        shares = copy_shares(self.contributions_[:, rows].nanmean(1), self.alpha)
        draws = [torch.rand(self.copies_.shape[1], generator=g, device=g.device) for g in self._generators.values()]
        return (torch.stack(draws) < shares.unsqueeze(1)).to(torch.int8)


def shapley_shares(n_modalities: int) -> torch.Tensor:
    """Factor of each set's worth in each modality's Shapley value, times the factorial of their number.

    Parameters
    ----------
    n_modalities : int
        Number of modalities.

    Returns
    -------
    Tensor of shape (n_modalities, 2 ** n_modalities)
        Whole numbers; set s has the modalities whose bits are set in s.
    """
    shares = torch.zeros(n_modalities, 2**n_modalities)
    for members in range(2**n_modalities):
        size = members.bit_count()
        for k in range(n_modalities):
            others = size - (members >> k & 1)
            factor = math.factorial(others) * math.factorial(n_modalities - others - 1)
            shares[k, members] = factor if members >> k & 1 else -factor
    return shares


def copy_shares(contributions: torch.Tensor, alpha: float) -> torch.Tensor:
    """Share of the rows to copy for each modality, by mean contributions, of which unknown ones are NaN."""
    known = ~contributions.isnan()
    others = (known.sum() - known.float()).clamp(min=1)
    total = contributions.nansum()
    behind = (total - contributions.nan_to_num()) / others - contributions
    return torch.where(known & (known.sum() > 1), alpha * 2 / 3 * behind, 0.0).clamp(0, 1)
