"""Networks from one modality's block to a feature vector, and the choice of one by the block's shape."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from .._utils.validation import check_choice
from ._shapes import Shape
from .conv import ConvEncoder
from .linear import LinearEncoder
from .mlp import MLPEncoder
from .standardize import Standardize

ENCODERS = {
    "linear": LinearEncoder,
    "mlp": MLPEncoder,
    "conv1d": partial(ConvEncoder, n_dims=1),
    "conv2d": partial(ConvEncoder, n_dims=2),
}


def build_encoder(
    encoder: Any, name: str, shape: Shape, *, is_signal: bool, embedding_dim: int, names: Iterable[str]
) -> tuple[nn.Module, int]:
    """A new encoder for modality `name` and the length of its feature vectors.

    Parameters
    ----------
    encoder : str, type, callable, nn.Module or dict
        The estimator's parameter.
    name : str
        The modality.
    shape : tuple of int
        Shape of one of its samples.
    is_signal : bool
        Whether a one-axis shape was given on purpose, which marks a signal rather than a vector.
    embedding_dim : int
        Length of feature vectors that built-in encoders give and that factories are asked for.
    names : iterable of str
        All modalities, to check the keys of a dict.

    Returns
    -------
    encoder : nn.Module
        The encoder, on torch's default device: the CPU but for a network that is only sketched.
    n_features : int
        Length of its feature vectors.
    """
    if isinstance(encoder, Mapping) and (unknown := set(encoder) - set(names)):
        raise ValueError(f"encoder names {sorted(unknown)}, which are no modalities. They are {list(names)}.")
    encoder = encoder_for(encoder, name)
    if isinstance(encoder, str):
        check_choice("encoder", encoder, ["auto", *ENCODERS], ", an nn.Module class, a factory or a dict of these")
        factory = ENCODERS[_by_shape(name, shape, is_signal) if encoder == "auto" else encoder]
        # Ours need no trial, which for a network that is only sketched imports half of torch.
        return _call(factory, name, shape, embedding_dim), int(embedding_dim)
    if isinstance(encoder, nn.Module):
        module = copy.deepcopy(encoder).to(torch.empty(0).device)
    else:
        module = _call(encoder, name, shape, embedding_dim)
    return module, _feature_length(module, name, shape)


def encoder_for(encoder: Any, name: str) -> Any:
    """What the estimator's parameter says for modality `name`; of our encoders their names."""
    return encoder.get(name, "auto") if isinstance(encoder, Mapping) else encoder


def fit_statistics(encoder: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the input statistics of a built-in encoder; one that has them, or is not ours, is left alone."""
    standardize = getattr(encoder, "standardize", None)
    if isinstance(standardize, Standardize) and not standardize.is_fitted:
        standardize.fit(batches)


def _by_shape(name, shape, is_signal):
    if len(shape) == 1:
        return "conv1d" if is_signal else "mlp"
    if len(shape) > 3:
        raise ValueError(
            f"encoder='auto' has no network for modality {name!r} with samples of shape {shape}: it knows vectors, "
            f"signals, (height, width) and (channels, height, width). Pass encoder={{{name!r}: YourModule}}."
        )
    return "conv2d"


def _call(factory, name, shape, embedding_dim):
    if not callable(factory):
        raise TypeError(
            f"encoder={factory!r} for modality {name!r} must be a name, an nn.Module, a class or factory of one, "
            "or a dict."
        )
    offered = {"input_shape": shape, "embedding_dim": embedding_dim}
    try:
        accepted = inspect.signature(factory).parameters
    except ValueError:  # Some callables written in C have no signature.
        accepted = {}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    given = {key: value for key, value in offered.items() if takes_all or key in accepted}
    try:
        module = factory(**given)
    except TypeError as error:
        raise TypeError(
            f"encoder for modality {name!r} cannot be made from {list(given) or 'no arguments'}: {error}. Pass an "
            "instance, or a factory that takes input_shape and embedding_dim or nothing."
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"encoder for modality {name!r} returned {type(module).__name__}, expected a torch.nn.Module.")
    return module


def _feature_length(module, name, shape):
    """Length of the encoder's output, from a try on two rows, which also gives lazy layers their sizes."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            features = module(torch.zeros(2, *shape))
    except Exception as error:
        raise ValueError(
            f"encoder for modality {name!r} fails on a batch of shape {(2, *shape)}: {error}. Set shapes to what it "
            "expects, or choose another encoder."
        ) from error
    module.train(training)
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 2:
        got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise ValueError(
            f"encoder for modality {name!r} gives {got} for a batch of shape {(2, *shape)}, expected (2, n_features): "
            "end it with nn.Flatten() or a pooling."
        )
    return features.shape[1]
