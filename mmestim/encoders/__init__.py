"""Encoders: networks that map the block of one modality to a feature vector."""

from .augmentation import Augmentation, Augmented, MaskSpectrogram, RandomCropFlip
from .choice import build_encoder
from .conv import ConvEncoder
from .resnet import ResNet18Encoder
from .standardize import ImageNetStandardize, SoftStandardize, Standardize
from .text import TextEncoder
from .vectors import LinearEncoder, MLPEncoder, PeriodicEmbedding, TabularEncoder
from .wrapped import Wrapped

__all__ = [
    "Augmentation",
    "Augmented",
    "ConvEncoder",
    "ImageNetStandardize",
    "LinearEncoder",
    "MLPEncoder",
    "MaskSpectrogram",
    "PeriodicEmbedding",
    "RandomCropFlip",
    "ResNet18Encoder",
    "SoftStandardize",
    "Standardize",
    "TabularEncoder",
    "TextEncoder",
    "Wrapped",
    "build_encoder",
]
