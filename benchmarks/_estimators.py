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

# Single networks train by the papers' optimizer: methods that scale gradients have no effect under AdamW.
SINGLE: dict[str, Any] = {"cv": None, "optimizer": "sgd"}

# "udi-aligned@audio" is "udi-aligned" with this modality as its anchor.
ESTIMATORS = {
    BASELINE: JointClassifier(**SINGLE, fusion="concat"),
    "joint-sum": JointClassifier(**SINGLE, fusion="sum"),
    "joint-gated": JointClassifier(**SINGLE, fusion="gated"),
    "joint-film": JointClassifier(**SINGLE, fusion="film"),
    "joint-concat+unimodal": JointClassifier(**SINGLE, fusion="concat", unimodal_weight=1.0),
    # The defaults of the package, one network per fold; the others are single networks.
    "joint-folds": JointClassifier(fusion="concat"),
    LATE: LateFusionClassifier(),
    UDI: UDIClassifier(),
    "gap": ModalityGapClassifier(),
    "late-single": LateFusionClassifier(**SINGLE),
    "udi-single": UDIClassifier(**SINGLE),
    "udi-dynamic": UDIClassifier(guidance="dynamic"),  # the rule of the paper
    "udi-aligned": UDIClassifier(guidance="aligned"),  # ours
    "udi-consistency": UDIClassifier(guidance=(1.0, 0.0)),
    "udi-complementarity": UDIClassifier(guidance=(0.0, 1.0)),
    # The terms of the modality gap one by one. Without any term, the estimator equals joint-concat+unimodal.
    "gap-pull": ModalityGapClassifier(
        **SINGLE, shift_weight=0, balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0
    ),
    "gap-pull+shift": ModalityGapClassifier(**SINGLE, balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift+weights": ModalityGapClassifier(**SINGLE, fine_tune_epochs=0),
    "gap-all": ModalityGapClassifier(**SINGLE, fine_tune_epochs=10),
    "gap-all-out-of-fold": ModalityGapClassifier(**SINGLE | {"cv": 3}, fine_tune_epochs=10),
    "gap-fine-tuning": ModalityGapClassifier(
        **SINGLE, gap_weight=0, shift_weight=0, balanced_weight=0, fine_tune_epochs=10
    ),
    # Every balancing method with its defaults, such as "joint:OGM".
    **{f"joint:{name}": JointClassifier(**SINGLE, balancer=method()) for name, method in METHODS.items()},
}
ANCHORED = [name for name, estimator in ESTIMATORS.items() if isinstance(estimator, UDIClassifier)]
