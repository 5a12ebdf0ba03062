"""Scorers of the true class of training rows: the network in training, or networks that have not seen the row."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..._data.batches import Rows
from ..._data.splits import cross_splits
from ..._networks.multimodal_networks import MultimodalModule
from ..._training.loop import ShadowNetwork
from ..._training.state_encoding import Stateful
from .._analysis.true_class_scores import true_class_scores
from ..fit_context import FitContext


class TrainingScores(Stateful):
    """Scores from the network in training, on its own training rows."""

    def __init__(self, context: FitContext) -> None:
        self.train, self.options = context.train, context.options

    def begin(self, net: Any) -> None:
        """Prepare before the first epoch; does nothing here."""

    def train_epoch(self, net: Any) -> None:
        """Train before each epoch of the main network, after its scores were read; does nothing here."""

    def scores(self, module: MultimodalModule) -> np.ndarray:
        """Return the scores of the training rows, one column per modality in the order of their names."""
        return true_class_scores(module, self.train, self.options)


class OutOfFoldScores(TrainingScores):
    """Scores from networks that train in step with the main one, from the same start, each without one fold."""

    state_attributes = ("shadow_networks",)

    def __init__(self, context: FitContext, cv: Any) -> None:
        super().__init__(context)
        codes = context.train.y.cpu().numpy()
        self.splits: list[tuple[np.ndarray, np.ndarray]] = []
        for training_rows, held_out_rows in cross_splits(
            context.train.rows.numpy(), codes, None, cv if isinstance(cv, int) else 3, context.seed_for("folds")
        ):
            # An untrained class scores near zero for every modality, which would look like agreement.
            is_trained_class = np.isin(codes[held_out_rows], codes[training_rows])
            self.splits.append((training_rows, held_out_rows[is_trained_class]))
        if not has_gaps(context.train.subset(np.concatenate([scored_rows for _, scored_rows in self.splits]))):
            raise ValueError(
                "gap_source='out_of_fold' finds no row to score: the classes of all rows with two modalities occur in "
                "one fold only. Use gap_source='train', or pass more rows."
            )
        self.seeds = [context.seed_for("fold", str(fold)) for fold in range(len(self.splits))]

    def begin(self, net: Any) -> None:
        module = getattr(net.module_, "_orig_mod", net.module_)
        self.shadow_networks = [
            ShadowNetwork(copy.deepcopy(module), self.train.subset(rows), net, seed, f"{net.title}, fold {fold}")
            for fold, ((rows, _), seed) in enumerate(zip(self.splits, self.seeds, strict=True))
        ]

    def train_epoch(self, net: Any) -> None:
        """Train every network for one epoch at the learning rate of the main one."""
        lr = net.optimizer_.param_groups[0]["lr"]
        for network in self.shadow_networks:
            network.train_epoch(lr)

    def scores(self, module: MultimodalModule) -> np.ndarray:
        """Return the scores of the training rows, NaN where the class of a row occurs in one fold only."""
        table = np.full((len(self.train.y), len(self.train.names)), np.nan, dtype=np.float32)
        for network, (_, rows) in zip(self.shadow_networks, self.splits, strict=True):
            if len(rows):
                table[rows] = true_class_scores(network.net.module_, self.train.subset(rows), self.options)
        return table[self.train.rows.numpy()]


def has_gaps(rows: Rows) -> bool:
    """Return whether any of the rows has two modalities."""
    present = np.stack([rows.blocks.present(name) for name in rows.names])[:, rows.rows.numpy()]
    return bool((present.sum(axis=0) > 1).any())
