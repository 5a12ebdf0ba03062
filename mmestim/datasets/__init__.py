"""Multimodal data sets: views of digits, a synthetic model with known posteriors, loaders of real data, and speech."""

from .digit_views import load_digit_views
from .imbalanced import make_imbalanced_modalities
from .loaders import load_av_digits, load_mfeat
from .modality_model import ModalityModel
from .sample_speech import load_sample_speech

__all__ = [
    "ModalityModel",
    "load_av_digits",
    "load_digit_views",
    "load_mfeat",
    "load_sample_speech",
    "make_imbalanced_modalities",
]
