"""Interface of joint training for balancing methods: the training under way, and its outputs for one batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch

from .._data.batches import Batch, Rows
from .._networks.frozen_encoders import FrozenEncoder
from .._networks.multimodal_networks import Branch, JointModule, present_mask
from .._training.devices import seeded
from .._training.loop import train
from .._training.losses import unimodal_cross_entropy, weighted_cross_entropy
from .._training.options import TrainingOptions
from .._training.state_encoding import Stateful

# Unimodal logits that a balancer reads.
Unimodal = Literal["split", "heads"]


class FitContext(Protocol):
    """Rows, options and seeds of a fit, as a classifier provides them."""

    options: TrainingOptions
    n_classes: int
    fold: int | None
    frozen: dict[str, FrozenEncoder]

    @property
    def train(self) -> Rows:
        """Training rows."""
        ...

    @property
    def valid(self) -> Rows:
        """Validation rows."""
        ...

    def seed_for(self, *purpose: str) -> int:
        """Return the seed of one branch or helper network."""
        ...

    def split_for(self, name: str) -> tuple[Rows, Rows]:
        """Return the training and validation rows that have a modality."""
        ...


class Outputs:
    """Outputs of the joint network for one batch; all but the features are computed on first access.

    Parameters
    ----------
    training : Training
        The current training.
    batch : Batch
        The rows.
    output : (Tensor or None, dict of str to Tensor)
        Fused logits and features. With None the logits are fused from the features on first access, so that methods
        that replace them do not compute them.

    Attributes
    ----------
    batch : Batch
        The rows: ``y``, ``weight``, ``size``, and ``present``, the positions of the rows that have each modality.
    logits : Tensor of shape (n_rows, n_classes)
        Fused logits.
    features : dict of str to Tensor of shape (n_rows, embedding_dim)
        Features of each modality, zero in rows that lack it.
    """

    def __init__(
        self, training: Training, batch: Batch, output: tuple[torch.Tensor | None, dict[str, torch.Tensor]]
    ) -> None:
        self.training, self.batch = training, batch
        logits, self.features = output
        if logits is not None:
            self.logits = logits

    @cached_property
    def logits(self) -> torch.Tensor:
        """Fused logits of shape (n_rows, n_classes)."""
        return self.training.fuse(self.features, self.batch)

    @cached_property
    def unimodal(self) -> dict[str, torch.Tensor]:
        """Logits of each modality, its part of the fused logits or its own head's, as `Balancer.unimodal` selects."""
        return self.training.unimodal_logits(self.features)

    @cached_property
    def present(self) -> torch.Tensor:
        """Boolean mask of shape (n_modalities, n_rows) of the rows that have each modality."""
        if not self.batch.present:
            return torch.ones(len(self.features), self.batch.size, dtype=torch.bool, device=self.batch.y.device)
        return torch.stack([present_mask(self.batch, name) for name in self.features])

    @cached_property
    @torch.no_grad()
    def scores(self) -> torch.Tensor:
        """Probability of the true class from each modality, of shape (n_modalities, n_rows), without gradient."""
        is_computed = "unimodal" in vars(self)
        logits = self.unimodal if is_computed else self.training.unimodal_logits(self.features)
        proba = torch.stack(list(logits.values())).softmax(2)
        return proba.gather(2, self.batch.y.expand(len(proba), -1).unsqueeze(2)).squeeze(2)

    @cached_property
    def mean_scores(self) -> torch.Tensor:
        """Weighted mean score of each modality over rows that have it and another one; 0 if there are none."""
        shared = self.present & (self.present.sum(0) > 1) if self.batch.present else self.present
        weights = shared.float() if self.batch.weight is None else shared * self.batch.weight
        return (self.scores * weights).sum(1) / torch.where(shared.any(1), weights.sum(1), 1.0)


class Training(Stateful):
    """Training of a joint network, as the hooks of a balancer receive it.

    Parameters
    ----------
    net : Net
        Net that trains the joint network.
    context : FitContext
        Rows, options and seeds of the fit.
    unimodal : {None, 'split', 'heads'}
        Unimodal logits that the balancer reads.
    unimodal_weight : float
        Weight of the unimodal losses, as set in the classifier.

    Attributes
    ----------
    names : list of str
        Modalities, sorted; tensors with one entry per modality follow this order.
    module : JointModule
        The network: ``branch(name).encoder``, ``branch(name).head``, ``fusion_head``. Blocks of a modality with a
        frozen encoder hold its features, and an `nn.Identity` stands for it.
    parameters : dict of str to list of Parameter
        Trainable parameters of each encoder.
    rows, valid : Rows
        Training and validation rows.
    n_classes : int
        Number of classes.
    device : torch.device
        Device of the network and the batches.
    unimodal_weight : float
        Weight of the losses of the modalities' own heads.
    epoch : int
        Number of completed epochs.
    batches : list of Tensor
        Row numbers of the batches of the current epoch, in their order.
    """

    state_attributes = ("records", "history", "_sums", "_counts")

    def __init__(self, net: Any, context: FitContext, unimodal: Unimodal | None, unimodal_weight: float) -> None:
        self.net, self.context = net, context
        self.module: JointModule = getattr(net.module_, "_orig_mod", net.module_)
        self.names = self.module.names
        self.rows, self.valid = context.train, context.valid
        self.n_classes, self.device = context.n_classes, context.options.device
        self.epoch = 0
        self.batches: list[torch.Tensor] = []
        self.parameters = {
            name: [p for p in self.module.branch(name).encoder.parameters() if p.requires_grad] for name in self.names
        }
        self.unimodal_weight = unimodal_weight or float(unimodal == "heads")
        self._reads_heads = unimodal == "heads" or not self.module.fusion_head.is_sum
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self.records: list[dict[str, np.ndarray]] = []
        self.history: list[dict[str, Any]] = []  # rows of `history_` from trainings before or inside this one

    def forward(self, batch: Batch) -> Outputs:
        """Return the outputs of the network for a batch."""
        if self.context.options.compile:
            return Outputs(self, batch, self.net.infer(batch))
        with self.context.options.autocast():
            return Outputs(self, batch, (None, self.module.encode(batch)))

    def fuse(self, features: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Return the fused logits from the features of the modalities that are present in each row."""
        with self.context.options.autocast():
            return self.module.fuse(features, batch)

    def step(self, batch: Batch) -> None:
        """Update the weights from the current gradients."""
        self.net.step(batch)

    def average_gradients(self) -> None:
        """Average the gradients over the processes of a fit; before, each has the part of its share of the batch.

        `step` averages them too, so only methods that read gradients before need this.
        """
        self.net.average_gradients()

    def zero_grad(self) -> None:
        """Clear all gradients."""
        self.net.zero_grad()

    def unimodal_logits(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the logits of each modality from its features, of the kind that the balancer reads."""
        if self._reads_heads and not self.module.unimodal_heads:
            raise TypeError(
                "this balancer reads the logits of single modalities: set unimodal = 'split' or 'heads' in its class."
            )
        with self.context.options.autocast():
            if self._reads_heads:
                return {name: self.module.branch(name).head(f).float() for name, f in features.items()}
            return {name: z.float() for name, z in self.module.fusion_head.split(features).items()}

    def joint_loss(self, outputs: Outputs, fused: Batch | None = None) -> torch.Tensor:
        """Return the cross-entropy of the fused logits, plus the unimodal loss if the network has unimodal heads.

        With `unimodal_weight` 0 the heads train for the balancer to read, and their loss does not reach the encoders.

        Parameters
        ----------
        outputs : Outputs
            Outputs of the network for one batch.
        fused : Batch or None, default=None
            The batch with the row weights of the fused loss, if they differ from those of `outputs`.

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
        """Return the summed cross-entropy of the unimodal heads, each over the rows that have its modality."""
        with self.context.options.autocast():
            logits = {name: self.module.branch(name).head(f).float() for name, f in features.items()}
        return torch.stack([unimodal_cross_entropy(z, batch, name) for name, z in logits.items()]).sum()

    def generators(self, purpose: str) -> dict[str, torch.Generator]:
        """Return one random generator on the device per modality, so that results do not depend on their order."""
        seeds = {name: self.context.seed_for(purpose, name) for name in self.names}
        return {name: torch.Generator(self.device).manual_seed(seed) for name, seed in seeds.items()}

    def scale_gradients(self, name: str, factor: torch.Tensor) -> None:
        """Multiply the gradients of one encoder by `factor`."""
        gradients = [p.grad for p in self.parameters[name] if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, factor)

    def train_alone(self, name: str) -> Branch:
        """Train a copy of a modality's encoder by itself, under a new head, on the rows that have the modality."""
        branch, context = self.module.branch(name), self.context
        with seeded(context.seed_for(name, "head"), self.device):
            encoder, accumulate = copy.deepcopy(branch.encoder), context.options.accumulate
            unimodal_branch = Branch(name, encoder, branch.embedding_dim, self.n_classes, accumulate=accumulate)
            unimodal_branch = unimodal_branch.to(self.device)
        train_rows, valid_rows = context.split_for(name)
        run = train(
            unimodal_branch,
            train_rows,
            valid_rows,
            context.options,
            n_classes=self.n_classes,
            seed=context.seed_for(name, "training"),
            stage="unimodal",
            modality=name,
            fold=context.fold,
        )
        self.history += run.history
        if run.interrupted:
            raise KeyboardInterrupt
        return unimodal_branch

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> Iterator[Outputs]:
        """Yield the outputs of the network in eval mode, batch by batch."""
        was_training = self.module.training
        self.module.eval()
        try:
            for row_numbers in rows.epoch(rows.eval_batch_size(self.context.options.batch_size)):
                batch = rows.batch(row_numbers)
                yield Outputs(self, batch, self.net.infer(batch))
        finally:
            self.module.train(was_training)

    def record(self, name: str, value: torch.Tensor | float) -> None:
        """Record a number, or one per modality; `balance_history_` holds the mean of each epoch."""
        value = torch.as_tensor(value, dtype=torch.float32).detach()
        self._sums[name] = self._sums[name].add_(value) if name in self._sums else value.clone()
        self._counts[name] = self._counts.get(name, 0) + 1

    def end_epoch(self) -> None:
        """Average the records of the epoch."""
        self.records.append({name: (v / self._counts[name]).cpu().numpy() for name, v in self._sums.items()})
        self._sums, self._counts = {}, {}
