"""Augmentation: random changes of the training rows inside a network, on its device."""

from __future__ import annotations

from itertools import dropwhile
from typing import Any

import torch
from torch import nn

from .._utils.validation import check_choice, check_flag, check_number


class Augmentation(nn.Module):
    """Base class of random changes of the rows in training mode; in eval mode rows pass unchanged.

    >>> import torch
    >>> from mmestim.encoders import Augmentation
    >>> class Noise(Augmentation):
    ...     def augment(self, x):
    ...         return x + 0.1 * torch.randn_like(x)
    >>> Noise().eval()(torch.ones(1, 2))
    tensor([[1., 1.]])

    A subclass defines `augment`. It draws from torch's generators on the device of the batch, which fits
    seed by `random_state` and restore afterwards. Every epoch therefore sees other versions of a row, and
    equal seeds give equal fits.

    In a network it stands before the encoder: ``Augmented("conv2d", RandomCropFlip())`` for an encoder
    that the classifier builds, or ``nn.Sequential(RandomCropFlip(), encoder)`` for an instance.

    See Also
    --------
    Augmented : Encoder with augmentations before it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.augment(x) if self.training else x

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """Return changed rows.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            Rows of a batch, as the encoder receives them.

        Returns
        -------
        Tensor of shape (n_samples, ...)
            New tensor; `x` must stay as it is.
        """
        raise NotImplementedError


class RandomCropFlip(Augmentation):
    """Random shifts and horizontal flips of images.

    >>> import torch
    >>> from mmestim.encoders import RandomCropFlip
    >>> RandomCropFlip(padding=1)(torch.rand(8, 3, 28, 28)).shape
    torch.Size([8, 3, 28, 28])

    An image is shifted by up to `padding` pixels along each axis, as if it were padded and cropped again,
    and is mirrored with probability 1/2. All frames and channels of a sample are changed alike.

    Parameters
    ----------
    padding : int, default=4
        Largest shift in pixels.
    flip : bool, default=True
        Whether to mirror images. Digits, letters and spectrograms have a direction: use False for them.

    Notes
    -----
    The protocol of ResNets on small images (He et al. 2016, section 4.2) pads by 4 black pixels. Here the
    pixels at the border are repeated, because 0 is not black on every scale of the input (ours).
    """

    def __init__(self, padding: int = 4, *, flip: bool = True) -> None:
        super().__init__()
        check_number("padding", padding, integer=True)
        check_flag("flip", flip)
        self.padding, self.flip = padding, flip

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """Return shifted and mirrored images.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ..., height, width)
            Images, with any axes before the last two.

        Returns
        -------
        Tensor of shape (n_samples, ..., height, width)
            New images.
        """
        _check_axes(type(self).__name__, x)
        n, (height, width), device = len(x), x.shape[-2:], x.device
        columns = self._shifted(n, width, device)
        if self.flip:
            is_flipped = torch.rand(n, 1, device=device) < 0.5
            columns = torch.where(is_flipped, columns.flip(1), columns)
        rows = self._shifted(n, height, device)
        planes = x.reshape(n, -1, height, width)
        planes = planes.gather(2, rows.view(n, 1, height, 1).expand_as(planes))
        return planes.gather(3, columns.view(n, 1, 1, width).expand_as(planes)).view_as(x)

    def extra_repr(self) -> str:
        """Return the parameters for the repr of the module."""
        return f"padding={self.padding}, flip={self.flip}"

    def _shifted(self, n: int, size: int, device: torch.device) -> torch.Tensor:
        """Return the number of the pixel that each place of an axis shows, of shape (n, size)."""
        shift = torch.randint(-self.padding, self.padding + 1, (n, 1), device=device)
        return (torch.arange(size, device=device) + shift).clamp(0, size - 1)


class MaskSpectrogram(Augmentation):
    """Random masks of frames and of frequency bands of a spectrogram, as in SpecAugment.

    >>> import torch
    >>> from mmestim.encoders import MaskSpectrogram
    >>> MaskSpectrogram(time=20, frequency=8)(torch.rand(4, 64, 100)).shape
    torch.Size([4, 64, 100])

    The width of a mask is uniform between 0 and the largest one, and so is its place. Masked values become
    the mean of their sample, and all channels of a sample have the same masks.

    Parameters
    ----------
    time : int, default=0
        Largest number of consecutive frames that a mask covers; 0 masks none.
    frequency : int, default=0
        Largest number of adjacent bands that a mask covers; 0 masks none.
    n_masks : int, default=1
        Number of masks along each of the two axes.
    time_axis : {-1, -2}, default=-1
        Axis of the frames: -1 for samples of shape (..., n_bands, n_frames), -2 for (..., n_frames, n_bands).

    Raises
    ------
    ValueError
        In the first batch, if `time` or `frequency` exceeds the length of its axis.

    References
    ----------
    D. S. Park, W. Chan, Y. Zhang, et al. SpecAugment: a simple data augmentation method for automatic speech
    recognition. Interspeech 2019. The paper masks log mel spectrograms of mean 0 by 0, which is their mean.
    """

    def __init__(self, time: int = 0, frequency: int = 0, *, n_masks: int = 1, time_axis: int = -1) -> None:
        super().__init__()
        check_number("time", time, integer=True)
        check_number("frequency", frequency, integer=True)
        check_number("n_masks", n_masks, low=1, integer=True)
        check_choice("time_axis", time_axis, [-1, -2])
        if not time and not frequency:
            raise ValueError("MaskSpectrogram masks nothing with time=0 and frequency=0: set at least one of them.")
        self.time, self.frequency, self.n_masks, self.time_axis = time, frequency, n_masks, time_axis

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """Return masked spectrograms.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ..., n_bands, n_frames)
            Spectrograms, with the last two axes as `time_axis` tells, and any axes before them.

        Returns
        -------
        Tensor of shape (n_samples, ..., n_bands, n_frames)
            New spectrograms.
        """
        _check_axes(type(self).__name__, x)
        over_time = self._masks("time", self.time, x, self.time_axis)
        over_frequency = self._masks("frequency", self.frequency, x, -3 - self.time_axis)
        if self.time_axis == -1:
            is_masked = over_time.unsqueeze(1) | over_frequency.unsqueeze(2)
        else:
            is_masked = over_time.unsqueeze(2) | over_frequency.unsqueeze(1)
        planes = x.reshape(len(x), -1, *x.shape[-2:])
        means = planes.mean((1, 2, 3), keepdim=True)
        return torch.where(is_masked.unsqueeze(1), means, planes).view_as(x)

    def extra_repr(self) -> str:
        """Return the parameters for the repr of the module."""
        return f"time={self.time}, frequency={self.frequency}, n_masks={self.n_masks}, time_axis={self.time_axis}"

    def _masks(self, name: str, longest: int, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Return the mask of the places of an axis, of shape (n_samples, length of the axis)."""
        n, size = len(x), x.shape[axis]
        if longest > size:
            raise ValueError(f"{name}={longest} of MaskSpectrogram exceeds the {size} places of its axis.")
        widths = torch.randint(0, longest + 1, (n, self.n_masks, 1), device=x.device)
        starts = (torch.rand(n, self.n_masks, 1, device=x.device) * (size - widths + 1)).long()
        places = torch.arange(size, device=x.device)
        return ((places >= starts) & (places < starts + widths)).any(1)


class Augmented:
    """Encoder with augmentations before it, for the parameter `encoder` of classifiers.

    >>> from mmestim.encoders import Augmented, RandomCropFlip
    >>> {"image": Augmented("resnet18", RandomCropFlip(padding=4))}
    {'image': Augmented('resnet18', RandomCropFlip(padding=4, flip=True))}

    The classifier builds the encoder for each network, as without augmentation, and places copies of the
    augmentations before it. They act in training alone. Input statistics are those of unchanged rows.

    Parameters
    ----------
    encoder : str, nn.Module, class or callable
        Encoder, like the parameter `encoder` of classifiers.
    *augmentations : Augmentation
        Augmentations in the order in which they are applied.

    Raises
    ------
    TypeError
        If an augmentation is missing or of another type.
    """

    def __init__(self, encoder: Any, *augmentations: Augmentation) -> None:
        if not augmentations or not all(isinstance(augmentation, Augmentation) for augmentation in augmentations):
            raise TypeError(
                f"Augmented takes an encoder and then instances of Augmentation, such as RandomCropFlip(); got "
                f"{', '.join(map(repr, augmentations)) or 'no augmentation'}."
            )
        self.encoder, self.augmentations = encoder, augmentations

    def __repr__(self) -> str:
        return f"Augmented({', '.join(map(repr, (self.encoder, *self.augmentations)))})"


def behind_augmentations(encoder: nn.Module) -> nn.Module:
    """Return the network behind the augmentations of an encoder, whose attributes tell about the input.

    Parameters
    ----------
    encoder : nn.Module
        Encoder, or an `nn.Sequential` that begins with augmentations.

    Returns
    -------
    nn.Module
        The network; the encoder itself if it begins with no augmentation.
    """
    if isinstance(encoder, nn.Sequential) and len(encoder) and isinstance(encoder[0], Augmentation):
        for layer in dropwhile(lambda layer: isinstance(layer, Augmentation), encoder):
            return behind_augmentations(layer)
    return encoder


def _check_axes(name: str, x: torch.Tensor) -> None:
    if x.ndim < 3:
        raise ValueError(f"{name} needs samples with two or more axes, got {tuple(x.shape[1:])}: set shapes.")
