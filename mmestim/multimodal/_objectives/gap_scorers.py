"""Where the true-class scores of training rows come from: the network itself, or ones that have not seen the row."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..._data.batches import Rows
from ..._data.splits import cross_splits
from ..._networks.multimodal_networks import MultimodalModule
from ..._training.loop import ShadowNetwork
from ..._training.stateful import Stateful
from .._analysis.true_class_scores import true_class_scores
from ..base import FitContext


class TrainingScores(Stateful):
    """The network in training scores the rows that it is trained on."""

    def __init__(self, context: FitContext) -> None:
        self.train, self.options = context.train, context.options

    def begin(self, net: Any) -> None:
        """Before the first epoch."""

    def train_epoch(self, net: Any) -> None:
        """Before each epoch of the network, after the scores were asked for."""

    def scores(self, module: MultimodalModule) -> np.ndarray:
        """Scores of the training rows, one column per modality in the order of their names."""
        return true_class_scores(module, self.train, self.options)


class OutOfFoldScores(TrainingScores):
    """Networks trained in step with the main one, from the same start, each score the rows of the fold they lack."""

    state_attributes = ("companions",)

    def __init__(self, context: FitContext, cv: Any) -> None:
        super().__init__(context)
        codes = context.train.y.cpu().numpy()
        self.splits = []
        for kept, held_out in cross_splits(
            context.train.rows.numpy(), codes, context.groups, cv, context.seed_for("folds")
        ):
            # Of a class that it has not met a network knows nothing, which would look like agreement.
            self.splits.append((kept, held_out[np.isin(codes[held_out], codes[kept])]))
        if not has_gaps(context.train.subset(np.concatenate([scored for _, scored in self.splits]))):
            raise ValueError(
                "gap_source='out_of_fold' finds no row to score: those with two modalities have classes of which no "
                "other fold has a row. Use gap_source='train', or give more rows."
            )
        self.seeds = [context.seed_for("fold", str(fold)) for fold in range(len(self.splits))]

    def begin(self, net: Any) -> None:
        module = getattr(net.module_, "_orig_mod", net.module_)
        self.companions = [
            ShadowNetwork(copy.deepcopy(module), self.train.subset(kept), net, seed, f"{net.title}, fold {fold}")
            for fold, ((kept, _), seed) in enumerate(zip(self.splits, self.seeds, strict=True))
        ]

    def train_epoch(self, net: Any) -> None:
        lr = net.optimizer_.param_groups[0]["lr"]
        for companion in self.companions:
            companion.train_epoch(lr)

    def scores(self, module: MultimodalModule) -> np.ndarray:
        table = np.full((len(self.train.y), len(self.train.names)), np.nan, dtype=np.float32)
        for companion, (_, scored) in zip(self.companions, self.splits, strict=True):
            if len(scored):
                table[scored] = true_class_scores(companion.net.module_, self.train.subset(scored), self.options)
        return table[self.train.rows.numpy()]


def has_gaps(rows: Rows) -> bool:
    """Whether any of the rows has two modalities."""
    have = np.stack([rows.blocks.present(name) for name in rows.names])[:, rows.rows.numpy()]
    return bool((have.sum(axis=0) > 1).any())
