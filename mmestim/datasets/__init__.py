"""Multimodal data sets: views of digits, a synthetic model with known posteriors, and two loaders of real data."""

from .digit_views import load_digit_views
from .imbalanced import make_imbalanced_modalities
from .loaders import load_av_digits, load_mfeat
from .modality_model import ModalityModel

__all__ = ["ModalityModel", "load_av_digits", "load_digit_views", "load_mfeat", "make_imbalanced_modalities"]
