"""Joint training as a balancing method sees it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .._data.batches import Batch, Rows
from .._networks.multimodal_networks import Branch, JointModule, present_mask, true_class_share
from .._training.devices import seeded
from .._training.loop import train
from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from .._training.state_encoding import Stateful


class Outputs:
    """What the network makes of one batch; what is not asked for is not computed.

    Parameters
    ----------
    training : Training
        The training under way.
    batch : Batch
        The rows.
    output : (Tensor, dict of str to Tensor)
        Fused logits and features.

    Attributes
    ----------
    batch : Batch
        The rows: ``y``, ``weight``, ``size``, and ``present`` positions per modality.
    logits : Tensor of shape (n_rows, n_classes)
        Fused logits.
    features : dict of str to Tensor of shape (n_rows, embedding_dim)
        Of each modality, zeros in rows that lack it.
    """

    def __init__(self, training: Training, batch: Batch, output: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
        self.training, self.batch = training, batch
        self.logits, self.features = output

    @cached_property
    def unimodal(self) -> dict[str, torch.Tensor]:
        """Logits of each modality: its part of the fused ones, or those of its own head, as the balancer needs."""
        return self.training.unimodal_logits(self.features)

    @cached_property
    def present(self) -> torch.Tensor:
        """Boolean of shape (n_modalities, n_rows): which rows have which modality."""
        return torch.stack([present_mask(self.batch, name) for name in self.features])

    @cached_property
    def scores(self) -> torch.Tensor:
        """Probability of the true class from each modality, of shape (n_modalities, n_rows), without gradient."""
        return torch.stack([true_class_share(z.detach(), self.batch.y) for z in self.unimodal.values()])

    @cached_property
    def mean_scores(self) -> torch.Tensor:
        """Weighted mean of each modality's scores over the rows that have it and another; 0 where none has."""
        shared = self.present & (self.present.sum(0) > 1) if self.batch.present else self.present
        by = shared.float() if self.batch.weight is None else shared * self.batch.weight
        return (self.scores * by).sum(1) / torch.where(shared.any(1), by.sum(1), 1.0)


class Training(Stateful):
    """Joint training as a balancer sees it.

    Parameters
    ----------
    net : Net
        What trains.
    context : FitContext
        Rows, options and seeds of the fit.
    unimodal : {None, 'split', 'heads'}
        Unimodal logits that the balancer reads.
    unimodal_weight : float
        Weight of the unimodal losses that the classifier asks for.

    Attributes
    ----------
    names : list of str
        The modalities; tensors with one entry per modality follow this order.
    module : JointModule
        The network: ``branch(name).encoder``, ``branch(name).head``, ``fusion_head``.
    parameters : dict of str to list of Parameter
        The trainable ones of each encoder.
    rows, valid : Rows
        Training and validation rows.
    n_classes : int
        Number of classes.
    device : torch.device
        Where the network and the batches are.
    unimodal_weight : float
        Weight of the losses of the modalities' own heads.
    epoch : int
        Number of epochs that are over.
    """

    state_attributes = ("records", "history", "_sums", "_counts")

    def __init__(self, net: Any, context: Any, unimodal: str | None, unimodal_weight: float) -> None:
        self.net, self.context = net, context
        self.module: JointModule = getattr(net.module_, "_orig_mod", net.module_)
        self.names = self.module.names
        self.rows: Rows = context.train
        self.valid: Rows = context.valid
        self.n_classes: int = context.n_classes
        self.device: torch.device = context.options.device
        self.epoch = 0
        self.parameters = {
            name: [p for p in self.module.branch(name).encoder.parameters() if p.requires_grad] for name in self.names
        }
        self.unimodal_weight = unimodal_weight or float(unimodal == "heads")
        self._heads_answer = unimodal == "heads" or not self.module.fusion_head.is_sum
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self.records: list[dict[str, np.ndarray]] = []
        self.history: list[dict[str, Any]] = []  # of trainings within the training

    def forward(self, batch: Batch) -> Outputs:
        """What the network makes of a batch."""
        return Outputs(self, batch, self.net.infer(batch))

    def step(self, batch: Batch) -> None:
        """Move the weights by the gradients that are there."""
        self.net.step(batch)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.net.optimizer_.zero_grad()

    def unimodal_logits(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Logits of each modality from features, as the balancer needs them."""
        if self._heads_answer and not self.module.unimodal_heads:
            raise TypeError(
                "this balancer reads the logits of single modalities: set unimodal = 'split' or 'heads' in its class."
            )
        with self.context.options.autocast():
            if self._heads_answer:
                return {name: self.module.branch(name).head(f).float() for name, f in features.items()}
            return {name: z.float() for name, z in self.module.fusion_head.split(features).items()}

    def joint_loss(self, outputs: Outputs, fused: Batch | None = None) -> torch.Tensor:
        """Cross-entropy of the fused logits and of the heads, if there are any.

        Heads that are only there for the balancer to read do not reach the encoders.

        Parameters
        ----------
        outputs : Outputs
            Of the network for one batch.
        fused : Batch or None, default=None
            The batch as the fused loss weighs it, if that differs.

        Returns
        -------
        Tensor of shape ()
            The loss.
        """
        loss = weighted_cross_entropy(outputs.logits, outputs.batch if fused is None else fused)
        if not self.module.unimodal_heads:
            return loss
        features = outputs.features
        if self.unimodal_weight == 0:
            features = {name: f.detach() for name, f in features.items()}
        return loss + (self.unimodal_weight or 1.0) * self.unimodal_loss(features, outputs.batch)

    def unimodal_loss(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Sum of the cross-entropies of the modalities' own heads, each on the rows that have it."""
        with self.context.options.autocast():
            logits = {name: self.module.branch(name).head(f).float() for name, f in features.items()}
        return torch.stack([unimodal_cross_entropy(z, batch, name) for name, z in logits.items()]).sum()

    def generators(self, purpose: str) -> dict[str, torch.Generator]:
        """Random numbers on the device, of each modality's own, so that their order does not matter."""
        seeds = {name: self.context.seed_for(purpose, name) for name in self.names}
        return {name: torch.Generator(self.device).manual_seed(seed) for name, seed in seeds.items()}

    def scale_gradients(self, name: str, factor: torch.Tensor) -> None:
        """Multiply the gradients of one encoder."""
        gradients = [p.grad for p in self.parameters[name] if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, factor)

    def train_alone(self, name: str) -> Branch:
        """A copy of a modality's encoder as it is now, under a new head, trained by itself on the rows that have it."""
        branch, context = self.module.branch(name), self.context
        with seeded(context.seed_for(name, "head"), self.device):
            alone = Branch(name, copy.deepcopy(branch.encoder), branch.embedding_dim, self.n_classes).to(self.device)
        train_rows, valid_rows = context.split_for(name)
        run = train(
            alone,
            train_rows,
            valid_rows,
            context.options,
            n_classes=self.n_classes,
            seed=context.seed_for(name, "training"),
            stage="unimodal",
            modality=name,
        )
        self.history += run.history
        if run.interrupted:
            raise KeyboardInterrupt
        return alone

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> Iterator[Outputs]:
        """Outputs in eval mode, batch by batch."""
        was_training = self.module.training
        self.module.eval()
        try:
            for part in rows.epoch(rows.eval_batch_size(self.context.options.batch_size)):
                yield self.forward(rows.batch(part))
        finally:
            self.module.train(was_training)

    def record(self, name: str, value: torch.Tensor | float) -> None:
        """Remember a number, or one per modality; `balance_history_` has the means of each epoch."""
        value = torch.as_tensor(value).detach().float()
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._counts[name] = self._counts.get(name, 0) + 1

    def end_epoch(self) -> None:
        """Close the records of an epoch."""
        self.records.append({name: (v / self._counts[name]).cpu().numpy() for name, v in self._sums.items()})
        self._sums, self._counts = {}, {}
