"""Networks that are trained on different folds: in training, and joined into one network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import cast

import torch
from torch import nn

from .._data.batches import Batch
from ..encoders.augmentation import behind_augmentations
from .fusion_heads import FusionHead
from .multimodal_networks import Branch, JointModule
from .stacking import copy_weights_back, stack_networks


class FoldBranches(nn.Module):
    """Branches of one modality in training, one per fold.

    Each branch reads the rows of its own fold. Batches, logits and features have one more axis in
    front, over the folds.

    Parameters
    ----------
    branches : sequence of Branch
        Branch of each fold, which `finish` updates.
    stacked : bool, default=True
        Whether to compute all folds at once where their layers allow it.

    Attributes
    ----------
    parts : nn.ModuleList
        One stack of all branches, or each branch by itself.
    is_stacked : bool
        Whether there is a stack.
    """

    def __init__(self, branches: Sequence[Branch], stacked: bool = True) -> None:
        super().__init__()
        self.name, self.embedding_dim = branches[0].name, branches[0].embedding_dim
        self.n_folds, self.n_classes = len(branches), branches[0].n_classes
        stack = stack_networks(branches) if stacked and len(branches) > 1 else None
        self.is_stacked = stack is not None
        self.parts = nn.ModuleList(branches if stack is None else [stack])
        self._branches = tuple(branches)  # A tuple, so that the module does not register them twice.

    def forward(self, batch: Batch, fold: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and features of all folds, or of one fold for a batch of its rows alone."""
        if self.is_stacked:
            return self.parts[0](batch)
        parts = self.parts if fold is None else [self.parts[fold]]
        blocks, n_rows = batch.x[self.name], batch.rows.shape[-1]
        batches = [Batch({self.name: x}, {}, n_rows, shares=batch.shares) for x in blocks]
        outputs = [part(part_batch) for part, part_batch in zip(parts, batches, strict=True)]
        logits, features = (torch.stack(tensors) for tensors in zip(*outputs, strict=True))
        return logits, features

    def encoders(self) -> Iterator[tuple[str, nn.Module]]:
        """Return pairs of the modality and an encoder, stacked or of a fold."""
        return chain.from_iterable(cast(Branch, part).encoders() for part in self.parts)

    def steps(self) -> list[int | None]:
        """Return the folds to train one after the other, or None alone for all of them at once."""
        return [None] if self.is_stacked or self.n_folds == 1 else list(range(self.n_folds))

    def finish(self) -> list[Branch]:
        """Return the branches with their trained weights."""
        if self.is_stacked:
            copy_weights_back(self.parts[0], self._branches)
        return list(self._branches)


class FoldNetworks(nn.Module):
    """Joint networks in training, one per fold. Each batch belongs to one fold and is read by its network.

    Parameters
    ----------
    networks : sequence of JointModule
        Network of each fold, which training changes in place.
    """

    def __init__(self, networks: Sequence[JointModule]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        # With the choice of the network inside, torch.compile would build one graph per fold. As a decorator of the
        # method, `disable` would load the compiler whenever this file is imported.
        self.forward = torch.compiler.disable(self.run, recursive=False)

    def run(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return fused logits and features of the network of the batch's fold."""
        return self.networks[batch.fold](batch)

    def encoders(self) -> Iterator[tuple[str, nn.Module]]:
        """Return pairs of a modality and its encoder in each network."""
        return chain.from_iterable(cast(JointModule, network).encoders() for network in self.networks)


class FoldEncoders(nn.Module):
    """Encoders of several networks, whose features are concatenated.

    Parameters
    ----------
    encoders : sequence of nn.Module
        Encoder of each network.
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        first = behind_augmentations(encoders[0])
        self.input_dtype, self.input_range = (getattr(first, name, None) for name in ("input_dtype", "input_range"))
        # Networks share a frozen encoder, which is computed once.
        self._first = [next(i for i, other in enumerate(encoders) if other is encoder) for encoder in encoders]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: list[torch.Tensor] = []
        for first, encoder in zip(self._first, self.encoders, strict=True):
            features.append(features[first] if first < len(features) else encoder(x))
        return torch.cat(features, dim=1)


def join_branches(branches: Sequence[Branch]) -> Branch:
    """Return one branch whose logits are the mean of those of several branches.

    The normalised mean of log-probabilities equals the log-softmax of the mean logits, so the mean of
    the heads is again a linear head, of the concatenated features.

    Parameters
    ----------
    branches : sequence of Branch
        Branches of one modality.

    Returns
    -------
    Branch
        The only branch, or one with `FoldEncoders`.
    """
    first = branches[0]
    if len(branches) == 1:
        return first
    encoders = FoldEncoders([branch.encoder for branch in branches])
    head = mean_of_heads([branch.head for branch in branches])
    return Branch(first.name, encoders, len(branches) * first.embedding_dim, first.n_classes, head).eval()


class FoldHeads(FusionHead):
    """Fusion heads of several networks, whose logits are averaged.

    Parameters
    ----------
    heads : sequence of FusionHead
        Head of each network. The features of a modality are those of all networks, concatenated.
    """

    def __init__(self, heads: Sequence[FusionHead]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.is_sum = heads[0].is_sum

    def forward(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the mean of the fused logits."""
        return torch.stack([head(part, batch) for head, part in self._parts(features)]).mean(0)

    def fuse(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean of the fused logits from the features alone."""
        return torch.stack([head.fuse(part) for head, part in self._parts(features)]).mean(0)

    def unimodal(self, features: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        """Return the mean of the logits from one modality."""
        return torch.stack([head.unimodal(part, name) for head, part in self._parts(features)]).mean(0)

    def split(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the mean of the terms that each modality adds to the logits."""
        terms = [head.split(part) for head, part in self._parts(features)]
        return {name: torch.stack([term[name] for term in terms]).mean(0) for name in features}

    def _parts(self, features: Mapping[str, torch.Tensor]) -> Iterator[tuple[FusionHead, dict[str, torch.Tensor]]]:
        """Yield the head of each network with its features."""
        parts = {name: z.chunk(len(self.heads), dim=1) for name, z in features.items()}
        for number, head in enumerate(self.heads):
            yield cast(FusionHead, head), {name: chunks[number] for name, chunks in parts.items()}


def join_networks(networks: Sequence[JointModule]) -> JointModule:
    """Return one joint network whose logits are the mean of those of several networks."""
    first = networks[0]
    if len(networks) == 1:
        return first
    branches = {name: join_branches([network.branch(name) for network in networks]) for name in first.names}
    heads = FoldHeads([network.fusion_head for network in networks])
    return JointModule(branches, heads, first.unimodal_heads).eval()


@torch.no_grad()
def mean_of_heads(heads: Sequence[nn.Module]) -> nn.Module:
    """Return one linear layer of concatenated features that is the mean of the layers of each part."""
    states: list[Mapping[str, torch.Tensor]] = [head.state_dict() for head in heads]
    if not states[0]:
        return nn.Identity()
    weight = torch.cat([state["weight"] for state in states], dim=1) / len(heads)
    # Initial weights would be drawn from the global generator.
    head = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], device=weight.device)
    head.weight.copy_(weight)
    head.bias.copy_(torch.stack([state["bias"] for state in states]).mean(0))
    return head
