"""scikit-learn-style estimators for multimodal data in which no modality is wasted."""

from importlib.metadata import version

from .displays import ContributionDisplay, ModalityGapDisplay
from .modalities import stack_modalities
from .multimodal import (
    JointClassifier, LateFusionClassifier, ModalityGapAnalyzer, ModalityGapClassifier, UDIClassifier, gap_scores,
    modality_contributions,
)  # fmt: skip

__version__ = version("mmestim")
__all__ = [
    "ContributionDisplay", "JointClassifier", "LateFusionClassifier", "ModalityGapAnalyzer", "ModalityGapClassifier",
    "ModalityGapDisplay", "UDIClassifier", "gap_scores", "modality_contributions", "stack_modalities",
]  # fmt: skip
