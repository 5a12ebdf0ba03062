"""The detector that comes with the package: its file, its card, and what built it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path


def pretrained_file() -> AbstractContextManager[Path]:
    """Return a context whose value is the path of the detector's file."""
    return as_file(files(__name__) / "detector.mme")
