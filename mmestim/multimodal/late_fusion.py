"""Late fusion of independently trained branches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._data.modalities import Modalities
from .._networks.multimodal_networks import Branch, LateFusion
from .._utils.docstrings import fill_docstring
from .._utils.validation import check_choice
from .base import FitContext, MultimodalClassifier
from .branch_training import train_branches
from .shared_docstrings import SHARED_SECTIONS


@fill_docstring(SHARED_SECTIONS)
class LateFusionClassifier(MultimodalClassifier):
    """Late fusion of branches that are trained alone, one per modality.

    Each modality has its own encoder and linear head, which are trained by cross-entropy without the
    other modalities. A prediction adds the logits of all branches. No modality can suppress another
    one, and none learns from another one.

    Parameters
    ----------
    ${modalities_parameter}
    ${late_fusion_parameter}
    ${training_parameters}

    Attributes
    ----------
    ${data_attributes}
    ${history_attributes}

    See Also
    --------
    UDIClassifier : The same branches, where the strongest one guides the others.
    JointClassifier : All modalities trained together with one fused loss.

    Notes
    -----
    Each branch uses its own validation accuracy for early stopping.

    ${absent_modality_notes}

    Examples
    --------
    >>> from mmestim import LateFusionClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "projections"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> clf.fit(digits.data, digits.target).predict_proba(digits.data).shape
    (1797, 10)
    >>> sorted(clf.predict_proba_per_modality(digits.data))
    ['pixels', 'projections']
    """

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        fusion: str = "sum",
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        encoder: Any = "auto",
        embedding_dim: int = 64,
        optimizer: Any = "sgd",
        lr: float = 0.01,
        lr_schedule: str | None = "step",
        weight_decay: float = 1e-4,
        max_grad_norm: float | None = None,
        batch_size: int = 64,
        max_epochs: int = 100,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: Mapping[Any, float] | str | None = None,
        precision: str = "float32",
        compile: bool = False,
        device: Any = "auto",
        max_memory: float = 1024,
        callbacks: list[Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            modalities,
            shapes=shapes,
            encoder=encoder,
            embedding_dim=embedding_dim,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
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

    def _check_parameters(self) -> None:
        check_choice("fusion", self.fusion, ("sum", "mean"))

    def _fit_module(self, context: FitContext) -> tuple[LateFusion, bool]:
        branches, interrupted = train_branches(
            context, self.modalities_, lambda name: self._build_branch(context, name)
        )
        return LateFusion(branches, self.fusion), interrupted

    def _assemble(self, branches: dict[str, Branch], n_classes: int) -> LateFusion:
        return LateFusion(branches, self.fusion)
