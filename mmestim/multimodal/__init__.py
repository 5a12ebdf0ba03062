"""Classifiers of several modalities."""

from .joint import JointClassifier
from .late import LateFusionClassifier
from .udi import UDIClassifier

__all__ = ["JointClassifier", "LateFusionClassifier", "UDIClassifier"]
