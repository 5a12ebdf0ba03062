"""UDI: the strongest modality is trained first, frozen, and guides the others."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch

from .._validation import check_choice, check_number
from ._base import FitJob
from ._guidance import GUIDANCE_RULES, Frozen, Guidance
from ._modules import Branch, LateFusion
from .late import LateFusionClassifier


class UDIClassifier(LateFusionClassifier):
    """DOC"""

    def __init__(
        self, modalities=None, *, guidance="aligned", anchor="auto", anchor_tolerance=0.015, follower_init="fresh",
        fusion="sum", shapes=None, encoder="auto", embedding_dim=64, optimizer="sgd", lr=0.01, lr_schedule="step",
        weight_decay=1e-4, max_grad_norm=None, batch_size=64, max_epochs=100, early_stopping=True,
        validation_fraction=0.1, n_iter_no_change=10, class_weight=None, precision="float32", compile=False,
        device="auto", max_memory=1024, callbacks=None, verbose=0, random_state=None,
    ):  # fmt: skip
        super().__init__(
            modalities, fusion=fusion, shapes=shapes, encoder=encoder, embedding_dim=embedding_dim,
            optimizer=optimizer, lr=lr, lr_schedule=lr_schedule, weight_decay=weight_decay,
            max_grad_norm=max_grad_norm, batch_size=batch_size, max_epochs=max_epochs, early_stopping=early_stopping,
            validation_fraction=validation_fraction, n_iter_no_change=n_iter_no_change, class_weight=class_weight,
            precision=precision, compile=compile, device=device, max_memory=max_memory, callbacks=callbacks,
            verbose=verbose, random_state=random_state,
        )  # fmt: skip
        self.guidance = guidance
        self.anchor = anchor
        self.anchor_tolerance = anchor_tolerance
        self.follower_init = follower_init

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if isinstance(self.guidance, Sequence) and not isinstance(self.guidance, str):
            if len(self.guidance) != 2:
                raise ValueError(f"guidance={self.guidance!r} must be two weights, (consistency, complementarity).")
            for weight in self.guidance:
                check_number("guidance", weight)
        else:
            check_choice("guidance", self.guidance, [*GUIDANCE_RULES, None], ", or two weights such as (1.0, 0.0)")
        check_number("anchor_tolerance", self.anchor_tolerance, high=1)
        check_choice("follower_init", self.follower_init, ("fresh", "warm"))

    def _fit_module(self, job: FitJob) -> tuple[LateFusion, bool]:
        check_choice("anchor", self.anchor, ["auto", *self.modalities_])
        branches, interrupted = self._fit_branches(job)
        self.order_ = self._rank(job, branches)
        self.anchor_ = self.order_[0]
        self.guidance_history_: dict[str, dict[str, np.ndarray]] = {}
        if self.guidance is not None:
            frozen = Frozen(job.train, self.fusion)
            for done, name in itertools.pairwise(self.order_):
                if not interrupted:
                    frozen.add(branches[done], job.options)
                    branches[name], interrupted = self._fit_follower(job, branches[name], frozen)
        return LateFusion(branches, self.fusion), interrupted

    def _rank(self, job: FitJob, branches: dict[str, Branch]) -> list[str]:
        """The anchor, then the others from the most accurate on the validation rows down."""
        scores = self.branch_scores_
        anchor = self.anchor
        if anchor == "auto":
            close = [name for name in scores if scores[name] >= max(scores.values()) - self.anchor_tolerance]
            anchor = close[0]
            if len(close) > 1:
                anchor = min(close, key=lambda name: (_mean_entropy(job, branches[name]), name))
        return [anchor, *sorted((name for name in scores if name != anchor), key=lambda name: (-scores[name], name))]

    def _fit_follower(self, job: FitJob, branch: Branch, frozen: Frozen) -> tuple[Branch, bool]:
        """A branch trained under the guidance of those before it, and whether Ctrl-C cut it short."""
        alone = branch
        branch = copy.deepcopy(alone) if self.follower_init == "warm" else self._build_branch(job, alone.name)
        guidance = Guidance(frozen, self.guidance, job.seed_for(alone.name, "mutual information"))
        try:
            run = self._train_branch(job, branch, "guided", objective=guidance)
        except KeyboardInterrupt:  # Before the first epoch was over: the branch trained alone will do.
            return alone, True
        self.guidance_history_[alone.name] = guidance.history()
        return branch, run.interrupted


@torch.no_grad()
def _mean_entropy(job: FitJob, branch: Branch) -> float:
    """Mean entropy of a branch's predictions on the validation rows, in nats."""
    rows = job.valid.having(branch.name)
    rows = rows if len(rows) else job.train.having(branch.name)
    total = 0.0
    for part in rows.epoch(rows.eval_batch_size(job.options.batch_size)):
        with job.options.autocast():
            logits, _ = branch(rows.batch(part))
        total += float(torch.distributions.Categorical(logits=logits).entropy().sum())
    return total / len(rows)
