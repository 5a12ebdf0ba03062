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

Shape = tuple[int, ...]


class Standardize(nn.Module):
    """Inputs shifted and scaled by statistics of the training rows, set once before training.

    Built-in encoders begin with it, so that columns of any scale train with the same learning rate.

    Parameters
    ----------
    shape : tuple of int
        Shape of the statistics, that of a sample; axes of size one share theirs.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    is_fitted: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("is_fitted", torch.tensor(False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) * self.scale

    @torch.no_grad()
    def fit(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the statistics from one pass over batches of training rows."""
        # An average over an axis of one is the value itself, so pooling them all is safe.
        pooled = [0, *(axis + 1 for axis, size in enumerate(self.mean.shape) if size == 1)]
        count, mean, spread = 0.0, torch.zeros(()), torch.zeros(())
        for x in batches:
            variance, center = torch.var_mean(x.double(), dim=pooled, correction=0)
            weight, delta = len(x), center - mean
            # Chan's update: the statistics do not depend on how rows fall into batches.
            mean = mean + delta * weight / (count + weight)
            spread = spread + variance * weight + delta**2 * count * weight / (count + weight)
            count += weight
        deviation = (spread / max(count, 1)).sqrt()
        constant = deviation <= 1e-7 * mean.abs()
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.scale.copy_(torch.where(constant, 1.0, 1 / deviation).reshape(self.scale.shape))
        self.is_fitted.fill_(True)


class LinearEncoder(nn.Module):
    """One affine map of the flattened sample."""

    def __init__(self, input_shape: Shape, embedding_dim: int) -> None:
        super().__init__()
        self.standardize = Standardize(input_shape)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(_numel(input_shape), embedding_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))


class MLPEncoder(nn.Module):
    """Two fully connected layers on the flattened sample."""

    def __init__(self, input_shape: Shape, embedding_dim: int) -> None:
        super().__init__()
        hidden = 2 * embedding_dim
        self.standardize = Standardize(input_shape)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(_numel(input_shape), hidden), nn.ReLU(), nn.Linear(hidden, embedding_dim), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))


class ConvEncoder(nn.Module):
    """Three normalised convolutions, pooled to a coarse grid, and one fully connected layer.

    Group normalisation rather than batch normalisation: a row's features then depend on that row
    alone, in training as in prediction, whatever rows or modalities are absent beside it.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample: its last `n_dims` axes, with or without a channel axis before them.
    embedding_dim : int
        Length of the feature vector.
    n_dims : {1, 2}
        Axes to convolve over: 1 for signals, 2 for images and spectrograms.
    """

    def __init__(self, input_shape: Shape, embedding_dim: int, n_dims: int) -> None:
        super().__init__()
        if not n_dims <= len(input_shape) <= n_dims + 1:
            raise ValueError(
                f"conv{n_dims}d needs samples of rank {n_dims}, or {n_dims + 1} with channels first; got {input_shape}."
            )
        has_channels = len(input_shape) > n_dims
        channels = input_shape[0] if has_channels else 1
        self.standardize = Standardize((channels, *(1,) * n_dims) if has_channels else (1,) * n_dims)
        conv, pool = ((nn.Conv1d, nn.AdaptiveAvgPool1d), (nn.Conv2d, nn.AdaptiveAvgPool2d))[n_dims - 1]
        # A raw signal is long and smooth: wide kernels and strides see as much of it as 3 x 3 of an image.
        kernel, stride = ((9, 4), (3, 2))[n_dims - 1]
        layers: list[nn.Module] = [nn.Identity() if has_channels else nn.Unflatten(1, (1, input_shape[0]))]
        for n_in, n_out in ((channels, 16), (16, 32), (32, 64)):
            layers += [conv(n_in, n_out, kernel, stride, padding=kernel // 2), nn.GroupNorm(8, n_out), nn.ReLU()]
        grid = 4**n_dims
        layers += [pool(4), nn.Flatten(), nn.Linear(64 * grid, embedding_dim), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))


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
    encoder = encoder_of(encoder, name)
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


def encoder_of(encoder: Any, name: str) -> Any:
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


def _numel(shape):
    return torch.Size(shape).numel()
