"""Losses of joint networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch

from ..._data.batches import Batch
from ..._networks.fold_networks import FoldNetworks
from ..._networks.multimodal_networks import MultimodalModule
from ..._training.loop import Objective
from ..._training.losses import unimodal_cross_entropy


class JointObjective(Objective):
    """Cross-entropy of the fused prediction plus `unimodal_weight` times those of the modalities' own heads."""

    def __init__(self, unimodal_weight: float) -> None:
        self.unimodal_weight = unimodal_weight

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        loss = super().loss(net, output, batch)
        if self.unimodal_weight == 0:
            return loss
        return self.add_unimodal(loss, self.unimodal_logits(net, output, batch), batch)

    def unimodal_logits(self, net: Any, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the logits of each modality alone, for all rows of the batch."""
        network = self.networks(net)[batch.fold]
        with net.options.autocast():
            return {name: network.unimodal_logits(output[1], name) for name in batch.x}

    def networks(self, net: Any) -> list[MultimodalModule]:
        """Return the network of each fold, or the only one."""
        module = getattr(net.module_, "_orig_mod", net.module_)
        networks = module.networks if isinstance(module, FoldNetworks) else [module]
        return [cast(MultimodalModule, network) for network in networks]

    def add_unimodal(self, loss: torch.Tensor, logits: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the loss plus the weighted cross-entropy of each modality on the rows that have it."""
        for name, unimodal_logits in logits.items():
            loss = loss + self.unimodal_weight * unimodal_cross_entropy(unimodal_logits, batch, name)
        return loss
