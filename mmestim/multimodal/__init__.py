"""Classifiers of several modalities, and what their disagreement says of the data."""

from .contributions import gap_scores
from .diagnosis import Diagnosis, diagnose
from .joint import JointClassifier
from .late import LateFusionClassifier
from .modality_gap import ModalityGapAnalyzer
from .modality_gap_classifier import ModalityGapClassifier
from .shapley import modality_contributions
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
