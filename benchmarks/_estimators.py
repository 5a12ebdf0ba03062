"""The package's classifiers in balance.py."""

from __future__ import annotations

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

# "udi-aligned@audio" is "udi-aligned" with this modality as its anchor.
ESTIMATORS = {
    BASELINE: JointClassifier(cv=None, fusion="concat"),
    "joint-sum": JointClassifier(cv=None, fusion="sum"),
    "joint-gated": JointClassifier(cv=None, fusion="gated"),
    "joint-film": JointClassifier(cv=None, fusion="film"),
    "joint-concat+unimodal": JointClassifier(cv=None, fusion="concat", unimodal_weight=1.0),
    # The defaults of the package, one network per fold; the others with cv=None are single networks.
    "joint-folds": JointClassifier(fusion="concat"),
    LATE: LateFusionClassifier(),
    UDI: UDIClassifier(),
    "gap": ModalityGapClassifier(),
    "late-single": LateFusionClassifier(cv=None),
    "udi-single": UDIClassifier(cv=None),
    "udi-dynamic": UDIClassifier(guidance="dynamic"),  # the rule of the paper
    "udi-aligned": UDIClassifier(guidance="aligned"),  # ours
    "udi-consistency": UDIClassifier(guidance=(1.0, 0.0)),
    "udi-complementarity": UDIClassifier(guidance=(0.0, 1.0)),
    # The terms of the modality gap one by one. Without any term, the estimator equals joint-concat+unimodal.
    "gap-pull": ModalityGapClassifier(
        cv=None, shift_weight=0, balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0
    ),
    "gap-pull+shift": ModalityGapClassifier(cv=None, balanced_weight=0, imbalanced_weight=0, fine_tune_epochs=0),
    "gap-pull+shift+weights": ModalityGapClassifier(cv=None, fine_tune_epochs=0),
    "gap-all": ModalityGapClassifier(cv=None, fine_tune_epochs=10),
    "gap-all-out-of-fold": ModalityGapClassifier(cv=3, fine_tune_epochs=10),
    "gap-fine-tuning": ModalityGapClassifier(
        cv=None, gap_weight=0, shift_weight=0, balanced_weight=0, fine_tune_epochs=10
    ),
    # Every balancing method with its defaults, such as "joint:OGM".
    **{f"joint:{name}": JointClassifier(cv=None, balancer=method()) for name, method in METHODS.items()},
}
ANCHORED = [name for name, estimator in ESTIMATORS.items() if isinstance(estimator, UDIClassifier)]
