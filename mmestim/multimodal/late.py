"""Late fusion of independently trained branches."""

from __future__ import annotations

from typing import Any

from .._validation import check_choice
from ..training import TrainingRun, train
from ._base import FitJob, MultimodalClassifier
from ._modules import Branch, LateFusion


class LateFusionClassifier(MultimodalClassifier):
    """DOC"""

    def __init__(
        self, modalities=None, *, fusion="sum", shapes=None, encoder="auto", embedding_dim=64, optimizer="sgd",
        lr=0.01, lr_schedule="step", weight_decay=1e-4, max_grad_norm=None, batch_size=64, max_epochs=100,
        early_stopping=True, validation_fraction=0.1, n_iter_no_change=10, class_weight=None, precision="float32",
        compile=False, device="auto", max_memory=1024, callbacks=None, verbose=0, random_state=None,
    ):  # fmt: skip
        super().__init__(
            modalities, shapes=shapes, encoder=encoder, embedding_dim=embedding_dim, optimizer=optimizer, lr=lr,
            lr_schedule=lr_schedule, weight_decay=weight_decay, max_grad_norm=max_grad_norm, batch_size=batch_size,
            max_epochs=max_epochs, early_stopping=early_stopping, validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change, class_weight=class_weight, precision=precision, compile=compile,
            device=device, max_memory=max_memory, callbacks=callbacks, verbose=verbose, random_state=random_state,
        )  # fmt: skip
        self.fusion = fusion

    def _check_parameters(self) -> None:
        check_choice("fusion", self.fusion, ("sum", "mean"))

    def _fit_module(self, job: FitJob) -> tuple[LateFusion, bool]:
        branches, interrupted = self._fit_branches(job)
        return LateFusion(branches, self.fusion), interrupted

    def _fit_branches(self, job: FitJob) -> tuple[dict[str, Branch], bool]:
        """Every branch trained alone, and whether Ctrl-C ended the last one."""
        branches, self.branch_scores_ = {}, {}
        for name in self.modalities_:
            branches[name] = self._build_branch(job, name)
            run = self._train_branch(job, branches[name], "unimodal")
            self.branch_scores_[name] = run.score
            if run.interrupted and len(branches) < len(self.modalities_):
                raise KeyboardInterrupt
        return branches, run.interrupted

    def _train_branch(self, job: FitJob, branch: Branch, stage: str, **train_kwargs: Any) -> TrainingRun:
        """Train one branch on the rows that have its modality."""
        train_rows, valid_rows = job.train.having(branch.name), job.valid.having(branch.name)
        run = train(
            branch, train_rows, valid_rows if len(valid_rows) else train_rows, job.options,
            seed=job.seed_for(branch.name, "training"), stage=stage, modality=branch.name, **train_kwargs,
        )  # fmt: skip
        self.history_ += run.history
        return run
