"""Networks over several modalities: branches, their late fusion, and the joint network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import Batch
from .fusion_heads import FusionHead


class Branch(nn.Module):
    """Encoder and linear head of one modality (UDI, eq. 1 and 2)."""

    def __init__(self, name: str, encoder: nn.Module, embedding_dim: int, n_classes: int) -> None:
        super().__init__()
        self.name, self.embedding_dim, self.n_classes = name, embedding_dim, n_classes
        self.encoder = encoder
        self.head: nn.Module = nn.Linear(embedding_dim, n_classes)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and features of the rows that have the modality."""
        features = self.encode(batch)
        return self.head(features).float(), features.float()

    def encode(self, batch: Batch) -> torch.Tensor:
        """Features of the rows that have the modality, which may be none of the batch."""
        x = batch.x[self.name]
        return self.encoder(x) if len(x) else x.new_zeros(0, self.embedding_dim)


class MultimodalModule(nn.Module):
    """What predictions need of a network: fused logits, features and each modality's own logits."""

    names: list[str]
    embedding_sizes: dict[str, int]
    branches: nn.ModuleList

    def branch(self, name: str) -> Branch:
        """The encoder and head of modality `name`."""
        return cast(Branch, self.branches[self.names.index(name)])

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Fused logits, and each modality's features."""
        features = self.encode(batch)
        return self.fuse(features, batch), features

    def encode(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Each modality's features, with zeros in rows that lack it."""
        return {name: scatter_rows(self.branch(name).encode(batch).float(), batch, name) for name in self.names}

    def fuse(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Fused logits from features of the modalities that the rows of the batch have."""
        raise NotImplementedError

    def unimodal_logits(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Logits from modality `name` alone."""
        raise NotImplementedError


class LateFusion(MultimodalModule):
    """Independent branches; logits summed or probabilities averaged over those present."""

    def __init__(self, branches: Mapping[str, Branch], fusion: str) -> None:
        super().__init__()
        # One order for all: a float sum must not depend on how the modalities were listed.
        self.names, self.fusion = sorted(branches), fusion
        self.branches = nn.ModuleList(branches[name] for name in self.names)
        self.embedding_sizes = {name: branch.embedding_dim for name, branch in branches.items()}

    def fuse(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        logits = [self.unimodal_logits(features, name) for name in self.names]
        if not batch.present:
            return fuse(logits, None, self.fusion)
        masks = [present_mask(batch, name) for name in self.names]
        return fuse([z * mask.unsqueeze(1) for z, mask in zip(logits, masks, strict=True)], masks, self.fusion)

    def unimodal_logits(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return self.branch(name).head(features[name]).float()


class JointModule(MultimodalModule):
    """Encoders under one fusion head.

    Parameters
    ----------
    branches : dict of str to Branch
        Encoders.
    fusion_head : FusionHead
        From the features, in the order of the modalities' names, to logits.
    unimodal_heads : bool
        Whether to keep the branches' own heads, for losses of their own.
    """

    def __init__(self, branches: Mapping[str, Branch], fusion_head: FusionHead, unimodal_heads: bool) -> None:
        super().__init__()
        self.names, self.unimodal_heads = sorted(branches), unimodal_heads
        self.branches = nn.ModuleList(branches[name] for name in self.names)
        self.embedding_sizes = {name: branch.embedding_dim for name, branch in branches.items()}
        if not unimodal_heads:
            for branch in branches.values():
                branch.head = nn.Identity()
        self.fusion_head = fusion_head

    def fuse(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        return self.fusion_head(features, batch).float()

    def unimodal_logits(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        if self.unimodal_heads:
            return self.branch(name).head(features[name]).float()
        return self.fusion_head.unimodal(features, name).float()


def scatter_rows(values: torch.Tensor, batch: Batch, name: str) -> torch.Tensor:
    """Values of the rows that have modality `name`, put at their places in the batch, others zero."""
    if name not in batch.present:
        return values
    return values.new_zeros(batch.size, *values.shape[1:]).index_copy(0, batch.present[name], values)


def present_mask(batch: Batch, name: str) -> torch.Tensor:
    """Boolean mask of the rows of the batch that have modality `name`."""
    ones = torch.ones(len(batch.x[name]), dtype=torch.bool, device=batch.x[name].device)
    return scatter_rows(ones, batch, name)


def fuse(logits: Sequence[torch.Tensor], masks: Sequence[torch.Tensor] | None, fusion: str) -> torch.Tensor:
    """Logits of late fusion; absent ones are zero on entry and left out.

    Parameters
    ----------
    logits : sequence of Tensor of shape (n_samples, n_classes)
        One per modality.
    masks : sequence of bool Tensor of shape (n_samples,) or None
        Rows that have each modality.
    fusion : {'sum', 'mean'}
        Sum of logits, or logarithm of the mean of probabilities.
    """
    if fusion == "sum":
        return torch.stack(list(logits)).sum(0)
    shares = torch.stack([F.log_softmax(z, dim=1) for z in logits])
    if masks is None:
        return shares.logsumexp(0) - math.log(len(shares))
    have = torch.stack(list(masks))
    nothing = ~have.any(0)
    # A row with nothing would give NaN gradients: it keeps its shares, which are uniform.
    shares = shares.masked_fill(~(have | nothing).unsqueeze(2), float("-inf"))
    return shares.logsumexp(0) - (have | nothing).sum(0).log().unsqueeze(1)


def true_class_proba(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Probability of each row's class."""
    return torch.softmax(logits, dim=1).gather(1, y.unsqueeze(1)).squeeze(1)
