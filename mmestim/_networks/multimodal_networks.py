"""Networks over several modalities: branches, their late fusion, and the joint network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from .._data.batches import Batch
from ..encoders.trial import input_dtype, input_range
from .fusion_heads import FusionHead
from .recomputation import encode_in_parts


class Branch(nn.Module):
    """Encoder and linear head of one modality (UDI, eq. 1 and 2).

    Parameters
    ----------
    name : str
        The modality.
    encoder : nn.Module
        Its encoder.
    embedding_dim : int
        Length of the encoder's feature vectors.
    n_classes : int
        Number of classes.
    head : nn.Module, default=None
        Map from features to logits; None is a new linear layer.
    accumulate : int, default=1
        Number of parts in which the encoder reads a training batch, to hold the activations of one at a time.

    Attributes
    ----------
    input_dtype : torch.dtype or None
        Type to which blocks are cast for the encoder: its attribute of this name. None is float32.
    input_range : tuple of float or None
        The lowest and the highest value that the encoder takes: its attribute of this name. None is any.
    """

    def __init__(
        self,
        name: str,
        encoder: nn.Module,
        embedding_dim: int,
        n_classes: int,
        head: nn.Module | None = None,
        *,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.name, self.embedding_dim, self.n_classes, self.accumulate = name, embedding_dim, n_classes, accumulate
        self.encoder, self.input_dtype = encoder, input_dtype(encoder, name)
        self.input_range = input_range(encoder, name)
        self.head: nn.Module = nn.Linear(embedding_dim, n_classes) if head is None else head

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and features of the rows that have the modality."""
        features = self.encode(batch)
        return self.head(features).float(), features

    def encoders(self) -> Iterator[tuple[str, nn.Module]]:
        """Return the pair of the modality and its encoder."""
        return iter([(self.name, self.encoder)])

    def encode(self, batch: Batch) -> torch.Tensor:
        """Return features of the rows that have the modality, an empty tensor if the batch has none."""
        x = batch.x[self.name]
        if x.shape[0] == 0:  # `len` would fix the number of rows in torch.export.
            return x.new_zeros(0, self.embedding_dim)
        x = x if self.input_dtype is None else x.to(self.input_dtype)
        n_parts = self._n_parts(batch)
        features = self.encoder(x) if n_parts == 1 else encode_in_parts(self.encoder, x, n_parts, batch.row_axis)
        return batch.gather(features.float(), self.name, -2)

    def _n_parts(self, batch: Batch) -> int:
        """Return the number of parts in which to encode a batch, the same on every process."""
        if self.accumulate == 1 or not self.training or not torch.is_grad_enabled():
            return 1
        if not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            return 1
        return max(1, min(self.accumulate, batch.n_read(self.name) // 2))  # BatchNorm cannot train on one row.


class MultimodalModule(nn.Module):
    """Base class of networks with fused logits, features and logits per modality.

    Attributes
    ----------
    names : list of str
        The modalities, sorted.
    embedding_sizes : dict of str to int
        Number of features of each modality.
    branches : nn.ModuleList of Branch
        Branches in the order of `names`.
    """

    names: list[str]
    embedding_sizes: dict[str, int]
    branches: nn.ModuleList

    def branch(self, name: str) -> Branch:
        """Return the branch of modality `name`."""
        return cast(Branch, self.branches[self.names.index(name)])

    def encoders(self) -> Iterator[tuple[str, nn.Module]]:
        """Return pairs of a modality and its encoder."""
        return ((name, self.branch(name).encoder) for name in self.names)

    def forward(self, batch: Batch | Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return fused logits, and the features of each modality.

        Parameters
        ----------
        batch : Batch or dict of str to Tensor of shape (n_samples, *sample_shape)
            Rows, or the blocks of rows that have every modality.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Fused logits.
        features : dict of str to Tensor of shape (n_samples, n_features)
            Features of each modality.
        """
        if not isinstance(batch, Batch):
            if not isinstance(batch, Mapping) or set(batch) != set(self.names):
                got = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
                raise TypeError(f"the network takes a dict with one tensor for each of {self.names}, got {got}.")
            batch = Batch({name: batch[name].float() for name in self.names}, {}, batch[self.names[0]].shape[0])
        features = self.encode(batch)
        return self.fuse(features, batch), features

    def encode(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the features of each modality, with zeros in rows that lack it."""
        return {name: scatter_rows(self.branch(name).encode(batch), batch, name) for name in self.names}

    def fuse(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return fused logits from the features of the modalities that are present in each row."""
        raise NotImplementedError

    def unimodal_logits(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Return logits from modality `name` alone."""
        raise NotImplementedError


class LateFusion(MultimodalModule):
    """Independent branches that are fused in their predictions, over the modalities that are present in a row.

    Parameters
    ----------
    branches : dict of str to Branch
        Branch of each modality.
    fusion : {'weighted', 'sum', 'mean'}
        Weighted sum of log-probabilities, sum of logits, or mean of probabilities.
    weights : dict of str to float, default=None
        Weight of each modality in the weighted sum, 1 by default.
    """

    fusion_weights: torch.Tensor | None

    def __init__(self, branches: Mapping[str, Branch], fusion: str, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        # The order is fixed, because a floating-point sum must not depend on the order of the user's dict.
        self.names, self.fusion = sorted(branches), fusion
        self.branches = nn.ModuleList(branches[name] for name in self.names)
        self.embedding_sizes = {name: branch.embedding_dim for name, branch in branches.items()}
        values = [1.0 if weights is None else float(weights[name]) for name in self.names]
        self.register_buffer("fusion_weights", torch.tensor(values) if fusion == "weighted" else None)

    def fuse(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return fused logits from the present modalities."""
        logits = [self.unimodal_logits(features, name) for name in self.names]
        if not batch.present:
            return fuse(logits, None, self.fusion, self.fusion_weights)
        masks = [present_mask(batch, name) for name in self.names]
        masked_logits = [z * mask.unsqueeze(1) for z, mask in zip(logits, masks, strict=True)]
        return fuse(masked_logits, masks, self.fusion, self.fusion_weights)

    def unimodal_logits(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Return logits from modality `name` alone."""
        return self.branch(name).head(features[name]).float()


class JointModule(MultimodalModule):
    """Encoders with one fusion head.

    Parameters
    ----------
    branches : dict of str to Branch
        Branch of each modality.
    fusion_head : FusionHead
        Map from the features, in the order of the sorted names, to logits.
    unimodal_heads : bool
        Whether to keep the heads of the branches, for unimodal losses.
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
        """Return the logits of the fusion head."""
        return self.fusion_head(features, batch).float()

    def unimodal_logits(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Return logits of the branch's own head or, without one, of the fusion head with other features at zero."""
        if self.unimodal_heads:
            return self.branch(name).head(features[name]).float()
        return self.fusion_head.unimodal(features, name).float()


def scatter_rows(values: torch.Tensor, batch: Batch, name: str) -> torch.Tensor:
    """Return values for all rows of the batch: those given, for rows that have modality `name`, and zeros elsewhere."""
    if name not in batch.present:
        return values
    present = batch.present[name]
    if present.dtype is torch.bool:
        return values.masked_fill(~present.view(-1, *[1] * (values.ndim - 1)), 0)
    return values.new_zeros(batch.size, *values.shape[1:]).index_copy(0, present, values)


def present_mask(batch: Batch, name: str) -> torch.Tensor:
    """Return the boolean mask of the rows of the batch that have modality `name`."""
    if name in batch.present and batch.present[name].dtype is torch.bool:
        return batch.present[name]
    ones = torch.ones(batch.n_present(name), dtype=torch.bool, device=batch.x[name].device)
    return scatter_rows(ones, batch, name)


def fuse(
    logits: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor] | None,
    fusion: str,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the logits of late fusion over the modalities that are present in each row.

    Parameters
    ----------
    logits : sequence of Tensor of shape (n_samples, n_classes)
        Logits of each modality, zero in rows that lack it.
    masks : sequence of bool Tensor of shape (n_samples,) or None
        Rows that have each modality. None if no row lacks any.
    fusion : {'weighted', 'sum', 'mean'}
        Weighted sum of log-probabilities, sum of logits, or logarithm of the mean of probabilities.
    weights : Tensor of shape (n_modalities,), default=None
        Weights of the weighted sum. A row whose modalities all have weight 0 is fused by equal weights.

    Returns
    -------
    Tensor of shape (n_samples, n_classes)
        Fused logits.
    """
    if fusion == "sum":
        return torch.stack(list(logits)).sum(0)
    log_proba = torch.stack([F.log_softmax(z, dim=1) for z in logits])
    if fusion == "weighted" and weights is not None:
        if masks is None:
            return torch.tensordot(torch.where(weights.any(), weights, 1.0), log_proba, dims=1)
        used = torch.stack(list(masks)).float()
        row_weights = used * weights.unsqueeze(1)
        row_weights = torch.where(row_weights.any(0), row_weights, used)
        return (row_weights.unsqueeze(2) * log_proba).sum(0)
    if masks is None:
        return log_proba.logsumexp(0) - math.log(len(log_proba))
    is_present = torch.stack(list(masks))
    # Rows without any modality would give NaN gradients, so their uniform probabilities are kept.
    is_used = is_present | ~is_present.any(0)
    log_proba = log_proba.masked_fill(~is_used.unsqueeze(2), float("-inf"))
    return log_proba.logsumexp(0) - is_used.sum(0).log().unsqueeze(1)


def true_class_proba(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the probability of the true class of each row."""
    return torch.softmax(logits, dim=1).gather(1, y.unsqueeze(1)).squeeze(1)
