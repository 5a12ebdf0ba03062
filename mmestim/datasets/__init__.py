"""Data sets: views of digits, a synthetic model with known posteriors, loaders of real data and folders, and speech."""

from ._folders.ave import load_ave
from ._folders.crema_d import load_crema_d
from ._folders.kinetics_sounds import load_kinetics_sounds
from ._folders.mailabs import load_mailabs
from ._folders.ravdess import load_ravdess
from ._folders.ucf101 import load_ucf101
from .digit_views import load_digit_views
from .imbalanced import make_imbalanced_modalities
from .loaders import load_av_digits, load_mfeat
from .modality_model import ModalityModel
from .sample_speech import load_sample_speech

__all__ = [
    "ModalityModel",
    "load_av_digits",
    "load_ave",
    "load_crema_d",
    "load_digit_views",
    "load_kinetics_sounds",
    "load_mailabs",
    "load_mfeat",
    "load_ravdess",
    "load_sample_speech",
    "load_ucf101",
    "make_imbalanced_modalities",
]
