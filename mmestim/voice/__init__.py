"""Voice edits: what is done to recordings, simulated, and found again."""

from .edits import EDITS
from .taxonomy import CATEGORIES, LABELS, TAXONOMY
from .time_map import TimeMap

__all__ = ["CATEGORIES", "EDITS", "LABELS", "TAXONOMY", "TimeMap"]
