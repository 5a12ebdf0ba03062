"""Weights of rows from sample weights and class weights."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_array, check_consistent_length

from .._utils.validation import check_number


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
        weight *= _class_factors(class_weight, classes, y[weight > 0])[np.searchsorted(classes, y)]
        if not weight.any():
            together = "" if sample_weight is None else " together with sample_weight"
            raise ValueError(
                f"class_weight={class_weight!r}{together} gives every row weight 0: at least one class with rows of "
                "positive weight must have a positive weight."
            )
    return weight


def _class_factors(class_weight: Any, classes: np.ndarray, weighted_labels: np.ndarray) -> np.ndarray:
    """Return the weight of each class, given the labels of the rows of positive weight."""
    factors = np.ones(len(classes))
    if isinstance(class_weight, Mapping):
        labels = classes.tolist()
        for label, value in class_weight.items():
            check_number(f"class_weight[{label!r}]", value)
            if np.isinf(value):
                raise ValueError(f"class_weight[{label!r}]={value!r} must be finite.")
            if label in labels:
                factors[labels.index(label)] = value
        # As in scikit-learn, a complete dict may have classes that are missing from the rows of a fold.
        unknown = [label for label in class_weight if label not in labels]
        if unknown and not set(labels) <= set(class_weight):
            raise ValueError(f"class_weight names {unknown[0]!r}, which is not a class of y. The classes are {labels}.")
    elif isinstance(class_weight, str) and class_weight == "balanced":
        # Rows of weight 0 do not count, so a class may have no row.
        has_rows = np.isin(classes, weighted_labels)
        factors[has_rows] = compute_class_weight("balanced", classes=classes[has_rows], y=weighted_labels)
    else:
        raise ValueError(f"class_weight={class_weight!r} must be 'balanced', a dict of class to weight, or None.")
    return factors
