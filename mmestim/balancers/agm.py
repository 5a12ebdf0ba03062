"""Adaptive gradient modulation: hold each modality's lead near the level that it has had so far."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from .._networks.fusion_heads import FusionHead
from .._utils.validation import check_number
from ..encoders.standardize import Standardize
from ._base import Balancer
from ._joint_training import Outputs, Training
from ._scores import against_others


class AGM(Balancer):
    """What each modality contributes to the fused logits, trained by how its lead compares with its past.

    The fused logits are divided among the modalities by muting them in turn. A modality whose lead over the
    others exceeds its own running level gets a smaller gradient, one that falls behind its level a larger
    one; a steady lead, large or small, is left alone.

    Parameters
    ----------
    alpha : float, default=1.0
        How much a change of lead changes the gradient, at least 0, where it does not.
    cap : float, default=10.0
        Most by which the running level may exceed the lead, at least 0; it bounds the growth of gradients to
        ``exp(alpha * cap)``.

    Attributes
    ----------
    lead_ : ndarray of shape (n_modalities,)
        Running level of each modality's lead, the logarithm of r_m below, in alphabetical order.
    n_batches_ : ndarray of shape (n_modalities,)
        Number of batches in that average.

    See Also
    --------
    OGM : Slows whichever modality leads.

    Notes
    -----
    With v(S) the fused logits when the modalities outside of S are muted, modality m of M contributes::

        f_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)) + v(nothing) / M

    its Shapley value plus an equal share of the logits of nothing, so that the contributions add up to the
    fused logits; for two modalities f_a = (v(a, b) - v(b) + v(a)) / 2. With c_m the mean cross-entropy of f_m,
    probabilities floored at 1e-8::

        r_m = exp(mean over the others j of c_j - c_m)
        coefficient_m = exp(alpha min(R_m - r_m, cap))

    where R_m is r_m from the averages of c over all batches before. The gradient of the joint loss that
    reaches parameters through f_m is multiplied by the coefficient; where the fused logits are a sum over the
    modalities, that multiplies the gradient of each encoder by its own.

    The contributions and coefficients are the released code's, which writes out two and three modalities and
    caps at 10 and 7. A modality is muted by a zero input, for built-in encoders after their standardisation,
    which the encoder sees in eval mode. Ours are: no gradient flows through what a muted modality still
    gives, and the features of the others are those of the training step, so that a step takes one more row
    through each encoder instead of all rows for every S; the first batch, which has no past, is left alone;
    contributions of a row are among the modalities that it has; and leads are over the rows that have the
    modality and another, by their weights.

    An optimizer such as Adam, which divides by the size of past gradients, undoes a constant scale, so use
    SGD.

    Over the epochs `balance_history_` has ``coefficient`` and ``lead``, the logarithm of r_m, by modality in
    alphabetical order.

    References
    ----------
    H. Li, X. Li, P. Hu, Y. Lei, C. Li, Y. Zhou. Boosting Multi-modal Model Performance with Adaptive
    Gradient Modulation. ICCV 2023.

    Examples
    --------
    >>> from mmestim import JointClassifier
    >>> from mmestim.balancers import AGM
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = JointClassifier(digits.modalities, balancer=AGM(alpha=0.5), max_epochs=2, random_state=0)
    >>> clf.fit(digits.data, digits.target).balance_history_["coefficient"].shape
    (2, 2)
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
        # Adds nothing to the value, and to the gradient what the coefficients differ from one.
        change = ((coefficients - 1).view(-1, 1, 1) * (parts - parts.detach())).sum(0)
        return training.joint_loss(Outputs(training, outputs.batch, (outputs.logits + change, outputs.features)))

    @torch.no_grad()
    def _coefficients(self, training, outputs, parts):
        y = outputs.batch.y.expand(len(parts), -1).unsqueeze(2)
        losses = -torch.log_softmax(parts, dim=2).gather(2, y).squeeze(2).clamp(min=math.log(1e-8))
        own, others, total = against_others(losses, outputs)
        compared = total > 0
        lead = torch.where(compared, (others - own) / total, 0.0)
        level = torch.where(self.n_batches_ > 0, self.lead_, lead)
        excess = level.exp() - lead.exp()
        coefficients = torch.where(compared, torch.exp(self.alpha * excess.clamp(max=self.cap)), 1.0)
        # The average of c over batches gives the average of the leads, which are differences of c.
        self.n_batches_ += compared
        self.lead_ += torch.where(compared, (lead - self.lead_) / self.n_batches_.clamp(min=1), 0.0)
        training.record("coefficient", coefficients)
        training.record("lead", lead)
        return coefficients


@torch.no_grad()
def muted_features(training: Training) -> dict[str, torch.Tensor]:
    """Features of shape (1, embedding_dim) that each encoder gives to a zero input in eval mode."""
    muted = {}
    for name in training.names:
        encoder = training.module.branch(name).encoder
        zero = torch.zeros(1, *training.rows.blocks.shapes[name], device=training.device)
        standardize = getattr(encoder, "standardize", None)
        if isinstance(standardize, Standardize):
            zero += standardize.mean
        was_training = encoder.training
        encoder.eval()
        muted[name] = encoder(zero).float()
        encoder.train(was_training)
    return muted


def contributions(
    head: FusionHead, features: Mapping[str, torch.Tensor], muted: Mapping[str, torch.Tensor], present: torch.Tensor
) -> torch.Tensor:
    """What each modality contributes to the logits of each row.

    Parameters
    ----------
    head : FusionHead
        From features to logits.
    features : mapping of str to Tensor of shape (n_rows, embedding_dim)
        Of each modality, zeros in rows that lack it.
    muted : mapping of str to Tensor of shape (1, embedding_dim)
        In place of them where a modality is there but muted.
    present : bool Tensor of shape (n_modalities, n_rows)
        Which rows have which modality.

    Returns
    -------
    Tensor of shape (n_modalities, n_rows, n_classes)
        Contributions, which add up to the logits of rows that have any modality.
    """
    shares = (present / present.sum(0).clamp(min=1)).unsqueeze(2)
    if head.is_sum:
        # A modality adds the same whatever stands beside it: if there, if muted, if absent.
        added = torch.stack(list(head.split(features).values()))
        both = torch.stack(list(head.split({name: torch.cat([f, 0 * f]) for name, f in muted.items()}).values()))
        added_muted = torch.where(present.unsqueeze(2), both[:, :1], both[:, 1:])
        return added - added_muted + shares * added_muted.sum(0)
    n, n_rows = present.shape
    inside = torch.arange(2**n, device=present.device).unsqueeze(1) >> torch.arange(n, device=present.device) & 1 == 1
    mixed = {
        name: torch.where(inside[:, m].view(-1, 1, 1), f, muted[name] * present[m].unsqueeze(1)).flatten(0, 1)
        for m, (name, f) in enumerate(features.items())
    }
    values = head.fuse(mixed).float().unflatten(0, (2**n, n_rows))
    # By the number of modalities before m joins: the chance that a random order has just these before it.
    before = (inside.sum(1, keepdim=True) - inside.long()).to(values.dtype)
    # k! (n - k - 1)! / n!, from what is on the device already.
    weights = torch.exp(torch.lgamma(before + 1) + torch.lgamma(n - before) - math.lgamma(n + 1))
    weights = torch.where(inside, weights, -weights)
    return torch.tensordot(weights.T, values, 1) + shares * values[0]
