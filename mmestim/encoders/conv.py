"""Convolutional encoder for signals, images and spectrograms."""

from __future__ import annotations

import torch
from torch import nn

from .standardize import Shape, Standardize


class ConvEncoder(nn.Module):
    """Three normalised convolutions, pooled to a coarse grid, and one fully connected layer.

    >>> import torch
    >>> from mmestim.encoders import ConvEncoder
    >>> ConvEncoder((3, 28, 28), embedding_dim=8, n_dims=2)(torch.zeros(2, 3, 28, 28)).shape
    torch.Size([2, 8])

    Groups are normalised instead of batches. The features of a row then depend on that row alone, in
    training and in prediction, whichever modalities other rows lack.

    `forward` maps a batch of shape ``(n_samples, *input_shape)`` to features of shape
    (n_samples, embedding_dim).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample: (length,) or (channels, length) for signals, and (height, width) or
        (channels, height, width) for images and spectrograms.
    embedding_dim : int
        Length of the feature vector.
    n_dims : {1, 2}
        Number of axes to convolve over: 1 for signals, 2 for images and spectrograms.

    Attributes
    ----------
    standardize : Standardize
        Input statistics, one per channel.
    layers : nn.Sequential
        Convolutions, pooling and the fully connected layer.

    Raises
    ------
    ValueError
        If `input_shape` has neither `n_dims` nor ``n_dims + 1`` axes.
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
        # Raw signals are long and smooth, so they need wider kernels and strides than images.
        kernel, stride = ((9, 4), (3, 2))[n_dims - 1]
        layers: list[nn.Module] = [nn.Identity() if has_channels else nn.Unflatten(1, (1, input_shape[0]))]
        for n_in, n_out in ((channels, 16), (16, 32), (32, 64)):
            layers += [conv(n_in, n_out, kernel, stride, padding=kernel // 2), nn.GroupNorm(8, n_out), nn.ReLU()]
        grid = 4**n_dims
        layers += [pool(4), nn.Flatten(), nn.Linear(64 * grid, embedding_dim), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardize(x))
