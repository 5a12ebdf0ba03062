"""Which estimators a file can hold, by the names of their classes."""

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

# Names in a file mean these classes and no others. Each has _to_file, _from_header and _from_tensors.
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
# Those whose modules take long to import, by where they are.
LAZY_ESTIMATORS = {"VoiceEditDetector": "mmestim.voice"}


def estimator_classes() -> dict[str, type]:
    late = {name: getattr(importlib.import_module(where), name) for name, where in LAZY_ESTIMATORS.items()}
    return ESTIMATORS | late


def registered_name(estimator: Any) -> str:
    kind = type(estimator)
    if estimator_classes().get(kind.__name__) is kind:
        return kind.__name__
    what = f"mmestim.save takes a fitted {', '.join(estimator_classes())}; got "
    if isinstance(estimator, Pipeline):
        steps = {name: type(step).__name__ for name, step in estimator.steps}
        raise TypeError(
            f"{what}a Pipeline. Save its steps apart, each as fits it: {steps}; those of mmestim as in "
            f"mmestim.save(pipeline[{[*steps][-1]!r}], path)."
        )
    if hasattr(estimator, "best_estimator_"):
        raise TypeError(f"{what}a {kind.__name__}. Save its attribute best_estimator_.")
    if parents := [name for name, known in estimator_classes().items() if isinstance(estimator, known)]:
        raise TypeError(
            f"{what}{kind.__name__}, a subclass of {parents[-1]}, as which it would come back. Use pickle or joblib."
        )
    raise TypeError(f"{what}{reprlib.repr(estimator)}. Use joblib for what only you will open.")
