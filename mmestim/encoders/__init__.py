"""Encoders: networks that map the block of one modality to a feature vector."""

from .choice import build_encoder
from .conv import ConvEncoder
from .linear import LinearEncoder
from .mlp import MLPEncoder
from .standardize import Standardize

__all__ = ["ConvEncoder", "LinearEncoder", "MLPEncoder", "Standardize", "build_encoder"]
