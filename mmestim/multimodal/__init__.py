"""Multimodal classifiers, and the analysis of the gaps and contributions of their modalities."""

from ._analysis.modality_gap import ModalityGapAnalyzer
from ._analysis.shapley import modality_contributions
from ._analysis.true_class_scores import gap_scores
from .diagnosis import Diagnosis, diagnose
from .joint import JointClassifier
from .late_fusion import LateFusionClassifier
from .modality_gap_classifier import ModalityGapClassifier
from .udi import UDIClassifier

__all__ = [
    "Diagnosis",
    "JointClassifier",
    "LateFusionClassifier",
    "ModalityGapAnalyzer",
    "ModalityGapClassifier",
    "UDIClassifier",
    "diagnose",
    "gap_scores",
    "modality_contributions",
]
