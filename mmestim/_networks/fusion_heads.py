"""Fusion heads of joint networks, which map the features of all modalities to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import Batch


class FusionHead(nn.Module):
    """Base class of the fusion heads, which map the features of all modalities to logits.

    Features are a dict of tensors of shape (n_rows, embedding_dim) for all rows, with zeros in rows that lack
    the modality. A head whose logits depend on which modalities are present overrides `forward`.

    Attributes
    ----------
    is_sum : bool
        Class attribute: whether the logits are a sum over the modalities, with the terms that `split` returns.
    """

    is_sum = False

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return fused logits; ``batch.present`` holds the rows of modalities that are absent in some row."""
        return self.fuse(features)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return fused logits from the features alone."""
        raise NotImplementedError

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Return logits from one modality, as if the others were absent."""
        return self.fuse({other: z if other == name else torch.zeros_like(z) for other, z in features.items()})

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the term that each modality adds to the logits, with shared terms in equal parts."""
        raise NotImplementedError


class ConcatHead(FusionHead):
    """Linear layer on the concatenated features.

    Parameters
    ----------
    sizes : dict of str to int
        Number of features of each modality.
    n_classes : int
        Number of classes.
    """

    is_sum = True

    def __init__(self, sizes: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(sizes.values()), n_classes)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.linear(torch.cat(list(features.values()), dim=1))

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        columns = self.linear.weight.split([z.shape[1] for z in features.values()], dim=1)
        bias = self.linear.bias / len(features)
        return {name: F.linear(z, w, bias) for (name, z), w in zip(features.items(), columns, strict=True)}


class SumHead(FusionHead):
    """Sum of one linear layer per modality.

    Parameters
    ----------
    sizes : dict of str to int
        Number of features of each modality.
    n_classes : int
        Number of classes.
    """

    is_sum = True

    def __init__(self, sizes: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(size, n_classes) for size in sizes.values())

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return cast(torch.Tensor, sum(self.split(features).values()))

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: linear(z) for (name, z), linear in zip(features.items(), self.linears, strict=True)}


class GatedHead(FusionHead):
    """Linear layer on sigmoid(A z_1) * (B z_2): one modality gates the other.

    Parameters
    ----------
    sizes : dict of str to int
        Number of features of each modality.
    n_classes : int
        Number of classes.
    first, second : str
        The modality that gates, and the modality that is gated.
    """

    def __init__(self, sizes: Mapping[str, int], n_classes: int, first: str, second: str) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.gate = nn.Linear(sizes[first], sizes[second])
        self.value = nn.Linear(sizes[second], sizes[second])
        self.linear = nn.Linear(sizes[second], n_classes)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.linear(torch.sigmoid(self.gate(features[self.first])) * self.value(features[self.second]))


class FilmHead(FusionHead):
    """Linear layer on gamma(z_1) * z_2 + beta(z_1): one modality scales and shifts the other.

    Parameters
    ----------
    sizes : dict of str to int
        Number of features of each modality.
    n_classes : int
        Number of classes.
    first, second : str
        The modality that gives scale and shift, and the modality that they are applied to.
    """

    def __init__(self, sizes: Mapping[str, int], n_classes: int, first: str, second: str) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.gate = nn.Linear(sizes[first], 2 * sizes[second])
        self.linear = nn.Linear(sizes[second], n_classes)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        scale, shift = self.gate(features[self.first]).chunk(2, dim=1)
        return self.linear(scale * features[self.second] + shift)


def build_head(fusion: str, sizes: Mapping[str, int], n_classes: int, listed: list[str]) -> FusionHead:
    """Create the fusion head that a parameter names.

    Parameters
    ----------
    fusion : {'concat', 'sum', 'gated', 'film'}
        Name of the head.
    sizes : dict of str to int
        Number of features of each modality, in the order of the features.
    n_classes : int
        Number of classes.
    listed : list of str
        Modalities as the user listed them: with 'gated' and 'film' the first one modulates the second.

    Returns
    -------
    FusionHead
        The head.
    """
    if fusion == "concat":
        return ConcatHead(sizes, n_classes)
    if fusion == "sum":
        return SumHead(sizes, n_classes)
    return (GatedHead if fusion == "gated" else FilmHead)(sizes, n_classes, *listed)
