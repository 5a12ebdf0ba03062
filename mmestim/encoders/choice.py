"""Choice of an encoder by its name, by the shape of the block, or from the user's class, factory or module."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from .._utils.validation import check_choice
from .augmentation import Augmented, MaskSpectrogram, RandomCropFlip
from .conv import ConvEncoder
from .resnet import ResNet18Encoder
from .standardize import Shape
from .text import TextEncoder
from .trial import count_features
from .vectors import LinearEncoder, MLPEncoder, TabularEncoder

EncoderName = Literal["tabular", "mlp", "linear", "conv1d", "conv2d", "resnet18", "text"]
Encoder = Literal["auto"] | EncoderName | nn.Module | Callable[..., nn.Module] | Augmented

ENCODERS: dict[EncoderName, Callable[..., nn.Module]] = {
    "tabular": TabularEncoder,
    "linear": LinearEncoder,
    "mlp": MLPEncoder,
    "conv1d": partial(ConvEncoder, n_dims=1),
    "conv2d": partial(ConvEncoder, n_dims=2),
    "resnet18": ResNet18Encoder,
    "text": TextEncoder,
}
ENCODER_CLASSES = tuple(getattr(factory, "func", factory) for factory in ENCODERS.values())
AUGMENTATION_CLASSES = (MaskSpectrogram, RandomCropFlip)

# Built-in encoders that do not take every batch: of one row, or with values beyond a vocabulary.
_TRIED = ("resnet18", "text")


def build_encoder(
    encoder: Encoder | Mapping[str, Encoder],
    name: str,
    shape: Shape,
    *,
    is_signal: bool,
    embedding_dim: int,
    names: Iterable[str],
) -> tuple[nn.Module, int]:
    """Create the encoder of one modality.

    Parameters
    ----------
    encoder : {'auto', 'tabular', 'mlp', 'linear', 'conv1d', 'conv2d', 'resnet18', 'text'}, nn.Module, callable or dict
        Name, class, factory or instance of the encoder, one of these with augmentations, or a dict of modality to one
        of these. A class or factory is called with those of `input_shape` and `embedding_dim` that it accepts and a
        `functools.partial` has not set; an instance is copied.
    name : str
        The modality.
    shape : tuple of int
        Shape of one sample of the modality.
    is_signal : bool
        Whether a shape with one axis was given explicitly. 'auto' then chooses a convolution over that axis.
    embedding_dim : int
        Length of the feature vectors of built-in encoders, and the value offered to factories.
    names : iterable of str
        All modalities, to check the keys of a dict.

    Returns
    -------
    encoder : nn.Module
        The encoder, on torch's default device.
    n_features : int
        Length of its feature vectors.

    Raises
    ------
    TypeError
        If the encoder is of another type, or its factory fails or returns no module.
    ValueError
        If the name is unsupported, a dict has a key that is not a modality, or the encoder does not map a batch of two
        zeros to a matrix of features.

    Examples
    --------
    >>> from mmestim.encoders import build_encoder
    >>> encoder, n_features = build_encoder(
    ...     "auto", "image", (28, 28), is_signal=False, embedding_dim=64, names=["image"]
    ... )
    >>> type(encoder).__name__, n_features
    ('ConvEncoder', 64)
    """
    if isinstance(encoder, Mapping) and (unknown := set(encoder) - set(names)):
        raise ValueError(f"encoder names {sorted(unknown)}, which are not modalities. They are {list(names)}.")
    encoder = encoder_for(encoder, name)
    if isinstance(encoder, Augmented):
        module, n_features = build_encoder(
            {name: encoder.encoder}, name, shape, is_signal=is_signal, embedding_dim=embedding_dim, names=names
        )
        return nn.Sequential(*copy.deepcopy(encoder.augmentations), module), n_features
    if isinstance(encoder, str):
        check_choice("encoder", encoder, ["auto", *ENCODERS], ", an nn.Module class, a factory or a dict of these")
        factory = ENCODERS[_choose_by_shape(name, shape, is_signal) if encoder == "auto" else encoder]
        # Built-in encoders need no trial batch, which on the meta device would import many modules of torch.
        return _call_factory(factory, name, shape, embedding_dim), int(embedding_dim)
    if isinstance(encoder, nn.Module):
        module = copy.deepcopy(encoder).to(torch.empty(0).device)
    else:
        module = _call_factory(encoder, name, shape, embedding_dim)
    return module, count_features(module, name, shape)


def encoder_for(encoder: Encoder | Mapping[str, Encoder], name: str) -> Encoder:
    """Return the entry of the parameter `encoder` for modality `name`; built-in encoders are given by name."""
    return encoder.get(name, "auto") if isinstance(encoder, Mapping) else encoder


def is_tried(encoder: Any) -> bool:
    """Return whether an entry of the parameter `encoder` is tried on rows before training, because it may fail."""
    return not isinstance(encoder, str) or encoder in _TRIED


def is_built_in(encoder: Any) -> bool:
    """Return whether an entry of the parameter `encoder` contains no code of the user."""
    if isinstance(encoder, Augmented):
        return is_built_in(encoder.encoder) and all(
            type(part) in AUGMENTATION_CLASSES for part in encoder.augmentations
        )
    return isinstance(encoder, str) or (encoder.func if isinstance(encoder, partial) else encoder) in ENCODER_CLASSES


def _choose_by_shape(name: str, shape: Shape, is_signal: bool) -> EncoderName:
    if len(shape) == 1:
        return "conv1d" if is_signal else "tabular"
    if len(shape) > 3:
        raise ValueError(
            f"encoder='auto' has no network for modality {name!r} with samples of shape {shape}: it supports vectors, "
            f"signals, (height, width) and (channels, height, width). Pass encoder={{{name!r}: 'resnet18'}} for frames "
            f"of shape (frames, channels, height, width), or encoder={{{name!r}: YourModule}}."
        )
    return "conv2d"


def _call_factory(factory: Any, name: str, shape: Shape, embedding_dim: int) -> nn.Module:
    if not callable(factory):
        raise TypeError(
            f"encoder={factory!r} for modality {name!r} must be a name, an nn.Module, a class or factory of one, "
            "or a dict."
        )
    offered = {"input_shape": shape, "embedding_dim": embedding_dim}
    accepted: Mapping[str, inspect.Parameter]
    try:
        accepted = inspect.signature(factory).parameters
    except ValueError:  # Some callables written in C have no signature.
        accepted = {}
    accepts_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    already_set = factory.keywords if isinstance(factory, partial) else {}
    arguments = {k: v for k, v in offered.items() if (accepts_any or k in accepted) and k not in already_set}
    try:
        module = factory(**arguments)
    except TypeError as error:
        raise TypeError(
            f"encoder for modality {name!r} cannot be created from {list(arguments) or 'no arguments'}: {error}. Pass "
            "an instance, or a factory that takes input_shape and embedding_dim or nothing."
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"encoder for modality {name!r} returned {type(module).__name__}, expected a torch.nn.Module.")
    return module
