"""Saving and loading of fitted estimators without pickle, and their export."""

from .description import describe
from .onnx import to_onnx
from .save_load import load, save

__all__ = ["describe", "load", "save", "to_onnx"]
