"""UDI: training in which the strongest modality is trained first, frozen, and guides the others."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from .._data.batches import Rows
from .._data.folds import FoldRows
from .._data.modalities import Modalities
from .._data.splits import Folds
from .._networks.multimodal_networks import Branch, LateFusion
from .._training.options import LearningRate, Monitor, Optimizer, Precision, Schedule
from .._utils.docstrings import fill_docstring
from .._utils.types import Seed
from .._utils.validation import check_choice, check_number
from ..encoders.choice import Encoder
from ._cross_fitting.branch_training import TrainedBranches, refit_branch, train_branches, train_folds
from ._cross_fitting.late_fusion import (
    Fusion,
    check_fusion_parameters,
    check_saved_branches,
    join_modalities,
    store_oof_proba,
)
from ._cross_fitting.outputs import BranchOutputs, evaluate_branches
from ._objectives.guidance import FrozenBranches, Guidance, GuidanceRule
from .base import MultimodalClassifier, published_parameters
from .fit_context import FitContext
from .shared_docstrings import SHARED_SECTIONS


@fill_docstring(SHARED_SECTIONS)
class UDIClassifier(MultimodalClassifier):
    r"""Unidirectional dynamic interaction: the strongest modality guides the others.

    >>> from mmestim import UDIClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "projections"])
    >>> clf = UDIClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> clf.fit(digits.data, digits.target).anchor_
    'pixels'

    Every modality is first trained alone. The most accurate one on held-out rows becomes the anchor and
    is frozen. The others, the followers, are then trained again, from the strongest to the weakest.
    Each minimises its own cross-entropy and two unsupervised losses against the frozen modalities. A
    divergence pulls its predictions towards theirs, and a bound of mutual information keeps its
    features different from theirs [1]_. By default every branch is cross-fitted, and the frozen
    modalities guide by predictions on rows that their networks have not seen.

    Parameters
    ----------
    ${modalities_parameter}
    guidance : {'validated', 'aligned', 'dynamic'}, (float, float) or None, default='validated'
        Weights of the consistency and the complementarity loss, set once per epoch. ``'dynamic'`` is
        the rule of the paper: on one mini-batch, each loss gets its fraction of the positive inner
        products of its gradient with that of the fused loss. ``'aligned'`` and ``'validated'`` are
        ours. ``'aligned'`` uses cosines instead of inner products, averaged over at most eight
        mini-batches, so that neither the scale of a loss nor a single batch decides. ``'validated'``
        takes the gradient of the fused loss on held-out rows, which neither side has seen, and uses
        the positive cosines themselves as weights. Two numbers are fixed weights. `None` skips the
        guided stage, which makes it `LateFusionClassifier`.
    anchor : str, default='auto'
        Modality that guides the others, or ``'auto'`` for the most accurate one on held-out rows.
        ``'auto'`` leaves out modalities of which no row is held out, if there are others.
    anchor_tolerance : float, default=0.015
        Largest difference in accuracy at which modalities count as equally good. Among those, the one
        with the lowest mean predictive entropy is the anchor. The paper gives no value.
    follower_init : {'fresh', 'warm'}, default='fresh'
        Whether followers start from new weights or from the weights of their training alone.
    ${late_fusion_parameter}
    ${training_parameters}

    Attributes
    ----------
    anchor_ : str
        Modality that guides the others.
    order_ : list of str
        The anchor, followed by the followers in the order of their training.
    guidance_history_ : dict of str to dict of str to ndarray
        For each follower, arrays with one row per epoch: ``weights`` of consistency and
        complementarity. If these adapt, also ``alignment`` of both losses with the fused loss, and
        ``gradient_norm`` of the fused loss and of both losses.
    ${fusion_attributes}
    ${data_attributes}
    ${history_attributes}

    See Also
    --------
    LateFusionClassifier : The same branches without guidance.
    JointClassifier : All modalities trained together with one fused loss.

    Notes
    -----
    Let z be the logits, p the probabilities and f the features of the follower m and the anchor a. With
    natural logarithms and means over the batch, the follower minimises

    .. math:: CE(z_m, y) + \alpha_{con} JS(p_a, p_m) + \alpha_{com} I_v(f_a; f_m),

    equations 4, 8 and 12 of [1]_. I_v is the CLUB bound [2]_ with a Gaussian, whose network is fitted
    by one step per batch before the follower's step, by Adam with learning rate 1e-3. With three or
    more modalities, p_a is the fused prediction of the frozen modalities and I_v the mean over them
    (equations 26 and 27). The weights follow equations 13 to 16. The gradient of the fused loss only
    sets these weights; it never trains a network.

    Both features pass through layer normalisation before the bound. The paper does not mention this.
    Without it, a follower could lower the bound without limit by scaling up its features, and
    training diverged.

    The paper leaves several choices open. Ours are the initial weights of the followers, the mean
    instead of the sum over samples in equation 5, the network of the bound and its training, the
    batches that set the weights (the first of the epoch), the learning-rate schedule, the validation
    split and the tolerance. Frozen branches are evaluated once, not once per epoch. The rules judge
    by one batch or, if batches are small, by up to 512 rows and a quarter of an epoch. With
    cross-fitting, which is ours, the gradients of all folds count as one, the consistency loss and
    the fused loss use the out-of-fold predictions of the frozen modalities, and each fold of the
    bound compares the features of two networks that were trained on the same rows.

    ${absent_modality_notes}

    References
    ----------
    .. [1] Wang et al., "Balanced Multimodal Learning: An Unidirectional Dynamic Interaction
       Perspective", 2025, arXiv:2509.02281.
    .. [2] Cheng et al., "CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information",
       ICML 2020.
    """

    branch_scores_: dict[str, float]
    fusion_weights_: dict[str, float]
    oof_proba_: dict[str, NDArray[np.float32]]
    anchor_: str
    order_: list[str]
    guidance_history_: dict[str, dict[str, NDArray[np.floating]]]

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        guidance: GuidanceRule | Sequence[float] | None = "validated",
        anchor: str = "auto",
        anchor_tolerance: float = 0.015,
        follower_init: Literal["fresh", "warm"] = "fresh",
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
        self.guidance = guidance
        self.anchor = anchor
        self.anchor_tolerance = anchor_tolerance
        self.follower_init = follower_init
        self.fusion = fusion
        self.ensemble = ensemble
        self.store_oof = store_oof

    @classmethod
    def published(cls, modalities: Modalities | None = None, **parameters: Any) -> Self:
        """Return an estimator with the settings of the paper, as far as they are known.

        The paper states SGD with momentum 0.9, a weight decay of 1e-4, batches of 64, the sum of logits, the guidance
        ``'dynamic'``, and a learning rate of 0.01 for CREMA-D and Kinetics-Sounds (0.001 for Food-101 and UCF101). Its
        plots have 100 epochs, or 20 for the small sets. There is no cross-fitting. The step schedule and the best of
        all epochs by accuracy on a tenth of the rows are ours. So are the encoders: the paper's are ResNet18, BERT and
        others, so pass yours as `encoder`, or ``encoder='mlp'`` for plain perceptrons of vectors.

        Parameters
        ----------
        modalities : dict or None, default=None
            As in the constructor.
        **parameters : object
            Parameters that replace or complete these settings.

        Returns
        -------
        UDIClassifier
            Unfitted estimator.

        Examples
        --------
        >>> from mmestim import UDIClassifier
        >>> UDIClassifier.published(max_epochs=20).guidance
        'dynamic'
        """
        settings = {"fusion": "sum", "guidance": "dynamic", "lr": 0.01}
        return cls(modalities, **published_parameters(settings, parameters))

    _saved_attributes: ClassVar = (
        *MultimodalClassifier._saved_attributes,
        "branch_scores_",
        "fusion_weights_",
        "anchor_",
        "order_",
    )

    def _check_parameters(self) -> None:
        check_fusion_parameters(self)
        if isinstance(self.guidance, Sequence | np.ndarray) and not isinstance(self.guidance, str):
            if len(self.guidance) != 2:
                raise ValueError(f"guidance={self.guidance!r} must be two weights, (consistency, complementarity).")
            for weight in self.guidance:
                check_number("guidance", weight)
        else:
            rules = [*get_args(GuidanceRule), None]
            check_choice("guidance", self.guidance, rules, ", or two weights such as (1.0, 0.0)")
        check_number("anchor_tolerance", self.anchor_tolerance, high=1)
        check_choice("follower_init", self.follower_init, ("fresh", "warm"))

    def _check_saved_attributes(self) -> None:
        super()._check_saved_attributes()
        check_saved_branches(self)
        names = sorted(self.modalities_)
        if not isinstance(self.order_, list) or sorted(self.order_) != names or self.order_[0] != self.anchor_:
            raise ValueError(f"order_={self.order_!r} must be the modalities {names}, starting with {self.anchor_!r}.")

    def _n_stages(self, context: FitContext) -> int:
        n_alone, n_guided = len(self.modalities_), 0 if self.guidance is None else len(self.modalities_) - 1
        n_refits = n_alone + (n_guided if self.follower_init == "warm" else 0)
        return n_alone + n_guided + (0 if self.ensemble else n_refits)

    def _fit_module(self, context: FitContext) -> tuple[LateFusion, bool]:
        check_choice("anchor", self.anchor, ["auto", *self.modalities_])
        is_guided = self.guidance is not None
        trained, interrupted = train_branches(context, self.modalities_, self._build_branch)
        epochs_alone = {name: n_epochs for name, (_, n_epochs) in trained.items()}
        outputs = {name: evaluate_branches(context, branches, is_guided) for name, (branches, _) in trained.items()}
        self.order_ = self._rank_modalities(outputs, context.rows)
        self.anchor_ = self.order_[0]
        self.guidance_history_ = {}
        if is_guided:
            frozen = FrozenBranches(context, self.fusion)
            for previous, name in itertools.pairwise(self.order_):
                if not interrupted:
                    frozen.add(outputs[previous])
                    trained[name], interrupted = self._fit_follower(context, trained[name], frozen)
                    outputs[name] = evaluate_branches(context, trained[name].branches, name != self.order_[-1])
        store_oof_proba(self, outputs)
        branches = {name: fold_branches for name, (fold_branches, _) in trained.items()}
        if not self.ensemble and not interrupted:
            branches, interrupted = self._refit(context, trained, outputs, epochs_alone)
        return join_modalities(self, context, branches, outputs), interrupted

    def _assemble(self, branches: dict[str, Branch], n_classes: int) -> LateFusion:
        return LateFusion(branches, self.fusion)

    def _rank_modalities(self, outputs: Mapping[str, BranchOutputs], rows: Rows) -> list[str]:
        """Return the anchor, followed by the others in order of decreasing accuracy.

        Modalities without a held-out row come last: their accuracy is that on training rows.
        """
        scores = {name: branch.score(rows) for name, branch in outputs.items()}
        self.branch_scores_ = {name: accuracy for name, (accuracy, _) in scores.items()}
        judged = [name for name, branch in outputs.items() if branch.has_held_out] or list(outputs)
        best = max(self.branch_scores_[name] for name in judged)
        candidates = [name for name in judged if self.branch_scores_[name] >= best - self.anchor_tolerance]
        anchor = self.anchor
        if anchor == "auto":
            anchor = min(candidates, key=lambda name: (scores[name][1], name))
        followers = outputs.keys() - {anchor}
        return [anchor, *sorted(followers, key=lambda name: (name not in judged, -self.branch_scores_[name], name))]

    def _fit_follower(
        self, context: FitContext, alone: TrainedBranches, frozen: FrozenBranches
    ) -> tuple[TrainedBranches, bool]:
        """Train the branches of a modality again under guidance, and report whether Ctrl-C cut it short.

        `alone` are the branches as they were trained by themselves, which are returned if no epoch was completed.
        """
        name = alone.branches[0].name
        if self.follower_init == "warm":
            branches = copy.deepcopy(alone.branches)
        else:
            branches = [self._build_branch(fold, name) for fold in context.fold_contexts()]
        held_out = FoldRows([valid for _, valid in context.folds_for(name)])
        guidance = Guidance(frozen, self.guidance, context.seed_for(name, "mutual information"), held_out)
        try:
            run = train_folds(context, branches, "guided", guidance)
        except KeyboardInterrupt:
            return alone, True
        # After Ctrl-C within an epoch, the guidance has one record more than the history.
        self.guidance_history_[name] = {key: values[: len(run.history)] for key, values in guidance.history().items()}
        return TrainedBranches(branches, run.n_best), run.interrupted

    def _refit(
        self,
        context: FitContext,
        trained: dict[str, TrainedBranches],
        outputs: dict[str, BranchOutputs],
        epochs_alone: dict[str, int],
    ) -> tuple[dict[str, list[Branch]], bool]:
        """Train one branch per modality on all rows, by the epochs and the guiding weights of the folds.

        Predictions of the frozen modalities stay the out-of-fold ones; their features are those of the new branches.
        """

        def train_alone(unsplit: FitContext, name: str) -> tuple[Branch, bool]:
            return refit_branch(unsplit, name, epochs_alone[name], self._build_branch, "unimodal, all rows")

        def build_warm(unsplit: FitContext, name: str) -> Branch:
            branch, interrupted = train_alone(context, name)
            if interrupted:
                raise KeyboardInterrupt
            return branch

        interrupted = False
        frozen = FrozenBranches(context, self.fusion)
        branches: dict[str, list[Branch]] = {}
        for name in self.order_:
            if interrupted:
                raise KeyboardInterrupt
            if name in self.guidance_history_:
                weights, seed = self.guidance_history_[name]["weights"], context.seed_for(name, "mutual information")
                guidance = Guidance(frozen, weights, seed, FoldRows([context.train.with_modality(name)]))
                build = build_warm if self.follower_init == "warm" else self._build_branch
                branch, interrupted = refit_branch(
                    context, name, trained[name].n_epochs, build, "guided, all rows", guidance
                )
            else:
                branch, interrupted = train_alone(context, name)
            branches[name] = [branch]
            if self.guidance is not None and name != self.order_[-1]:
                features = evaluate_branches(context.unsplit(context.options), [branch], True).features
                frozen.add(replace(outputs[name], features=features))
        return branches, interrupted
