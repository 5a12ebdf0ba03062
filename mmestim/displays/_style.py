"""Colours of the displays, and the import of matplotlib, which is delayed until a display is drawn."""

from __future__ import annotations

from types import ModuleType

# Palette of Okabe and Ito, which is safe for colour-blind readers. The first three colours also differ in greyscale.
COLORS = ("#0072B2", "#E69F00", "#F0E442", "#009E73", "#CC79A7", "#56B4E9")


def import_pyplot() -> ModuleType:
    """Return matplotlib.pyplot, or raise an ImportError that explains how to install it."""
    try:
        import matplotlib.pyplot as pyplot
    except ImportError as error:
        raise ImportError(
            'Displays require matplotlib, which is not installed: pip install "mmestim[plot]".'
        ) from error
    return pyplot
