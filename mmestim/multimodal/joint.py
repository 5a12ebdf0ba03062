"""Joint training of all modalities with one fused loss, optionally with a balancing method."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone

from .._data.modalities import Modalities
from .._data.splits import Folds
from .._networks.fold_networks import join_networks
from .._networks.multimodal_networks import JointModule
from .._training.options import LearningRate, Monitor, Optimizer, Precision, Schedule
from .._utils.docstrings import fill_docstring
from .._utils.types import Seed
from ..balancers._base import Balancer
from ..encoders.choice import Encoder
from ._cross_fitting.joint_training import train_in_step, train_in_turn
from ._objectives.balanced import BalancedObjective
from ._objectives.joint import JointObjective
from .fit_context import FitContext
from .joint_base import Fusion, JointBase
from .shared_docstrings import SHARED_SECTIONS


@fill_docstring(SHARED_SECTIONS)
class JointClassifier(JointBase):
    """Joint training of all modalities by the cross-entropy of their fused prediction.

    >>> from mmestim import JointClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "projections"])
    >>> clf = JointClassifier(digits.modalities, unimodal_weight=1.0, max_epochs=5, random_state=0)
    >>> clf.fit(digits.data, digits.target).transform(digits.data).shape  # 2 * 64 features from each of 5 networks
    (1797, 640)

    This is the baseline of balanced multimodal learning. One loss trains all encoders, so a modality
    that learns fast can leave the others under-trained.

    Parameters
    ----------
    ${modalities_parameter}
    ${joint_fusion_parameter}
    unimodal_weight : float, default=0.0
        Weight of the cross-entropy of each modality's own head, added to the fused loss. A balancer
        that requires these losses, such as `MMPareto`, uses 1 in place of 0.
    balancer : Balancer or None, default=None
        Balancing method from `mmestim.balancers`, such as ``OGM(alpha=0.5)``, which keeps one modality
        from suppressing the others. Its parameters can be searched as ``balancer__alpha``. It has no
        effect with a single modality.
    ${training_parameters}

    Attributes
    ----------
    balancers_ : list of Balancer
        Balancer of each network, one without cross-fitting: clones of `balancer` with their state as
        arrays. Empty without a balancer or with a single modality.
    balance_history_ : list of dict of str to ndarray
        For each balancer, the values that it recorded, such as its coefficients, with one row per
        epoch.
    ${data_attributes}
    ${history_attributes}

    See Also
    --------
    LateFusionClassifier : Branches trained alone.
    UDIClassifier : Branches where the strongest one guides the others.

    Notes
    -----
    `predict_proba_per_modality` reads the modality's own head if `unimodal_weight` or the balancer
    trains one. A balancer's own fusion head predicts from the modality alone. Otherwise the fused
    prediction is made with the features of the other modalities at zero, as if they were absent.

    ${absent_modality_notes}
    """

    balancers_: list[Balancer]
    balance_history_: list[dict[str, NDArray[np.float32]]]

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        fusion: Fusion = "concat",
        unimodal_weight: float = 0.0,
        balancer: Balancer | None = None,
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
        self.unimodal_weight = unimodal_weight
        self.balancer = balancer

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.balancer is not None and not isinstance(self.balancer, Balancer):
            raise TypeError(f"balancer={self.balancer!r} must be an instance of a class in mmestim.balancers, or None.")

    def _fit_module(self, context: FitContext) -> tuple[JointModule, bool]:
        self.balancers_, self.balance_history_ = [], []
        networks, interrupted = train_in_turn(context, self._fit_network)
        self.n_networks_ = len(networks)
        return join_networks(networks), interrupted

    def _fit_network(self, context: FitContext) -> tuple[JointModule, bool]:
        """Train one network, and return it with whether Ctrl-C cut its training short."""
        balancer = self._new_balancer()
        module = self._build_joint(context, balancer)
        if balancer is None:
            run = train_in_step(context, [module], JointObjective(self.unimodal_weight))
        else:
            objective = BalancedObjective(self.unimodal_weight, balancer, context)
            run = train_in_step(context, [module], objective)
            self.balancers_.append(balancer)
            self.balance_history_.append(objective.history(len(run.history)))
            context.history += objective.training.history
        context.history += run.history
        return module, run.interrupted

    def _new_balancer(self) -> Balancer | None:
        return None if self.balancer is None or len(self.modalities_) == 1 else clone(self.balancer)
