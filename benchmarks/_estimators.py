"""The package's classifiers in balance.py."""

from __future__ import annotations

from typing import Any

import mmestim
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapClassifier, UDIClassifier
from mmestim.balancers import Balancer, GradientConflict

BASELINE = "joint-concat"
LATE = "late"  # its branches are modalities trained alone
UDI = "udi"

METHODS = {
    name: method
    for name, method in vars(mmestim.balancers).items()
    if isinstance(method, type) and issubclass(method, Balancer) and method not in (Balancer, GradientConflict)
}


def single(estimator: Any) -> Any:
    """Return an estimator of single networks instead of one per fold of the training rows."""
    return estimator.set_params(cv=None) if "cv" in estimator.get_params() else estimator


def joint(**parameters: Any) -> Any:
    return single(JointClassifier(**parameters))


def gap(**parameters: Any) -> Any:
    return single(ModalityGapClassifier(**parameters))


# "udi-aligned@audio" is "udi-aligned" with this modality as its anchor.
ESTIMATORS = {
    BASELINE: joint(fusion="concat"),
    "joint-sum": joint(fusion="sum"),
    "joint-gated": joint(fusion="gated"),
    "joint-film": joint(fusion="film"),
    "joint-concat+unimodal": joint(fusion="concat", unimodal_weight=1.0),
    # The defaults of the package: networks of folds.
    "joint-folds": JointClassifier(fusion="concat"),
    LATE: LateFusionClassifier(),
    UDI: UDIClassifier(),
    "gap": ModalityGapClassifier(),
    "late-single": single(LateFusionClassifier()),
    "udi-single": single(UDIClassifier()),
    "udi-dynamic": UDIClassifier(guidance="dynamic"),  # the rule of the paper
    "udi-aligned": UDIClassifier(guidance="aligned"),  # ours
    "udi-consistency": UDIClassifier(guidance=(1.0, 0.0)),
    "udi-complementarity": UDIClassifier(guidance=(0.0, 1.0)),
    # The terms of the modality gap one by one. Without any term, the estimator equals joint-concat+unimodal.
    "gap-pull": gap(shift_weight=0, balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift": gap(balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift+weights": gap(fine_tune_epochs=0),
    "gap-all": gap(fine_tune_epochs=10),
    "gap-all-out-of-fold": gap(fine_tune_epochs=10, gap_source="out_of_fold"),
    "gap-fine-tuning": gap(gap_weight=0, shift_weight=0, balanced_weight=0, fine_tune_epochs=10),
    # Every balancing method with its defaults, such as "joint:OGM".
    **{f"joint:{name}": joint(balancer=method()) for name, method in METHODS.items()},
}
ANCHORED = [name for name, estimator in ESTIMATORS.items() if isinstance(estimator, UDIClassifier)]
