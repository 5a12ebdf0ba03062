"""Saving and loading of modality gap analyzers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..._serialization.model_file import TensorSpec
from ..._utils.validation import check_flag, check_number
from ..saved_classifier import check_feature_names

if TYPE_CHECKING:
    from .modality_gap import ModalityGapAnalyzer

_ARRAYS = ("means_", "variances_", "weights_", "bic_")
_ATTRIBUTES = ("bimodal_", "n_peaks_", "separation_", "converged_", "n_iter_", "n_features_in_")


def to_file(analyzer: ModalityGapAnalyzer) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return attributes for the header, of types that `encode` accepts, and tensors by name."""
    names = [name for name in (*_ATTRIBUTES, "feature_names_in_") if hasattr(analyzer, name)]
    tensors = {name: torch.from_numpy(np.asarray(getattr(analyzer, name), dtype=np.float64)) for name in _ARRAYS}
    return {name: getattr(analyzer, name) for name in names}, tensors


def from_header(analyzer: ModalityGapAnalyzer, facts: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> None:
    """Set the attributes from the header, after checking them and the types and shapes of the tensors."""
    analyzer._check_parameters()
    if set(facts) - {"feature_names_in_"} != set(_ATTRIBUTES):
        raise ValueError(f"it has {sorted(facts)}, expected {sorted(_ATTRIBUTES)}.")
    if specs != dict.fromkeys(_ARRAYS, TensorSpec(torch.float64, (2,))):
        raise ValueError(f"its tensors are not {_ARRAYS}, each with two float64 values.")
    for name in ("bimodal_", "converged_"):
        check_flag(name, facts[name])
    for name in ("n_peaks_", "n_iter_", "n_features_in_"):
        check_number(name, facts[name], low=2 if name == "n_features_in_" else 1, integer=True)
    check_number("separation_", facts["separation_"])
    check_feature_names(facts.get("feature_names_in_"), facts["n_features_in_"])
    for name, value in facts.items():
        setattr(analyzer, name, value)


def from_tensors(analyzer: ModalityGapAnalyzer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Set the arrays from the tensors, and raise ValueError unless they describe a mixture."""
    for name in _ARRAYS:
        setattr(analyzer, name, tensors[name].numpy())
    if not (
        np.isfinite([analyzer.means_, analyzer.variances_, analyzer.weights_]).all()
        and analyzer.variances_.min() > 0
        and analyzer.weights_.min() > 0
        and abs(analyzer.weights_.sum() - 1) < 1e-6
    ):
        raise ValueError("its means, variances and weights do not describe a mixture.")
