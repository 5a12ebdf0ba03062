"""From the features of all modalities to logits: the heads of joint networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import Batch


class FusionHead(nn.Module):
    """Base of the fusion heads, from the features of all modalities to logits.

    Features come as a dict of tensors of shape (n_rows, embedding_dim), for all rows, with zeros where a row
    lacks the modality. A head that is to count which modalities a row has overrides `forward`.

    Attributes
    ----------
    is_sum : bool
        Of the class: whether the logits are a sum over the modalities, whose parts `split` gives.
    """

    is_sum = False

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Fused logits; ``batch.present`` has the rows of the modalities that some row lacks."""
        return self.fuse(features)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fused logits by features alone."""
        raise NotImplementedError

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Logits from one modality, as if the others were absent."""
        return self.fuse({other: f if other == name else torch.zeros_like(f) for other, f in features.items()})

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What each modality adds to the logits, shared terms in equal parts."""
        raise NotImplementedError


class ConcatHead(FusionHead):
    """One linear layer of all features side by side."""

    is_sum = True

    def __init__(self, sizes: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(sizes.values()), n_classes)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.linear(torch.cat(list(features.values()), dim=1))

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        columns = self.linear.weight.split([f.shape[1] for f in features.values()], dim=1)
        bias = self.linear.bias / len(features)
        return {name: F.linear(f, w, bias) for (name, f), w in zip(features.items(), columns, strict=True)}


class SumHead(FusionHead):
    """A linear layer for each modality, summed."""

    is_sum = True

    def __init__(self, sizes: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(size, n_classes) for size in sizes.values())

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return cast(torch.Tensor, sum(self.split(features).values()))

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: linear(f) for (name, f), linear in zip(features.items(), self.linears, strict=True)}


class GatedHead(FusionHead):
    """A linear layer of sigmoid(A z_1) * (B z_2)."""

    def __init__(self, sizes: Mapping[str, int], n_classes: int, first: str, second: str) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.gate = nn.Linear(sizes[first], sizes[second])
        self.value = nn.Linear(sizes[second], sizes[second])
        self.linear = nn.Linear(sizes[second], n_classes)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.linear(torch.sigmoid(self.gate(features[self.first])) * self.value(features[self.second]))


class FilmHead(FusionHead):
    """A linear layer of gamma(z_1) * z_2 + beta(z_1)."""

    def __init__(self, sizes: Mapping[str, int], n_classes: int, first: str, second: str) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.gate = nn.Linear(sizes[first], 2 * sizes[second])
        self.linear = nn.Linear(sizes[second], n_classes)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        scale, shift = self.gate(features[self.first]).chunk(2, dim=1)
        return self.linear(scale * features[self.second] + shift)


def build_head(fusion: str, sizes: Mapping[str, int], n_classes: int, listed: list[str]) -> FusionHead:
    """The head that `fusion` names, over modalities in the order of `sizes`; gates go by the order `listed`."""
    if fusion == "concat":
        return ConcatHead(sizes, n_classes)
    if fusion == "sum":
        return SumHead(sizes, n_classes)
    return (GatedHead if fusion == "gated" else FilmHead)(sizes, n_classes, *listed)
