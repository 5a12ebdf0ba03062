"""scikit-learn-style estimators for multimodal data in which no modality is wasted."""

from importlib.metadata import version

from .modalities import stack_modalities
from .multimodal import JointClassifier, LateFusionClassifier, UDIClassifier

__version__ = version("mmestim")
__all__ = ["JointClassifier", "LateFusionClassifier", "UDIClassifier", "stack_modalities"]
