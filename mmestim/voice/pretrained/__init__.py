"""The detector that comes with the package: its file, its card, and what built it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

__all__ = ["pretrained_file"]


def pretrained_file() -> AbstractContextManager[Path]:
    """Return a context whose value is the path of the detector's file.

    `write_report` and `write_results` take the path as `model`, and write its hash.

    Returns
    -------
    context manager of Path
        Context of the path, which may be that of a temporary copy.

    Examples
    --------
    >>> from mmestim.voice.pretrained import pretrained_file
    >>> with pretrained_file() as path:
    ...     path.name
    'detector.mme'
    """
    return as_file(files(__name__) / "detector.mme")
