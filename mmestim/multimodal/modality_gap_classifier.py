"""Joint training that reduces the modality gap."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from .._data.modalities import Modalities
from .._data.splits import Folds
from .._networks.fold_networks import join_networks
from .._networks.multimodal_networks import JointModule
from .._training.evaluation import evaluate, selection_loss
from .._training.options import LearningRate, Monitor, Optimizer, Precision, Schedule
from .._utils.docstrings import fill_docstring
from .._utils.types import Seed
from .._utils.validation import check_flag, check_number
from ..encoders.choice import Encoder
from ._analysis.gap_mixture import absolute_gaps
from ._analysis.modality_gap import ModalityGapAnalyzer
from ._cross_fitting.joint_training import in_step, train_in_step, train_in_turn
from ._objectives.gap_scorers import GapScorer, has_gaps
from ._objectives.joint import JointObjective
from ._objectives.modality_gap import GapObjective, GapTerms, gap_history
from .base import published_parameters
from .fit_context import FitContext
from .joint_base import Fusion, JointBase
from .shared_docstrings import SHARED_SECTIONS


@fill_docstring(SHARED_SECTIONS)
class ModalityGapClassifier(JointBase):
    r"""Joint training with a loss that adapts to the modality gap of each row.

    >>> from mmestim import ModalityGapClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = ModalityGapClassifier(digits.modalities, max_epochs=10, random_state=0)
    >>> clf.fit(digits.data[:500], digits.target[:500]).gap_history_["means"].shape
    (9, 2)

    The modality gap of a row is the difference between the modalities' probabilities of the true
    class. After a warm-up by the joint loss, it is measured for every training row before each epoch.
    With folds, each row is scored by the network that has not seen it. A mixture of two Gaussians gives
    the probability that a row is balanced or imbalanced. Balanced rows then get more weight in the
    fused loss, and imbalanced rows are penalised for their gap [1]_.

    Parameters
    ----------
    ${modalities_parameter}
    ${joint_fusion_parameter}
    unimodal_weight : float, default=1.0
        Weight of the cross-entropy of each modality's own head, added to the fused loss. At 0 there are
        no such heads, and a modality's score is that of the fused head with the features of the other
        modalities at zero.
    gap_weight : float, default=0.5
        Weight of the mean gap.
    shift_weight : float, default=0.5
        Weight of the mean square by which the gaps of imbalanced rows exceed the mean gap of balanced
        rows.
    balanced_weight : float, default=1.0
        Additional weight of balanced rows in the fused loss. A row that is certainly balanced has the
        weight 1 + `balanced_weight`.
    imbalanced_weight : float, default=1.0
        Additional weight of imbalanced rows in the mean gap. A row that is certainly imbalanced has
        the weight 1 + `imbalanced_weight`.
    detach_stronger : bool, default=False
        Whether the loss of a gap trains the weaker modality only. Otherwise a gap can also close
        because the stronger modality becomes worse.
    warmup_fraction : float, default=0.1
        Fraction of `max_epochs`, rounded up, that trains by the joint loss before the gaps are used.
        Early stopping starts after it, and keeps the best of the later epochs.
    fine_tune_epochs : int, default=10
        Epochs, in addition to `max_epochs`, of a last stage by the joint loss. It uses one tenth of
        `lr` and, of the rows of each network, only those that the posterior assigns to the balanced
        component. The stage is skipped at 0, or if a network would have no such row of a class. With
        early stopping it is undone for all networks if no epoch improves their score on held-out rows.
    ${training_parameters}

    Attributes
    ----------
    analyzer_ : ModalityGapAnalyzer or None
        Analyzer fitted to the scores of the training rows after the adaptive epochs, which are out of
        fold if there are folds. None if no row has two modalities. It describes the training rows; use
        `gap_scores` for other rows.
    n_warmup_ : int
        Number of epochs before the gaps were used.
    fine_tuned_ : bool
        Whether the last stage took place, for all networks, and was not undone.
    gap_history_ : dict of str to ndarray
        Mixture fitted before each adaptive epoch, one row per epoch: ``means``, ``variances``,
        ``weights`` (balanced first), ``separation``, and ``mean_gap`` of the rows. ``kept`` is False if
        the means were less than 0.05 apart or a weight was below 0.02, so that the last valid mixture
        was used instead.
    ${data_attributes}
    ${history_attributes}

    See Also
    --------
    ModalityGapAnalyzer : The mixture and the posterior alone, for any classifier.
    JointClassifier : The same network without the adaptive loss.
    UDIClassifier : Branches where the strongest one guides the others.

    Notes
    -----
    Let g be the largest minus the smallest probability of the true class over the modalities of a row,
    q its posterior of being balanced, and r = 1 - q. Both posteriors are constants. With means over the
    batch, the adaptive loss is

    .. math:: \overline{(1 + \beta q) CE_f} + \lambda_u \sum_m CE_m + \lambda_g \overline{(1 + \gamma r) g}
        + \lambda_s \frac{\sum r \max(0, g - \mu_b)^2}{\sum r}

    with `balanced_weight` :math:`\beta`, `unimodal_weight` :math:`\lambda_u`, `gap_weight`
    :math:`\lambda_g`, `imbalanced_weight` :math:`\gamma`, `shift_weight` :math:`\lambda_s`, and
    :math:`\mu_b` the mean gap of the balanced component. With `gap_weight`, `shift_weight`,
    `balanced_weight` and `fine_tune_epochs` at 0 it is `JointClassifier`.

    The paper states the gap of two modalities, the mixture, Bayes' posterior and the two stages. It
    states the purpose of the loss: close the gap, move imbalanced rows towards balanced ones, penalise
    imbalanced rows more, and give balanced rows more weight in the fused loss. It also states that
    fine-tuning on balanced rows helps. We could read only the abstracts of its versions. The rest is
    our reconstruction, so results are not those of the paper: the form of every term, all weights, the
    length of the warm-up, when and on which rows the mixture is fitted, its settings and its safeguards,
    the gap beyond two modalities (largest minus smallest score) and the form of fine-tuning.

    Out-of-fold gaps are ours too. The gaps of a network on its own training rows vanish as it memorises
    them; ``cv=None`` uses these, as published. With folds, all networks train in step. Before each
    adaptive epoch one mixture is fitted to the gaps of all rows, each scored by the network that has
    left it out, and its posteriors weigh the losses of all networks. Early stopping selects one epoch
    for all of them, by the mean score of all held-out rows.

    Rows with fewer than two modalities have no gap. Out of fold, rows whose class occurs in no other
    fold have none either. Rows without a gap take part in the cross-entropies, with the weights of the
    mixture as their posterior. Every row has the same weight in the mixture. With a single modality
    this is `JointClassifier`.

    ${absent_modality_notes}

    References
    ----------
    .. [1] Liu et al., "Quantifying Multimodal Imbalance: A GMM-Guided Adaptive Loss for Audio-Visual
       Learning", 2025, arXiv:2510.21797.
    """

    analyzer_: ModalityGapAnalyzer | None
    n_warmup_: int
    fine_tuned_: bool
    gap_history_: dict[str, NDArray[Any]]

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        fusion: Fusion = "concat",
        unimodal_weight: float = 1.0,
        gap_weight: float = 0.5,
        shift_weight: float = 0.5,
        balanced_weight: float = 1.0,
        imbalanced_weight: float = 1.0,
        detach_stronger: bool = False,
        warmup_fraction: float = 0.1,
        fine_tune_epochs: int = 10,
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
        self.gap_weight = gap_weight
        self.shift_weight = shift_weight
        self.balanced_weight = balanced_weight
        self.imbalanced_weight = imbalanced_weight
        self.detach_stronger = detach_stronger
        self.warmup_fraction = warmup_fraction
        self.fine_tune_epochs = fine_tune_epochs

    @classmethod
    def published(cls, modalities: Modalities | None = None, **parameters: Any) -> Self:
        """Return an estimator with the settings of the paper, as far as they are known.

        We could read only the abstracts of the paper, which state no setting of the training. These are the usual ones
        of experiments on its data sets: SGD with momentum 0.9, a weight decay of 1e-4, batches of 64, and a learning
        rate of 0.001, divided by 10 after 70 of 100 epochs. The best of all epochs is chosen by accuracy on a tenth of
        the rows, and the gaps are those of the training rows, without cross-fitting.

        Parameters
        ----------
        modalities : dict or None, default=None
            As in the constructor.
        **parameters : object
            Parameters that replace or complete these settings, such as `encoder`.

        Returns
        -------
        ModalityGapClassifier
            Unfitted estimator.

        Examples
        --------
        >>> from mmestim import ModalityGapClassifier
        >>> ModalityGapClassifier.published(max_epochs=50).optimizer
        'sgd'
        """
        return cls(modalities, **published_parameters({"lr": 0.001}, parameters))

    _saved_attributes: ClassVar = (*JointBase._saved_attributes, "n_warmup_", "fine_tuned_")

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for name in ("gap_weight", "shift_weight", "balanced_weight", "imbalanced_weight"):
            check_number(name, getattr(self, name))
        check_flag("detach_stronger", self.detach_stronger)
        check_number("warmup_fraction", self.warmup_fraction, high=1)
        check_number("fine_tune_epochs", self.fine_tune_epochs, integer=True)

    def _check_saved_attributes(self) -> None:
        super()._check_saved_attributes()
        check_number("n_warmup_", self.n_warmup_, high=self.n_iter_, integer=True)
        check_flag("fine_tuned_", self.fine_tuned_)

    def _n_stages(self, context: FitContext) -> int:
        if not has_gaps(context.train):
            return len(context.folds)
        return (1 if self._is_adaptive else len(context.folds)) + (self.fine_tune_epochs > 0)

    @property
    def _n_warmup(self) -> int:
        # Round first, because 0.07 * 100 is slightly more than 7.
        return math.ceil(round(self.warmup_fraction * self.max_epochs, 9))

    @property
    def _is_adaptive(self) -> bool:
        """True if the parameters differ from joint training."""
        has_terms = max(self.gap_weight, self.shift_weight, self.balanced_weight) > 0
        return has_terms and self._n_warmup < self.max_epochs

    def _fit_module(self, context: FitContext) -> tuple[JointModule, bool]:
        self.analyzer_ = None
        self.gap_history_, self.fine_tuned_ = gap_history([]), False
        scorer = GapScorer(context)
        networks, interrupted = self._train_networks(context, scorer)
        self.n_networks_ = len(networks)
        scores = scorer.scores(networks)
        has_gap = ~np.isnan(absolute_gaps(scores))
        if has_gap.any():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # gap_history_ reports the same.
                columns = [networks[0].names.index(name) for name in self.modalities_]
                self.analyzer_ = ModalityGapAnalyzer().fit(scores[:, columns])
            if not interrupted and self.fine_tune_epochs:
                is_balanced = self.analyzer_.transform(scores)[:, 0] > 0.5
                balanced_rows = context.train.rows.numpy()[has_gap & is_balanced]
                interrupted = self._fine_tune(context, networks, balanced_rows)
        return join_networks(networks), interrupted

    def _train_networks(self, context: FitContext, scorer: GapScorer) -> tuple[list[JointModule], bool]:
        """Train by the joint loss and then by the adaptive loss, and report whether Ctrl-C cut it short."""
        if not (self._is_adaptive and has_gaps(scorer.rows)):
            networks, interrupted = train_in_turn(context, self._train_plainly)
            self.n_warmup_ = len(context.history)
            return networks, interrupted
        terms = GapTerms(
            self.gap_weight, self.shift_weight, self.balanced_weight, self.imbalanced_weight, self.detach_stronger
        )
        n_warmup = self._n_warmup
        networks = [self._build_joint(fold) for fold in context.fold_contexts()]
        objective = GapObjective(self.unimodal_weight, terms, scorer, n_warmup)
        run = train_in_step(context, networks, objective)
        self.n_warmup_ = min(n_warmup, len(run.history))
        # After Ctrl-C within an epoch, the objective has one record more than the history.
        self.gap_history_ = gap_history(objective.records[: len(run.history) - self.n_warmup_])
        for epoch, entry in enumerate(run.history):
            entry["stage"] = "warm-up" if epoch < n_warmup else "adaptive"
        context.history += run.history
        return networks, run.interrupted

    def _train_plainly(self, context: FitContext) -> tuple[JointModule, bool]:
        """Train one network as `JointClassifier` does, and report whether Ctrl-C cut it short."""
        network = self._build_joint(context)
        run = train_in_step(context, [network], JointObjective(self.unimodal_weight))
        context.history += run.history
        return network, run.interrupted

    def _fine_tune(self, context: FitContext, networks: Sequence[JointModule], rows: np.ndarray) -> bool:
        """Train on those of `rows` that each network was trained on, and report whether Ctrl-C cut it short.

        The learning rate is a tenth. With early stopping, the weights of all networks are restored unless
        the result is better.
        """
        codes = context.train.y.cpu().numpy()
        splits = []
        for fold in context.fold_contexts():
            training_rows = fold.train.rows.numpy()
            balanced_rows = np.intersect1d(rows, training_rows)
            if len(balanced_rows) < 2 or set(codes[balanced_rows]) < set(codes[training_rows]):
                return False  # The network would forget the classes without a row.
            splits.append((fold.train.subset(balanced_rows), fold.valid))
        options = replace(context.options.scaled(0.1), lr_schedule=None, max_epochs=self.fine_tune_epochs)
        module, _, valid_rows = in_step(networks, splits)
        weights, before = copy.deepcopy(module.state_dict()), evaluate(module, valid_rows, options)
        try:
            objective = JointObjective(self.unimodal_weight)
            run = train_in_step(context, networks, objective, rows=splits, options=options, stage="fine-tuning")
        except KeyboardInterrupt:  # No epoch was completed.
            module.load_state_dict(weights)
            return True
        context.history += run.history
        after = evaluate(module, valid_rows, options)
        monitor = options.monitor
        is_better = selection_loss(monitor, *after[:2]) < selection_loss(monitor, *before[:2])
        self.fine_tuned_ = is_better or not options.early_stopping
        if not self.fine_tuned_:
            module.load_state_dict(weights)
        return run.interrupted
