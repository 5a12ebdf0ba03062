"""Metrics of the detection and of the localization of voice edits."""

from .bootstrap import bootstrap_interval
from .detection import detection_report, equal_error_rate, expected_calibration_error, per_label_scores
from .segments import (
    boundary_scores,
    localization_report,
    segment_average_precision,
    segment_average_recall,
    segment_f1,
)

__all__ = [
    "bootstrap_interval",
    "boundary_scores",
    "detection_report",
    "equal_error_rate",
    "expected_calibration_error",
    "localization_report",
    "per_label_scores",
    "segment_average_precision",
    "segment_average_recall",
    "segment_f1",
]
