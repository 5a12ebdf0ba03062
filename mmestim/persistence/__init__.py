"""Fitted estimators as files without pickles."""

from .save_load import describe, load, save

__all__ = ["describe", "load", "save"]
