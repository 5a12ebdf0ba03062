"""Constants of all models."""

from __future__ import annotations

RATE = 16000
