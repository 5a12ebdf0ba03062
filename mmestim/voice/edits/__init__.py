"""The edits, by the labels of the taxonomy."""

from . import encoding, modulation, source, spatial, spectral, temporal
from .base import AudioPool, Edit, Edited

_ROOMS = (source, temporal, modulation, encoding, spectral, spatial)
EDITS: dict[str, Edit] = {
    value.name: value()
    for room in _ROOMS
    for value in vars(room).values()
    if isinstance(value, type) and issubclass(value, Edit) and hasattr(value, "name")
}

__all__ = ["EDITS", "AudioPool", "Edit", "Edited"]
