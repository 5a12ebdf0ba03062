"""Steps that late fusion and UDI share after their branches are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from ..._networks.fold_networks import join_branches
from ..._networks.multimodal_networks import Branch, LateFusion
from ..._utils.validation import check_choice, check_flag, check_number
from ..fit_context import FitContext
from .fusion_weights import fuse_branches
from .outputs import BranchOutputs

Fusion = Literal["weighted", "sum", "mean"]


def check_fusion_parameters(estimator: Any) -> None:
    """Check the parameters of late fusion."""
    check_choice("fusion", estimator.fusion, get_args(Fusion))
    check_flag("ensemble", estimator.ensemble)
    check_flag("store_oof", estimator.store_oof)


def check_saved_branches(estimator: Any) -> None:
    """Check the attributes of late fusion that a file sets."""
    for attribute, high in (("branch_scores_", 1.0), ("fusion_weights_", float("inf"))):
        values = getattr(estimator, attribute, None)
        if attribute == "branch_scores_" and values is None:
            continue  # in a file of late fusion of an earlier version
        if not isinstance(values, dict) or sorted(values) != sorted(estimator.modalities_):
            raise ValueError(f"{attribute}={values!r} does not have the modalities {sorted(estimator.modalities_)}.")
        for name, value in values.items():
            check_number(f"{attribute}[{name!r}]", value, high=high)


def store_oof_proba(estimator: Any, outputs: Mapping[str, BranchOutputs]) -> None:
    """Set `oof_proba_` if the estimator asks for it, and remove that of an earlier fit otherwise."""
    estimator.__dict__.pop("oof_proba_", None)
    if estimator.store_oof:
        estimator.oof_proba_ = {}
        for name, branch in outputs.items():
            proba = branch.log_proba.exp().cpu().numpy()
            proba[~branch.is_held_out.cpu().numpy()] = np.nan
            estimator.oof_proba_[name] = proba


def join_modalities(
    estimator: Any,
    context: FitContext,
    branches: Mapping[str, Sequence[Branch]],
    outputs: Mapping[str, BranchOutputs],
) -> LateFusion:
    """Set `n_networks_` and `fusion_weights_`, and return the network of all modalities."""
    estimator.n_networks_ = max(len(networks) for networks in branches.values())
    joined = {name: join_branches(networks) for name, networks in branches.items()}
    module, weights = fuse_branches(context, joined, outputs, estimator.fusion)
    estimator.fusion_weights_ = {name: weights[name] for name in estimator.modalities_}
    return module
