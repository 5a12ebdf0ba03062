"""AGM: adaptive gradient modulation, which keeps each modality's lead near its running level."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from .._networks.fusion_heads import FusionHead
from .._utils.validation import check_number
from ..encoders.standardize import input_statistics
from ..encoders.trial import input_dtype
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import against_others


class AGM(Balancer):
    """Adaptive gradient modulation: gradients scaled by how far a modality's lead departs from its running level.

    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import AGM
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=AGM(alpha=0.5), cv=None, max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_[0]["coefficient"].shape
    (2, 2)

    The fused logits are divided among the modalities by muting them in turn. A modality whose lead over the others
    exceeds its own running level gets a smaller gradient, and one that falls behind its level gets a larger one. A
    steady lead, large or small, changes nothing.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength, at least 0: how much a change of the lead scales the gradient. With 0 training is plain.
    cap : float, default=10.0
        Maximum excess of the running level over the lead, at least 0. It limits the growth of gradients to
        ``exp(alpha * cap)``.

    Attributes
    ----------
    lead_ : ndarray of shape (n_modalities,)
        Running level of each modality's lead, the logarithm of r_m below, in alphabetical order.
    n_batches_ : ndarray of shape (n_modalities,)
        Number of batches in that average.

    See Also
    --------
    OGM : Slows the leading modality, however steady its lead.

    Notes
    -----
    Let v(S) be the fused logits when the modalities outside of S are muted. Modality m of M contributes::

        f_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)) + v(nothing) / M

    This is its Shapley value plus an equal part of v(nothing), so that the contributions add up to the fused
    logits. For two modalities f_a = (v(a, b) - v(b) + v(a)) / 2. With c_m the mean cross-entropy of f_m, where
    probabilities are at least 1e-8::

        r_m = exp(mean over the others j of c_j - c_m)
        coefficient_m = exp(alpha min(R_m - r_m, cap))

    where R_m is r_m from the averages of c over all earlier batches. The coefficient multiplies the gradient of the
    joint loss that reaches parameters through f_m. If the fused logits are a sum over the modalities, this multiplies
    the gradient of each encoder by its own coefficient.

    The contributions and coefficients follow the released code, which covers two and three modalities and caps at 10
    and 7. A modality is muted by a zero input, after the standardisation of built-in encoders; the encoder processes it
    in eval mode. The following choices are ours. No gradient flows through the output of a muted modality. The features
    of the others are those of the training step, so that a step encodes one more row per encoder instead of all rows
    for every S. The first batch has no past, so its gradients are not scaled. The contributions of a row are divided
    among the modalities that it has. Leads are weighted means over the rows that have the modality and another one.

    Adam and similar optimizers divide by the size of past gradients, which undoes a constant scale; use SGD.

    For each epoch `balance_history_` has ``coefficient`` and ``lead``, the logarithm of r_m, by modality in
    alphabetical order.

    References
    ----------
    H. Li, X. Li, P. Hu, Y. Lei, C. Li, Y. Zhou. Boosting Multi-modal Model Performance with Adaptive
    Gradient Modulation. ICCV 2023.
    """

    def __init__(self, alpha: float = 1.0, *, cap: float = 10.0) -> None:
        self.alpha = alpha
        self.cap = cap

    def begin(self, training: Training) -> None:
        check_number("alpha", self.alpha)
        check_number("cap", self.cap)
        self.lead_ = torch.zeros(len(training.names), device=training.device)
        self.n_batches_ = torch.zeros_like(self.lead_)

    def loss(self, training: Training, outputs: Outputs) -> torch.Tensor:
        with training.context.options.autocast():
            muted = muted_features(training)
            parts = contributions(training.module.fusion_head, outputs.features, muted, outputs.present).float()
        coefficients = self._coefficients(training, outputs, parts.detach())
        # Zero in value: it only adds (coefficient - 1) times the gradient of each contribution.
        gradient_change = ((coefficients - 1).view(-1, 1, 1) * (parts - parts.detach())).sum(0)
        logits = outputs.logits + gradient_change
        return training.joint_loss(Outputs(training, outputs.batch, (logits, outputs.features)))

    @torch.no_grad()
    def _coefficients(self, training: Training, outputs: Outputs, parts: torch.Tensor) -> torch.Tensor:
        """Return the coefficients of this batch and update the running levels."""
        y = outputs.batch.y.expand(len(parts), -1).unsqueeze(2)
        losses = -torch.log_softmax(parts, dim=2).gather(2, y).squeeze(2).clamp(min=math.log(1e-8))
        modality_losses, other_losses, total_weights = against_others(losses, outputs)
        is_compared = total_weights > 0
        lead = torch.where(is_compared, (other_losses - modality_losses) / total_weights, 0.0)
        level = torch.where(self.n_batches_ > 0, self.lead_, lead)
        excess = level.exp() - lead.exp()
        coefficients = torch.where(is_compared, torch.exp(self.alpha * excess.clamp(max=self.cap)), 1.0)
        # Leads are differences of c, so averaging them equals averaging c.
        self.n_batches_ += is_compared
        self.lead_ += torch.where(is_compared, (lead - self.lead_) / self.n_batches_.clamp(min=1), 0.0)
        training.record("coefficient", coefficients)
        training.record("lead", lead)
        return coefficients


@torch.no_grad()
def muted_features(training: Training) -> dict[str, torch.Tensor]:
    """Return the features, of shape (1, embedding_dim), of a zero input to each encoder in eval mode."""
    muted = {}
    for name in training.names:
        encoder, shape = training.module.branch(name).encoder, training.rows.blocks.shapes[name]
        if name in training.context.frozen:  # In training the block holds its features.
            encoder, shape, _ = training.context.frozen[name]
        zero_input = torch.zeros(1, *shape, device=training.device)
        if (statistics := input_statistics(encoder)) is not None:
            zero_input += statistics.mean
        dtype, was_training = input_dtype(encoder, name), encoder.training
        encoder.eval()
        muted[name] = encoder(zero_input if dtype is None else zero_input.to(dtype)).float()
        encoder.train(was_training)
    return muted


def contributions(
    head: FusionHead, features: Mapping[str, torch.Tensor], muted: Mapping[str, torch.Tensor], present: torch.Tensor
) -> torch.Tensor:
    """Return the contribution of each modality to the logits of each row.

    Parameters
    ----------
    head : FusionHead
        Fusion head.
    features : mapping of str to Tensor of shape (n_rows, embedding_dim)
        Features of each modality, zero in rows that lack it.
    muted : mapping of str to Tensor of shape (1, embedding_dim)
        Features of a muted modality, in rows that have it.
    present : bool Tensor of shape (n_modalities, n_rows)
        Mask of the rows that have each modality.

    Returns
    -------
    Tensor of shape (n_modalities, n_rows, n_classes)
        Contributions, which add up to the logits of rows that have any modality.
    """
    equal_parts = (present / present.sum(0).clamp(min=1)).unsqueeze(2)
    if head.is_sum:
        # In a sum, a modality adds the same logits whichever other modalities are muted.
        added = torch.stack(list(head.split(features).values()))
        muted_and_absent = {name: torch.cat([f, 0 * f]) for name, f in muted.items()}
        split_logits = torch.stack(list(head.split(muted_and_absent).values()))
        added_muted = torch.where(present.unsqueeze(2), split_logits[:, :1], split_logits[:, 1:])
        return added - added_muted + equal_parts * added_muted.sum(0)
    n, n_rows = present.shape
    in_subset = (
        torch.arange(2**n, device=present.device).unsqueeze(1) >> torch.arange(n, device=present.device) & 1 == 1
    )
    mixed = {
        name: torch.where(in_subset[:, m].view(-1, 1, 1), f, muted[name] * present[m].unsqueeze(1)).flatten(0, 1)
        for m, (name, f) in enumerate(features.items())
    }
    values = head.fuse(mixed).float().unflatten(0, (2**n, n_rows))
    # With k modalities before m, k! (n - k - 1)! / n! is the probability that a random order has just these before m.
    n_before = (in_subset.sum(1, keepdim=True) - in_subset.long()).to(values.dtype)
    # lgamma computes the factorials on the device, without a copy from the CPU.
    weights = torch.exp(torch.lgamma(n_before + 1) + torch.lgamma(n - n_before) - math.lgamma(n + 1))
    weights = torch.where(in_subset, weights, -weights)
    return torch.tensordot(weights.T, values, 1) + equal_parts * values[0]
