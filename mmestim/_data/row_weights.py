"""Weights of rows from sample weights and class weights."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_array, check_consistent_length


def row_weights(
    sample_weight: Any, class_weight: Mapping[Any, float] | str | None, classes: np.ndarray, y: np.ndarray
) -> np.ndarray | None:
    """Return the product of sample and class weights as float64, or None if all rows count equally."""
    if sample_weight is None and class_weight is None:
        return None
    weight = np.ones(len(y))
    if isinstance(sample_weight, numbers.Real):
        weight *= float(sample_weight)
    elif sample_weight is not None:
        sample_weight = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
        if sample_weight.ndim != 1:
            raise ValueError(f"Sample weights must be 1D array or scalar, got {sample_weight.ndim}D array.")
        check_consistent_length(y, sample_weight)
        weight *= sample_weight
    if weight.min() < 0:
        raise ValueError(f"sample_weight has {weight.min()}: weights must be at least 0.")
    if not weight.any():
        raise ValueError("all weights in sample_weight are zero: at least one row must have a positive weight.")
    if class_weight is not None:
        weighted_labels = y[weight > 0]  # Rows of weight 0 do not count in "balanced", so a class may have no row.
        is_weighted = np.ones(len(classes), dtype=bool)
        if class_weight == "balanced":
            is_weighted = np.isin(classes, weighted_labels)
        factors = np.ones(len(classes))
        factors[is_weighted] = compute_class_weight(class_weight, classes=classes[is_weighted], y=weighted_labels)
        weight *= factors[np.searchsorted(classes, y)]
    return weight
