"""Fitted estimators as files without pickles."""

from .description import describe
from .save_load import load, save

__all__ = ["describe", "load", "save"]
