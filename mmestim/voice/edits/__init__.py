"""Edits, by the labels of the taxonomy."""

from . import encoding, modulation, source, spatial, spectral, temporal
from .base import AudioPool, Edit, Edited

_MODULES = (source, temporal, modulation, encoding, spectral, spatial)
EDITS: dict[str, Edit] = {
    value.name: value()
    for module in _MODULES
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Edit) and hasattr(value, "name")
}

__all__ = ["EDITS", "AudioPool", "Edit", "Edited"]
