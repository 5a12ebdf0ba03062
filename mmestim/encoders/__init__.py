"""Encoders: networks that map the block of one modality to a feature vector."""

from .choice import build_encoder
from .conv import ConvEncoder
from .linear import LinearEncoder
from .mlp import MLPEncoder
from .periodic import PeriodicEmbedding
from .standardize import SoftStandardize, Standardize
from .tabular import TabularEncoder

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
