"""Data, options and seed of one fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from .._data.batches import Rows, read_ahead
from .._data.splits import Split
from .._distributed.exchange import synchronize
from .._networks.frozen_encoders import FrozenEncoder
from .._networks.multimodal_networks import Branch, MultimodalModule
from .._training.devices import seed_for
from .._training.options import TrainingOptions


@dataclass
class FitContext:
    """Data, options and seed of one fit, shared by all of its training stages.

    Attributes
    ----------
    rows : Rows
        All rows of X.
    folds : list of (int ndarray, int ndarray)
        Training rows and held-out rows of each network: one pair, or one per fold. The rows of a pair are
        the same if none is held out.
    options : TrainingOptions
        Resolved training parameters of the classifier.
    seed : int
        Seed from which all seeds of the fit are derived.
    n_classes : int
        Number of classes.
    history : list of dict
        One entry per epoch of the stages so far, which each stage extends.
    fold : int or None
        Number of the fold, in the context of the network of one fold.
    frozen : dict of str to FrozenEncoder
        Frozen encoders, by modality, whose features have replaced the blocks.
    """

    rows: Rows
    folds: list[Split]
    options: TrainingOptions
    seed: int
    n_classes: int
    history: list[dict[str, Any]] = field(default_factory=list)
    fold: int | None = None
    frozen: dict[str, FrozenEncoder] = field(default_factory=dict)

    @property
    def train(self) -> Rows:
        """Rows that any network is trained on."""
        return self.rows.subset(np.unique(np.concatenate([train for train, _ in self.folds])))

    @property
    def valid(self) -> Rows:
        """Rows that are held out from any network."""
        return self.rows.subset(np.unique(np.concatenate([valid for _, valid in self.folds])))

    def seed_for(self, *purpose: str) -> int:
        """Return the seed of one branch or helper network."""
        return seed_for(self.seed, *purpose)

    def folds_for(self, name: str) -> list[tuple[Rows, Rows]]:
        """Return training and validation rows of each network, of those that have a modality.

        A network without training rows gets all rows. If no network has a validation row, each one
        validates on its training rows.

        Parameters
        ----------
        name : str
            The modality.

        Returns
        -------
        list of (Rows, Rows)
            Rows of this modality alone.
        """
        every_row = self.rows.subset(np.unique(np.concatenate([*self.folds[0]]))).with_modality(name)
        folds = []
        for train, valid in self.folds:
            train_rows = self.rows.subset(train).with_modality(name)
            folds.append((train_rows if len(train_rows) else every_row, self.rows.subset(valid).with_modality(name)))
        if not any(len(valid_rows) for _, valid_rows in folds):
            folds = [(train_rows, train_rows) for train_rows, _ in folds]
        return folds

    def split_for(self, name: str) -> tuple[Rows, Rows]:
        """Return training and validation rows of the only network, of those that have a modality."""
        return self.folds_for(name)[0]

    def fold_contexts(self) -> list[FitContext]:
        """Return the context of each network; it is this one if there is only one."""
        if len(self.folds) == 1:
            return [self]
        return [
            replace(self, folds=[split], seed=self.seed_for("fold", str(number)), fold=number)
            for number, split in enumerate(self.folds)
        ]

    @torch.no_grad()
    def freeze(self, name: str, encoder: nn.Module, n_features: int, max_memory: float) -> None:
        """Replace the block of a modality by the features of a frozen encoder, within `max_memory` MiB."""
        device, rows = self.options.device, self.rows.with_modality(name)
        self.options.log_stage(f"features of {name!r} are computed once, because its encoder is frozen")
        branch = Branch(name, encoder, n_features, self.n_classes, nn.Identity()).to(device).eval()
        synchronize(branch)

        def compute(features: torch.Tensor) -> None:
            for batch in read_ahead(rows, rows.epoch(rows.eval_batch_size(self.options.batch_size))):
                with self.options.autocast():
                    features[batch.rows.to(features.device)] = branch.encode(batch).to(features.device)

        self.frozen[name] = FrozenEncoder(branch.encoder, rows.blocks.shapes[name], n_features)
        rows.blocks.replace(name, n_features, compute, max_memory, device)

    def restore_encoders(self, module: MultimodalModule) -> None:
        """Put the frozen encoders in their places in a trained network."""
        for name, frozen in self.frozen.items():
            frozen.restore(module.branch(name))

    def unsplit(self, options: TrainingOptions) -> FitContext:
        """Return the context of a network that is trained on all rows with other options."""
        every_row = self.train.rows.numpy()
        return replace(self, folds=[(every_row, every_row)], options=options)
