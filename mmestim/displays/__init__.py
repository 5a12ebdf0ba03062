"""Plots of the results of estimators."""

from .contributions import ContributionDisplay
from .diagnosis import DiagnosisDisplay
from .gap import ModalityGapDisplay
from .timeline import EditTimelineDisplay

__all__ = ["ContributionDisplay", "DiagnosisDisplay", "EditTimelineDisplay", "ModalityGapDisplay"]
