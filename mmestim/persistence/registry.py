"""Registry of the estimators that a file can hold, by class name."""

from __future__ import annotations

import importlib
import reprlib
from typing import Any

from sklearn.pipeline import Pipeline

from ..multimodal import (
    JointClassifier,
    LateFusionClassifier,
    ModalityGapAnalyzer,
    ModalityGapClassifier,
    UDIClassifier,
)

# A class name in a file can refer to these classes only. Each has _to_file, _from_header and _from_tensors.
ESTIMATORS: dict[str, type] = {
    estimator.__name__: estimator
    for estimator in (
        JointClassifier,
        LateFusionClassifier,
        ModalityGapAnalyzer,
        ModalityGapClassifier,
        UDIClassifier,
    )
}
# Classes in modules that take long to import, with the name of the module.
LAZY_ESTIMATORS = {"VoiceEditDetector": "mmestim.voice"}


def estimator_classes() -> dict[str, type]:
    """Return all registered classes by name, after importing the lazy ones."""
    imported = {name: getattr(importlib.import_module(module), name) for name, module in LAZY_ESTIMATORS.items()}
    return ESTIMATORS | imported


def registered_name(estimator: Any) -> str:
    """Return the class name of an estimator, or raise a TypeError with a remedy if its class is not registered."""
    estimator_class = type(estimator)
    if estimator_classes().get(estimator_class.__name__) is estimator_class:
        return estimator_class.__name__
    expected = f"mmestim.save expects a fitted {', '.join(estimator_classes())}; got "
    if isinstance(estimator, Pipeline):
        steps = {name: type(step).__name__ for name, step in estimator.steps}
        raise TypeError(
            f"{expected}a Pipeline. Save its steps separately: {steps}. Save the mmestim estimators with "
            f"mmestim.save(pipeline[{[*steps][-1]!r}], path), and the other steps with joblib."
        )
    if hasattr(estimator, "best_estimator_"):
        raise TypeError(f"{expected}a {estimator_class.__name__}. Save its attribute best_estimator_.")
    if parents := [name for name, parent in estimator_classes().items() if isinstance(estimator, parent)]:
        raise TypeError(
            f"{expected}{estimator_class.__name__}, a subclass of {parents[-1]}, which load would restore as a "
            f"{parents[-1]}. Use pickle or joblib."
        )
    raise TypeError(f"{expected}{reprlib.repr(estimator)}. Use joblib for objects that only you will load.")
