"""Where the true-class scores of training rows come from: the network itself, or ones that have not seen the row."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..training import Companion
from ._base import FitJob
from ._modules import MultimodalModule
from ._splits import folds_of
from .contributions import true_class_scores


class TrainRows:
    """The network in training scores the rows that it is trained on."""

    def __init__(self, job: FitJob) -> None:
        self.train, self.options = job.train, job.options

    def begin(self, net: Any) -> None:
        """Before the first epoch."""

    def train_epoch(self, net: Any) -> None:
        """Before each epoch of the network, after the scores were asked for."""

    def scores(self, module: MultimodalModule) -> np.ndarray:
        """Scores of the training rows, one column per modality in the order of their names."""
        return true_class_scores(module, self.train, self.options)


class OutOfFold(TrainRows):
    """Networks trained in step with the main one, from the same start, each score the rows of the fold they lack."""

    def __init__(self, job: FitJob, cv: Any) -> None:
        super().__init__(job)
        self.folds = folds_of(job.train.rows.numpy(), job.train.y.cpu().numpy(), job.groups, cv, job.seed_for("folds"))
        self.seeds = [job.seed_for("fold", str(fold)) for fold in range(self.folds.max() + 1)]

    def begin(self, net: Any) -> None:
        module = getattr(net.module_, "_orig_mod", net.module_)
        self.companions = [
            Companion(copy.deepcopy(module), self._rows(self.folds != fold), net, seed, f"{net.title}, fold {fold}")
            for fold, seed in enumerate(self.seeds)
        ]

    def train_epoch(self, net: Any) -> None:
        lr = net.optimizer_.param_groups[0]["lr"]
        for companion in self.companions:
            companion.train_epoch(lr)

    def scores(self, module: MultimodalModule) -> np.ndarray:
        table = np.empty((len(self.train), len(self.train.names)), dtype=np.float32)
        for fold, companion in enumerate(self.companions):
            held_out = self.folds == fold
            table[held_out] = true_class_scores(companion.net.module_, self._rows(held_out), self.options)
        return table

    def _rows(self, mask):
        return self.train.subset(self.train.rows.numpy()[mask])
