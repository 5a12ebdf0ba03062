"""ResNet-18 for images, spectrograms and frames of videos."""

from __future__ import annotations

import os
from typing import Literal, Self

import torch
from torch import nn

from .._utils.validation import check_choice, check_flag, check_number
from .standardize import ImageNetStandardize, Shape, Standardize
from .weights import copy_weights, read_weights

_MAX_CHANNELS = 3
_N_POOLED = 512


class ResNet18Encoder(nn.Module):
    """ResNet-18, the network of most papers on images, spectrograms and frames of videos.

    >>> import torch
    >>> from mmestim.encoders import ResNet18Encoder
    >>> encoder = ResNet18Encoder((2, 3, 32, 32))  # two frames
    >>> encoder(torch.zeros(4, 2, 3, 32, 32)).shape
    torch.Size([4, 512])
    >>> sum(p.numel() for p in encoder.parameters())
    11176512

    Frames are encoded one by one, and their pooled features are averaged, as in OGM-GE. `forward` maps a batch of
    shape ``(n_samples, *input_shape)`` to features of shape (n_samples, embedding_dim).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample: (height, width), (channels, height, width) or (frames, channels, height, width), with 1
        to 3 channels. Three axes are always one image: give grey frames a channel axis.
    embedding_dim : int, default=512
        Length of the feature vector. With 512 it is the 512 pooled features of the paper; another length adds
        a linear layer, `projection`. A classifier passes its own `embedding_dim`, which is 64 by default.
    weights : str or path-like, default=None
        File with weights of a ResNet-18 that has the names of torchvision: a state dict of `torch.save` or
        safetensors. Its last layer, ``fc``, is left out. With 1 channel, the kernels of the first layer are summed
        over the 3 channels of the file, as if the image were grey in all of them. None draws new weights.
    freeze : bool, default=False
        Whether the weights of the file stay as they are, and BatchNorm in eval mode. `projection` is trained.
    statistics : {'auto', 'rows', 'imagenet'} or None, default='auto'
        Standardisation of the input. ``'rows'`` uses mean and standard deviation of each channel of the training rows.
        ``'imagenet'`` uses those of ImageNet; pixels must be from 0 to 1 or from 0 to 255, which the training rows
        tell, and other values are an error. None leaves the input as it is. ``'auto'`` is ``'imagenet'`` with
        `weights`, and ``'rows'`` without.

    Attributes
    ----------
    standardize : Standardize or nn.Identity
        Input statistics, one per channel.
    conv1, bn1, layer1, layer2, layer3, layer4 : nn.Module
        Layers of the paper, with the names of torchvision.
    projection : nn.Linear or nn.Identity
        Layer from the 512 pooled features to `embedding_dim`.

    Raises
    ------
    ValueError
        If the shape, a parameter or the file is not one of those above.
    FileNotFoundError
        If `weights` does not exist.

    Notes
    -----
    BatchNorm cannot train on one row unless the last feature map, a 32nd of the height and width, has several
    places. Classifiers merge a last batch of one row into the one before it. BatchNorm sees the rows that have the
    modality, so in training the features of a row depend on the others of its batch. Networks of folds train one
    after the other.

    New weights are drawn as in torchvision: normal, with the variance of He et al. for the output of a layer.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun. Deep residual learning for image recognition. CVPR 2016.
    """

    def __init__(
        self,
        input_shape: Shape,
        embedding_dim: int = _N_POOLED,
        *,
        weights: str | os.PathLike[str] | None = None,
        freeze: bool = False,
        statistics: Literal["auto", "rows", "imagenet"] | None = "auto",
    ) -> None:
        super().__init__()
        check_number("embedding_dim", embedding_dim, low=1, integer=True)
        check_flag("freeze", freeze)
        check_choice("statistics", statistics, ["auto", "rows", "imagenet", None])
        if freeze and weights is None:
            raise ValueError("freeze=True needs weights: pass the file of a trained network, or freeze=False.")
        self.n_frames, channels = _frames_and_channels(input_shape)
        self._image_shape = (channels, *input_shape[-2:])
        if statistics == "auto":
            statistics = "rows" if weights is None else "imagenet"
        statistics_shape = (*(1,) * (len(input_shape) - 3), channels, 1, 1)[-len(input_shape) :]
        if statistics == "imagenet" and channels == 2:
            raise ValueError("statistics='imagenet' has 1 or 3 channels, not 2. Use statistics='rows'.")
        self.standardize: nn.Module = {
            "rows": Standardize,
            "imagenet": ImageNetStandardize,
            None: lambda shape: nn.Identity(),
        }[statistics](statistics_shape)
        self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, stride=1)
        self.layer2 = _stage(64, 128, stride=2)
        self.layer3 = _stage(128, 256, stride=2)
        self.layer4 = _stage(256, _N_POOLED, stride=2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        has_pooled_size = embedding_dim == _N_POOLED
        self.projection: nn.Module = nn.Identity() if has_pooled_size else nn.Linear(_N_POOLED, embedding_dim)
        self.freeze = freeze
        # A network on the meta device is a skeleton for a saved file, which has the weights.
        if weights is not None and not self.conv1.weight.is_meta:
            self._load(weights)
        if freeze:
            self.requires_grad_(False)
            self.projection.requires_grad_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.standardize(x).reshape(-1, *self._image_shape)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))
        if self.n_frames > 1:
            x = x.unflatten(0, (-1, self.n_frames)).mean(1)
        return self.projection(x)

    def train(self, mode: bool = True) -> Self:
        """Set the module to training or eval mode; frozen layers stay in eval mode.

        Parameters
        ----------
        mode : bool, default=True
            Whether to train.

        Returns
        -------
        ResNet18Encoder
            The module itself.
        """
        super().train(mode)
        if self.freeze:
            for child in self.children():
                child.train(mode and child is self.projection)
        return self

    def _load(self, path: str | os.PathLike[str]) -> None:
        """Copy the weights of a file."""
        state, channels = read_weights(path), self._image_shape[0]
        kernels = state.get("conv1.weight")
        if kernels is not None and kernels.ndim == 4 and kernels.shape[1] == 3 and channels < 3:
            if channels == 2:
                raise ValueError(
                    f"weights={os.fspath(path)!r} is for 3 channels, and can be used with 3 or 1, but samples have 2. "
                    "Add a channel, or use weights=None."
                )
            state["conv1.weight"] = kernels.sum(1, keepdim=True)
        copy_weights(self, state, path, ignored=("standardize", "projection", "fc"))


class BasicBlock(nn.Module):
    """Residual block of two convolutions, as in ResNet-18 and ResNet-34.

    Parameters
    ----------
    n_in, n_out : int
        Number of channels of input and output.
    stride : int
        Stride of the first convolution.

    Attributes
    ----------
    downsample : nn.Sequential or None
        Convolution of the input, where the shape of the output is another.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample: nn.Module | None = None
        if stride > 1 or n_in != n_out:
            shortcut = nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


def _stage(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(n_in, n_out, stride), BasicBlock(n_out, n_out, 1))


def _frames_and_channels(shape: Shape) -> tuple[int, int]:
    """Return the number of frames and of channels of a sample."""
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            "resnet18 needs samples of shape (height, width), (channels, height, width) or (frames, channels, height, "
            f"width); got {tuple(shape)}."
        )
    n_frames, channels = (1, 1, *shape)[-4:-2]
    if channels > _MAX_CHANNELS:
        remedy = "give grey frames an axis of 1 channel, or drop the transparency of images"
        if len(shape) == 4 and shape[-1] <= _MAX_CHANNELS:
            remedy = "move the channels of frames to the second axis of a sample, by np.moveaxis(X, -1, 2)"
        raise ValueError(
            f"resnet18 takes 1 to {_MAX_CHANNELS} channels, but samples of shape {tuple(shape)} have {channels}: "
            f"{remedy}."
        )
    return n_frames, channels
