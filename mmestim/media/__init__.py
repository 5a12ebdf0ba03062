"""Files and texts as modalities: readers of audio, images, video and text, and the cache of what they read."""

from ._base import MediaError, Reader, Sample
from .frozen_features import FrozenFeatures
from .image_pixels import ImagePixels
from .spectrogram import LogMelSpectrogram, Spectrogram
from .text_tokens import TextTokens
from .transformer import MediaTransformer
from .video_frames import VideoFrames
from .waveform import Waveform

__all__ = [
    "FrozenFeatures",
    "ImagePixels",
    "LogMelSpectrogram",
    "MediaError",
    "MediaTransformer",
    "Reader",
    "Sample",
    "Spectrogram",
    "TextTokens",
    "VideoFrames",
    "Waveform",
]
