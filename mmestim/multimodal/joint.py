"""Joint training of all modalities with one fused loss, and the usual fusion heads."""

from __future__ import annotations

from typing import Any

import torch

from .._validation import check_choice, check_number
from ..training import Batch, Objective, seeded, train, weighted_cross_entropy
from ._base import FitJob, MultimodalClassifier
from ._modules import JointModule

FUSIONS = ("concat", "sum", "gated", "film")


class JointClassifier(MultimodalClassifier):
    """DOC"""

    def __init__(
        self, modalities=None, *, fusion="concat", unimodal_weight=0.0, shapes=None, encoder="auto", embedding_dim=64,
        optimizer="sgd", lr=0.01, lr_schedule="step", weight_decay=1e-4, max_grad_norm=None, batch_size=64,
        max_epochs=100, early_stopping=True, validation_fraction=0.1, n_iter_no_change=10, class_weight=None,
        precision="float32", compile=False, device="auto", max_memory=1024, callbacks=None, verbose=0,
        random_state=None,
    ):  # fmt: skip
        super().__init__(
            modalities, shapes=shapes, encoder=encoder, embedding_dim=embedding_dim, optimizer=optimizer, lr=lr,
            lr_schedule=lr_schedule, weight_decay=weight_decay, max_grad_norm=max_grad_norm, batch_size=batch_size,
            max_epochs=max_epochs, early_stopping=early_stopping, validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change, class_weight=class_weight, precision=precision, compile=compile,
            device=device, max_memory=max_memory, callbacks=callbacks, verbose=verbose, random_state=random_state,
        )  # fmt: skip
        self.fusion = fusion
        self.unimodal_weight = unimodal_weight

    def _check_parameters(self) -> None:
        check_choice("fusion", self.fusion, FUSIONS)
        check_number("unimodal_weight", self.unimodal_weight)

    def _fit_module(self, job: FitJob) -> tuple[JointModule, bool]:
        names = list(self.modalities_)
        if self.fusion in ("gated", "film") and len(names) != 2:
            raise ValueError(
                f"fusion={self.fusion!r} takes two modalities, of which the first gates; got {len(names)}. "
                "Use fusion='concat' or 'sum'."
            )
        branches = {name: self._build_branch(job, name) for name in names}
        with seeded(job.seed_for("fusion"), job.options.device):
            module = JointModule(branches, self.fusion, job.n_classes, unimodal_heads=self.unimodal_weight > 0)
        module.to(job.options.device)
        run = train(
            module, job.train, job.valid, job.options, seed=job.seed_for("joint"), stage="joint",
            objective=JointObjective(self.unimodal_weight),
        )  # fmt: skip
        self.history_ += run.history
        return module, run.interrupted


class JointObjective(Objective):
    """Cross-entropy of the fused prediction plus `unimodal_weight` times that of each modality's own head."""

    def __init__(self, unimodal_weight: float) -> None:
        self.unimodal_weight = unimodal_weight

    def loss(self, net: Any, output: Any, batch: Batch) -> torch.Tensor:
        loss = super().loss(net, output, batch)
        if self.unimodal_weight == 0:
            return loss
        with net.options.autocast():
            logits = {name: net.module_.unimodal_logits(output[1], name) for name in batch.x}
        for name, z in logits.items():
            if len(batch.x[name]):
                having = batch.having(name)
                z = z if having is batch else z[batch.present[name]]
                loss = loss + self.unimodal_weight * weighted_cross_entropy(z, having)
        return loss
