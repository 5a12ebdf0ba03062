"""Saving and loading of fitted estimators without pickle."""

from .description import describe
from .save_load import load, save

__all__ = ["describe", "load", "save"]
