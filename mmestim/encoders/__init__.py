"""Encoders: networks that map the block of one modality to a feature vector."""

from .choice import build_encoder
from .conv import ConvEncoder
from .standardize import SoftStandardize, Standardize
from .vectors import LinearEncoder, MLPEncoder, PeriodicEmbedding, TabularEncoder

__all__ = [
    "ConvEncoder",
    "LinearEncoder",
    "MLPEncoder",
    "PeriodicEmbedding",
    "SoftStandardize",
    "Standardize",
    "TabularEncoder",
    "build_encoder",
]
