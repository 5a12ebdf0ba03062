"""Late fusion of independently trained branches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .._data.modalities import Modalities
from .._data.splits import Folds
from .._networks.multimodal_networks import Branch, LateFusion
from .._training.options import LearningRate, Monitor, Optimizer, Precision, Schedule
from .._utils.docstrings import fill_docstring
from .._utils.types import Seed
from ..encoders.choice import Encoder
from ._cross_fitting.branch_training import refit_branch, train_branches
from ._cross_fitting.late_fusion import (
    Fusion,
    check_fusion_parameters,
    check_saved_branches,
    join_modalities,
    store_oof_proba,
)
from ._cross_fitting.outputs import evaluate_branches
from .base import MultimodalClassifier
from .fit_context import FitContext
from .shared_docstrings import SHARED_SECTIONS


@fill_docstring(SHARED_SECTIONS)
class LateFusionClassifier(MultimodalClassifier):
    r"""Late fusion of branches that are trained alone, one per modality.

    >>> from mmestim import LateFusionClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "projections"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> clf.fit(digits.data, digits.target).predict_proba(digits.data).shape
    (1797, 10)

    Each modality has its own encoder and linear head, which are trained by cross-entropy without the
    other modalities. No modality can suppress another one, and none learns from another one. By
    default each branch is cross-fitted: its networks leave out one fold of the rows each, and the
    predictions on these rows decide when to stop and how much each modality counts.

    Parameters
    ----------
    ${modalities_parameter}
    ${late_fusion_parameter}
    ${training_parameters}

    Attributes
    ----------
    ${fusion_attributes}
    ${data_attributes}
    ${history_attributes}

    See Also
    --------
    UDIClassifier : The same branches, where the strongest one guides the others.
    JointClassifier : All modalities trained together with one fused loss.

    Notes
    -----
    With log-probabilities log p and weights w, the fused prediction is
    :math:`softmax(\sum_m w_m \log p_m)`. The weights minimise its cross-entropy on the held-out rows
    plus :math:`10^{-3} \sum_m (w_m - 1)^2`, under :math:`w_m \ge 0`. Cross-fitting and weights are ours.

    ${absent_modality_notes}
    """

    branch_scores_: dict[str, float]
    fusion_weights_: dict[str, float]
    oof_proba_: dict[str, NDArray[np.float32]]

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        fusion: Fusion = "weighted",
        ensemble: bool = True,
        store_oof: bool = False,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        encoder: Encoder | Mapping[str, Encoder] = "auto",
        embedding_dim: int = 64,
        cv: Literal["auto"] | Folds | None = "auto",
        optimizer: Optimizer = "adamw",
        lr: LearningRate = "auto",
        lr_schedule: Schedule | None = "auto",
        weight_decay: float | Literal["auto"] = "auto",
        max_grad_norm: float | None = None,
        batch_size: int = 64,
        accumulate: int = 1,
        max_epochs: int = 100,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        monitor: Monitor = "valid_loss",
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        precision: Precision = "float32",
        compile: bool = False,
        device: str | torch.device = "auto",
        max_memory: float = 1024,
        callbacks: list[Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(
            modalities,
            shapes=shapes,
            encoder=encoder,
            embedding_dim=embedding_dim,
            cv=cv,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            batch_size=batch_size,
            accumulate=accumulate,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            monitor=monitor,
            class_weight=class_weight,
            precision=precision,
            compile=compile,
            device=device,
            max_memory=max_memory,
            callbacks=callbacks,
            checkpoint=checkpoint,
            verbose=verbose,
            random_state=random_state,
        )
        self.fusion = fusion
        self.ensemble = ensemble
        self.store_oof = store_oof

    _saved_attributes: ClassVar = (*MultimodalClassifier._saved_attributes, "branch_scores_", "fusion_weights_")

    def _check_parameters(self) -> None:
        check_fusion_parameters(self)

    def _check_saved_attributes(self) -> None:
        super()._check_saved_attributes()
        check_saved_branches(self)

    def _n_stages(self, context: FitContext) -> int:
        return len(self.modalities_) * (1 if self.ensemble else 2)

    def _fit_module(self, context: FitContext) -> tuple[LateFusion, bool]:
        trained, interrupted = train_branches(context, self.modalities_, self._build_branch)
        outputs = {name: evaluate_branches(context, branches, False) for name, (branches, _) in trained.items()}
        self.branch_scores_ = {name: outputs[name].score(context.rows)[0] for name in outputs}
        store_oof_proba(self, outputs)
        final = {name: branches for name, (branches, _) in trained.items()}
        if not self.ensemble and not interrupted:
            for name, (_, n_epochs) in trained.items():
                if interrupted:
                    raise KeyboardInterrupt
                branch, interrupted = refit_branch(context, name, n_epochs, self._build_branch, "unimodal, all rows")
                final[name] = [branch]
        return join_modalities(self, context, final, outputs), interrupted

    def _assemble(self, branches: dict[str, Branch], n_classes: int) -> LateFusion:
        return LateFusion(branches, self.fusion)
