"""scikit-learn-style estimators for balanced multimodal learning and for the detection of voice edits."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from . import balancers
from ._data.containers import SliceDict
from ._data.modalities import stack_modalities
from .displays import ContributionDisplay, DiagnosisDisplay, EditTimelineDisplay, ModalityGapDisplay
from .multimodal import (
    Diagnosis,
    JointClassifier,
    LateFusionClassifier,
    ModalityGapAnalyzer,
    ModalityGapClassifier,
    UDIClassifier,
    diagnose,
    gap_scores,
    modality_contributions,
)
from .persistence import load, save, to_onnx

if TYPE_CHECKING:
    from .voice import VoiceEditDetector

__version__ = version("mmestim")
__all__ = [
    "ContributionDisplay",
    "Diagnosis",
    "DiagnosisDisplay",
    "EditTimelineDisplay",
    "JointClassifier",
    "LateFusionClassifier",
    "ModalityGapAnalyzer",
    "ModalityGapClassifier",
    "ModalityGapDisplay",
    "SliceDict",
    "UDIClassifier",
    "VoiceEditDetector",
    "balancers",
    "diagnose",
    "gap_scores",
    "load",
    "modality_contributions",
    "save",
    "stack_modalities",
    "to_onnx",
]


if not TYPE_CHECKING:  # Type checkers would accept every name.

    def __getattr__(name: str) -> Any:
        # Import lazily: the audio libraries take as long to import as the rest of the package.
        if name == "VoiceEditDetector":
            from .voice import VoiceEditDetector

            return VoiceEditDetector
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
