"""Standardisation of blocks inside encoders."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from .augmentation import behind_augmentations

Shape = tuple[int, ...]

# Mean and standard deviation of the pixels of ImageNet in red, green and blue, on a scale from 0 to 1.
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Smallest maximum of pixels on a scale from 0 to 255; what is between 1 and this number has neither scale.
_MIN_BYTE_RANGE = 16

# Constants of `SoftStandardize`, chosen on validation rows of real and synthetic sets.
REFERENCE_WIDTH = 64  # largest sum of the squared weights, reached at this number of columns
MAX_DEVIATION = 4.0  # limit of standardised values
MAX_WEIGHT = 4.0  # limit of the ratio between a weight and the typical one
LARGE_LOG_SPREAD = 0.8  # standard deviation of log spreads above which columns seem to have different units


class Standardize(nn.Module):
    """Standardisation of inputs by statistics of the training rows, which are set once before training.

    >>> import torch
    >>> from mmestim.encoders import Standardize
    >>> standardize = Standardize((1,))
    >>> standardize.fit([torch.tensor([[1.0], [3.0]])])
    >>> standardize(torch.tensor([[5.0]]))
    tensor([[3.]])

    Built-in encoders begin with it, so that columns of any scale train with the same learning rate.
    Before `fit` it returns inputs unchanged. `forward` keeps the shape of its input.

    Parameters
    ----------
    shape : tuple of int
        Shape of the statistics: the shape of a sample, with size 1 on axes that are pooled.

    Attributes
    ----------
    mean : Tensor
        Mean of the training rows, of shape `shape`.
    scale : Tensor
        Reciprocal of the standard deviation, of shape `shape`; 1 for constant columns.
    is_fitted : Tensor
        Boolean tensor without axes: whether the statistics are set.
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
        """Set the statistics in one pass over the training rows.

        Parameters
        ----------
        batches : iterable of Tensor
            Batches of training rows, each of shape ``(n_rows, *sample_shape)``.
        """
        # Pooling an axis whose samples have size 1 too changes nothing.
        pooled = [0, *(axis + 1 for axis, size in enumerate(self.mean.shape) if size == 1)]
        count, mean, sum_of_squares = 0.0, torch.zeros(()), torch.zeros(())
        for x in batches:
            variance, center = torch.var_mean(x.double(), dim=pooled, correction=0)
            weight, delta = len(x), center - mean
            # With Chan's update the statistics do not depend on the batch size.
            mean = mean + delta * weight / (count + weight)
            sum_of_squares = sum_of_squares + variance * weight + delta**2 * count * weight / (count + weight)
            count += weight
        deviation = (sum_of_squares / max(count, 1)).sqrt()
        constant = deviation <= 1e-7 * mean.abs()
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.scale.copy_(torch.where(constant, 1.0, 1 / deviation).reshape(self.scale.shape))
        self._fit_deviation(deviation, constant)
        self.is_fitted.fill_(True)

    def _fit_deviation(self, deviation: torch.Tensor, constant: torch.Tensor) -> None:
        """Set further statistics from the standard deviations and the mask of constant columns."""


class SoftStandardize(Standardize):
    """Standardisation for tables, which limits outliers and keeps part of the columns' relative spread.

    >>> import torch
    >>> from mmestim.encoders import SoftStandardize
    >>> standardize = SoftStandardize((3,))
    >>> standardize.fit([torch.tensor([[-1.0, -2.0, 5.0], [1.0, 2.0, 5.0]])])
    >>> standardize(torch.tensor([[1.0, 2.0, 6.0]]))
    tensor([[0.6136, 1.2271, 0.0000]])

    Each column is standardised, limited smoothly to 4 standard deviations by ``z / sqrt(1 + (z / 4)**2)``
    and multiplied by its weight. To weigh all columns equally inflates faint ones, which often are
    noise; to weigh them by their spread lets the unit of a column decide. Weights are therefore the
    spread, relative to the geometric mean of the block, where spreads differ little. The more they
    differ, the nearer weights are to 1, since columns then have different units: the exponent of the
    spread is the square of 0.8 over the standard deviation of its logarithm, and 1 at most. Weights are
    clipped to a factor of 4 either way. Constant columns weigh 0, whatever their values are later.

    The squared weights of a block have a mean of 1, but a sum of 64 at most. With optimizers whose steps
    do not depend on the size of gradients, such as AdamW, networks of wide blocks would learn too fast
    otherwise. One pass over the training rows suffices.

    Parameters
    ----------
    shape : tuple of int
        Shape of a sample.

    Attributes
    ----------
    mean : Tensor
        Mean of the training rows, of shape `shape`.
    scale : Tensor
        Reciprocal of the standard deviation, of shape `shape`; 1 for constant columns.
    weight : Tensor
        Weight of each column, of shape `shape`; 0 for constant columns.
    is_fitted : Tensor
        Boolean tensor without axes: whether the statistics are set.
    """

    weight: torch.Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.register_buffer("weight", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = ((x - self.mean) * self.scale).clamp(-1e9, 1e9)  # so that the square is finite
        return z * torch.rsqrt(1 + (z / MAX_DEVIATION).square()) * self.weight

    def _fit_deviation(self, deviation: torch.Tensor, constant: torch.Tensor) -> None:
        if constant.all():
            self.weight.zero_()
            return
        log_spread = deviation.log()
        varying = log_spread[~constant]
        log_spread = log_spread - varying.mean()
        exponent = (LARGE_LOG_SPREAD / varying.std(correction=0).clamp(min=LARGE_LOG_SPREAD)).square()
        limit = math.log(MAX_WEIGHT)
        weight = (exponent * log_spread).clamp(-limit, limit).exp().masked_fill(constant, 0)
        weight = weight * (min(len(varying), REFERENCE_WIDTH) / weight.square().sum()).sqrt()
        self.weight.copy_(weight.reshape(self.weight.shape))


class ImageNetStandardize(Standardize):
    """Standardisation of pixels by the mean and the standard deviation of ImageNet.

    >>> import torch
    >>> from mmestim.encoders import ImageNetStandardize
    >>> standardize = ImageNetStandardize((3, 1, 1))
    >>> standardize.fit([torch.tensor([0.0, 255.0]).expand(3, 3, 1, 2)])
    >>> standardize.mean.flatten()
    tensor([123.6750, 116.2800, 103.5300])

    Networks that were trained on ImageNet expect it. `fit` only finds out the scale of the pixels: 0 to 1
    if no training row exceeds 1, and 0 to 255 if the largest value is between 16 and 255.

    Parameters
    ----------
    shape : tuple of int
        Shape of the statistics, of which one axis has size 3 and the others 1. Without an axis of size 3, for
        grey images, the statistics are the means of the three.

    Attributes
    ----------
    mean : Tensor
        Mean of ImageNet on the scale of the training rows, of shape `shape`.
    scale : Tensor
        Reciprocal of the standard deviation, of shape `shape`.
    is_fitted : Tensor
        Boolean tensor without axes: whether the scale is known. Before, it is 0 to 1.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self._set(1.0)

    @torch.no_grad()
    def fit(self, batches: Iterable[torch.Tensor]) -> None:
        """Set the scale of the pixels in one pass over the training rows.

        Parameters
        ----------
        batches : iterable of Tensor
            Batches of training rows, each of shape ``(n_rows, *sample_shape)``.

        Raises
        ------
        ValueError
            If the values have neither of the two scales.
        """
        ranges = [(float(x.min()), float(x.max())) for x in batches]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        if low < 0 or 1 < high < _MIN_BYTE_RANGE or high > 255:
            raise ValueError(
                f"its statistics are those of ImageNet, for pixels from 0 to 1 or from 0 to 255, but values are from "
                f"{low:g} to {high:g}: scale them, or pass statistics='rows' to standardise them by the training rows, "
                "or statistics=None if they are standardised already."
            )
        self._set(1.0 if high <= 1 else 255.0)
        self.is_fitted.fill_(True)

    @torch.no_grad()
    def _set(self, largest: float) -> None:
        mean, deviation = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_DEVIATION)
        if self.mean.numel() == 1:
            mean, deviation = mean.mean(), deviation.mean()
        self.mean.copy_((largest * mean).reshape(self.mean.shape))
        self.scale.copy_((1 / (largest * deviation)).reshape(self.scale.shape))


def input_statistics(encoder: nn.Module) -> Standardize | None:
    """Return the layer named `standardize` of an encoder, behind augmentations, or None if it has none."""
    layer = getattr(behind_augmentations(encoder), "standardize", None)
    return layer if isinstance(layer, Standardize) else None


def fit_statistics(encoder: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the input statistics of an encoder, unless they are set already.

    Parameters
    ----------
    encoder : nn.Module
        The encoder. Without a `Standardize` layer named `standardize` it is left unchanged.
    batches : iterable of Tensor
        Batches of training rows.
    """
    standardize = input_statistics(encoder)
    if standardize is not None and not standardize.is_fitted:
        standardize.fit(batches)
