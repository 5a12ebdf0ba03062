"""Late fusion of trained branches, and the weights of the modalities."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import minimize

from ..._data.batches import Rows
from ..._networks.multimodal_networks import Branch, LateFusion, fuse
from ..fit_context import FitContext
from .outputs import BranchOutputs

# Pull of each weight towards 1, and rows to fit to at most. Both are our choice.
_PULL, _MAX_ROWS = 1e-3, 20_000

# Smaller weights count as 0, because float32 cannot tell the classes apart by them.
_MIN_WEIGHT = 1e-3


def fit_fusion_weights(outputs: Sequence[BranchOutputs], rows: Rows, seed: int) -> np.ndarray:
    """Return the weight of each modality that minimises the cross-entropy of the fused prediction on held-out rows.

    With weights w_m >= 0 and log-probabilities log p_m, the fused prediction is softmax(sum_m w_m log p_m).
    The minimised function is its mean cross-entropy + 1e-3 sum_m (w_m - 1)^2. Targets are smoothed by
    1 / (n_rows + 1), as if one more row had a class of its own choice: without this, weights grow without
    need where few rows are all classified correctly, and one unusual row costs tens of nats later.

    Parameters
    ----------
    outputs : sequence of BranchOutputs
        Outputs of each modality.
    rows : Rows
        Rows of the fit, with targets and weights.
    seed : int
        Seed of the choice of rows, if there are more than 20 000.

    Returns
    -------
    ndarray of shape (n_modalities,)
        Weights; ones if no row is held out from all of its modalities, and otherwise 0 for a modality of
        which no row is held out.
    """
    judged = fusion_rows(outputs)
    if len(judged) == 0:
        return np.ones(len(outputs))
    if len(judged) > _MAX_ROWS:
        chosen = np.random.default_rng(seed).permutation(len(judged))[:_MAX_ROWS]
        judged = judged[torch.from_numpy(np.sort(chosen)).to(judged.device)]
    log_proba = torch.stack([branch.log_proba[judged] for branch in outputs]).double().cpu()
    y = rows.y[judged].cpu()
    weight = torch.ones(len(y)) if rows.weight is None else rows.weight[judged].cpu()
    smoothing = 1 / (int((weight > 0).sum()) + 1)
    weight = (weight / weight.sum()).double()

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        fusion_weights = torch.tensor(values, requires_grad=True)
        fused = torch.einsum("m,mnc->nc", fusion_weights, log_proba)
        cross_entropy = torch.nn.functional.cross_entropy(fused, y, reduction="none", label_smoothing=smoothing)
        loss = (cross_entropy * weight).sum() + _PULL * ((fusion_weights - 1) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, fusion_weights)
        return float(loss.detach()), gradient.numpy()

    start = np.ones(len(outputs))
    result = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(outputs))
    is_judged = np.array([branch.has_held_out for branch in outputs])
    return np.where(is_judged & (result.x >= _MIN_WEIGHT), result.x, 0.0)


def fusion_rows(outputs: Sequence[BranchOutputs]) -> torch.Tensor:
    """Return the numbers of the rows that are held out from every modality that they have."""
    is_present = torch.stack([branch.is_present for branch in outputs])
    is_held_out = torch.stack([branch.is_held_out for branch in outputs])
    return ((is_held_out | ~is_present).all(0) & is_present.any(0)).nonzero().squeeze(1)


def fused_log_proba(outputs: Sequence[BranchOutputs], fusion: str, weights: np.ndarray | None) -> torch.Tensor:
    """Return the log-probabilities of late fusion over the modalities that each row has.

    Parameters
    ----------
    outputs : sequence of BranchOutputs
        Outputs of each modality.
    fusion : {'weighted', 'sum', 'mean'}
        Rule of fusion.
    weights : ndarray of shape (n_modalities,) or None
        Weights of the rule ``'weighted'``.

    Returns
    -------
    Tensor of shape (n_rows_of_X, n_classes)
        Uniform in rows that have none of the modalities.
    """
    log_proba = [branch.log_proba for branch in outputs]
    masks = [branch.is_present for branch in outputs]
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=log_proba[0].device)
    return torch.log_softmax(fuse(log_proba, masks, fusion, tensor), dim=1)


def fuse_branches(
    context: FitContext, branches: Mapping[str, Branch], outputs: Mapping[str, BranchOutputs], fusion: str
) -> tuple[LateFusion, dict[str, float]]:
    """Join trained branches, and return the network with the weight of each modality.

    Warns if the fused prediction is worse than that of the best modality, or if weights cannot be fitted.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    branches : mapping of str to Branch
        Branch of each modality.
    outputs : mapping of str to BranchOutputs
        Outputs of each modality on the rows of the fit.
    fusion : {'weighted', 'sum', 'mean'}
        Rule of fusion.

    Returns
    -------
    module : LateFusion
        The network.
    weights : dict of str to float
        Weight of each modality, 1 unless `fusion` is ``'weighted'``.
    """
    names = sorted(branches)
    ordered = [outputs[name] for name in names]
    values = np.ones(len(names))
    judged = fusion_rows(ordered)
    if fusion == "weighted":
        values = fit_fusion_weights(ordered, context.rows, context.seed_for("fusion rows"))
        if not len(judged) and len(names) > 1:
            warnings.warn(
                "fusion='weighted' found no held-out row, so every modality has the weight 1. Set cv=5, or "
                "early_stopping=True. Neither holds a row out if each class has one row, or one group.",
                stacklevel=2,
            )
    _warn_if_unjudged(outputs, fusion)
    weights = dict(zip(names, values.tolist(), strict=True))
    if len(judged) and len(names) > 1:
        fused = fused_log_proba(ordered, fusion, values if fusion == "weighted" else None)
        _warn_if_worse(context, dict(zip(names, ordered, strict=True)), fused, judged, fusion)
    module = LateFusion(branches, fusion, weights)
    return module.to(context.options.device), weights


def _warn_if_unjudged(outputs: Mapping[str, BranchOutputs], fusion: str) -> None:
    """Warn if no row of a modality is held out, although rows of others are."""
    unjudged = sorted(name for name, branch in outputs.items() if not branch.has_held_out)
    if not 0 < len(unjudged) < len(outputs):
        return
    weight = " and its weight in the fused prediction is 0" if fusion == "weighted" else ""
    warnings.warn(
        f"no row with modality {unjudged[0]!r} is held out from its networks, so its score in branch_scores_ is that "
        f"on training rows{weight}. Give it more rows or, with groups, rows of two groups.",
        stacklevel=3,
    )


def _warn_if_worse(
    context: FitContext, outputs: Mapping[str, BranchOutputs], fused: torch.Tensor, judged: torch.Tensor, fusion: str
) -> None:
    """Warn if the fused prediction is less accurate than one modality, by more than twice the standard error.

    Both are compared on the held-out rows that have the modality.
    """
    y = context.rows.y
    for name, branch in outputs.items():
        rows = judged[branch.is_present[judged]]
        if not len(rows):
            continue
        is_right, fused_is_right = ((z[rows].argmax(1) == y[rows]).float() for z in (branch.log_proba, fused))
        difference = (fused_is_right - is_right).mean()
        # The standard error of a mean of paired differences, which are -1, 0 or 1.
        error = ((fused_is_right - is_right) ** 2).mean().sqrt() / len(rows) ** 0.5
        if difference < -2 * error:
            remedy = "" if fusion == "weighted" else " Use fusion='weighted', or drop the weak modalities."
            warnings.warn(
                f"the fused accuracy on held-out rows is {fused_is_right.mean():.3f}, below the {is_right.mean():.3f} "
                f"of modality {name!r} alone.{remedy}",
                stacklevel=3,
            )
            return
