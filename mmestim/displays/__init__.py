"""Pictures of what the estimators found."""

from .contributions import ContributionDisplay
from .diagnosis import DiagnosisDisplay
from .gap import ModalityGapDisplay

__all__ = ["ContributionDisplay", "DiagnosisDisplay", "ModalityGapDisplay"]
