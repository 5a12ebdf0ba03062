"""UDI: the strongest modality is trained first, frozen, and guides the others."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .._data.modalities import Modalities
from .._networks.multimodal_networks import Branch, LateFusion
from .._training.evaluation import evaluate
from .._utils.docstrings import fill_docstring
from .._utils.validation import check_choice, check_number
from ._objectives.guidance import GUIDANCE_RULES, Frozen, Guidance
from .base import FitContext, MultimodalClassifier
from .branch_training import train_branch, train_branches
from .shared_docstrings import SHARED_SECTIONS


@fill_docstring(SHARED_SECTIONS)
class UDIClassifier(MultimodalClassifier):
    r"""Unidirectional dynamic interaction: the strongest modality guides the others.

    Every modality is first trained alone. The most accurate on the validation rows becomes the anchor
    and is frozen; the others, from the strongest down, are trained anew, each by its own cross-entropy
    and two unsupervised losses against what is frozen: a divergence that pulls its predictions to
    those before it, and a bound of mutual information that keeps its features different from theirs.
    The weights of the two adapt as training goes. Predictions add up the logits [1]_.

    Parameters
    ----------
    ${modalities_parameter}
    guidance : {'aligned', 'dynamic'}, (float, float) or None, default='aligned'
        Weights of the consistency and the complementarity loss. ``'dynamic'`` is the paper's rule:
        once an epoch, on one mini-batch, the share of each loss in the positive inner products of
        its gradient with that of the fused loss. ``'aligned'`` is our variant: cosines instead of
        inner products, over all of the follower's parameters and averaged over eight mini-batches,
        so that neither the scale of a loss nor one batch decides. Two numbers are fixed weights.
        `None` leaves the guided stage out, which is `LateFusionClassifier`.
    anchor : str, default='auto'
        The modality that guides, or ``'auto'`` for the most accurate on the validation rows; without
        early stopping there are none, and the training rows judge.
    anchor_tolerance : float, default=0.015
        Modalities within this fraction of the best accuracy count as equally good; of them the one
        with the lowest mean predictive entropy is the anchor. The paper names no figure.
    follower_init : {'fresh', 'warm'}, default='fresh'
        Whether followers start from new weights or from those they reached alone.
    ${late_fusion_parameter}
    ${training_parameters}

    Attributes
    ----------
    ${data_attributes}
    branch_scores_ : dict of str to float
        Accuracy of each modality trained alone, on the rows that choose the anchor.

    anchor_ : str
        The modality that guides.
    order_ : list of str
        The anchor, then the followers in the order of their training.
    guidance_history_ : dict of str to dict of str to ndarray
        For each follower, with one row per epoch: ``weights``, of consistency and complementarity,
        and where they adapt ``alignment``, of both losses with the fused loss, and
        ``gradient_norm``, of the fused loss and of both.
    ${history_attributes}

    See Also
    --------
    LateFusionClassifier : The same branches without guidance.
    JointClassifier : All modalities trained together by one fused loss.

    Notes
    -----
    With logits z, probabilities p and features f of the follower m and the anchor a, the follower
    minimises, with natural logarithms and means over the batch,

    .. math:: CE(z_m, y) + \alpha_{con} JS(p_a, p_m) + \alpha_{com} I_v(f_a; f_m),

    equations 4, 8 and 12 of [1]_, where I_v is the CLUB bound [2]_ of a Gaussian whose network is
    fitted one step per batch, by Adam with learning rate 1e-3, before the follower's step. With three
    modalities and more, p_a is the fused prediction of those frozen and I_v the mean over them
    (equations 26 and 27). The weights follow equations 13 to 16; g of the fused loss is used for them
    only, and never trains anything.

    Both features pass through layer normalisation on their way into the bound: the paper does not say
    whether they do, and without it a follower can lower the bound without end by growing its features,
    which made training diverge.

    The paper leaves open, and we chose: how followers start, the mean in place of eq. 5's
    sum over samples, the network of the bound and its training, the batches that judge the weights
    (the first of the epoch), the learning-rate schedule, the validation split and the tolerance.
    Frozen branches are evaluated once, not once an epoch.

    ${absent_modality_notes}

    References
    ----------
    .. [1] Wang et al., "Balanced Multimodal Learning: An Unidirectional Dynamic Interaction
       Perspective", 2025, arXiv:2509.02281.
    .. [2] Cheng et al., "CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information",
       ICML 2020.

    Examples
    --------
    >>> from mmestim import UDIClassifier
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "projections"])
    >>> clf = UDIClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> clf.fit(digits.data, digits.target).anchor_
    'pixels'
    >>> clf.guidance_history_["projections"]["weights"].shape
    (5, 2)
    """

    def __init__(
        self,
        modalities: Modalities | None = None,
        *,
        guidance: str | Sequence[float] | None = "aligned",
        anchor: str = "auto",
        anchor_tolerance: float = 0.015,
        follower_init: str = "fresh",
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
        self.guidance = guidance
        self.anchor = anchor
        self.anchor_tolerance = anchor_tolerance
        self.follower_init = follower_init
        self.fusion = fusion

    _saved_attributes: ClassVar = (*MultimodalClassifier._saved_attributes, "branch_scores_", "anchor_", "order_")

    def _check_parameters(self) -> None:
        check_choice("fusion", self.fusion, ("sum", "mean"))
        if isinstance(self.guidance, Sequence | np.ndarray) and not isinstance(self.guidance, str):
            if len(self.guidance) != 2:
                raise ValueError(f"guidance={self.guidance!r} must be two weights, (consistency, complementarity).")
            for weight in self.guidance:
                check_number("guidance", weight)
        else:
            check_choice("guidance", self.guidance, [*GUIDANCE_RULES, None], ", or two weights such as (1.0, 0.0)")
        check_number("anchor_tolerance", self.anchor_tolerance, high=1)
        check_choice("follower_init", self.follower_init, ("fresh", "warm"))

    def _check_saved_attributes(self) -> None:
        super()._check_saved_attributes()
        names = sorted(self.modalities_)
        if not isinstance(self.order_, list) or sorted(self.order_) != names or self.order_[0] != self.anchor_:
            raise ValueError(f"order_={self.order_!r} is not the modalities {names}, from anchor_={self.anchor_!r} on.")
        if sorted(self.branch_scores_) != names:
            raise ValueError(f"branch_scores_={self.branch_scores_!r} are not those of the modalities {names}.")
        for name, score in self.branch_scores_.items():
            check_number(f"branch_scores_[{name!r}]", score, high=1)

    def _fit_module(self, context: FitContext) -> tuple[LateFusion, bool]:
        check_choice("anchor", self.anchor, ["auto", *self.modalities_])
        branches, interrupted = train_branches(
            context, self.modalities_, lambda name: self._build_branch(context, name)
        )
        self.order_ = self._rank({name: _judge(context, branch) for name, branch in branches.items()})
        self.anchor_ = self.order_[0]
        self.guidance_history_: dict[str, dict[str, np.ndarray]] = {}
        if self.guidance is not None:
            frozen = Frozen(context.train, self.fusion)
            for done, name in itertools.pairwise(self.order_):
                if not interrupted:
                    frozen.add(branches[done], context.options)
                    branches[name], interrupted = self._fit_follower(context, branches[name], frozen)
        return LateFusion(branches, self.fusion), interrupted

    def _assemble(self, branches: dict[str, Branch], n_classes: int) -> LateFusion:
        return LateFusion(branches, self.fusion)

    def _rank(self, judged: dict[str, tuple[float, float]]) -> list[str]:
        """The anchor, then the others from the most accurate on the validation rows down."""
        self.branch_scores_ = {name: accuracy for name, (accuracy, _) in judged.items()}
        best = max(self.branch_scores_.values())
        close = [name for name, accuracy in self.branch_scores_.items() if accuracy >= best - self.anchor_tolerance]
        anchor = min(close, key=lambda name: (judged[name][1], name)) if self.anchor == "auto" else self.anchor
        others = sorted(judged.keys() - {anchor}, key=lambda name: (-self.branch_scores_[name], name))
        return [anchor, *others]

    def _fit_follower(self, context: FitContext, branch: Branch, frozen: Frozen) -> tuple[Branch, bool]:
        """A branch trained under the guidance of those before it, and whether Ctrl-C cut it short."""
        alone = branch
        branch = copy.deepcopy(alone) if self.follower_init == "warm" else self._build_branch(context, alone.name)
        guidance = Guidance(frozen, self.guidance, context.seed_for(alone.name, "mutual information"))
        try:
            run = train_branch(context, branch, "guided", guidance)
        except KeyboardInterrupt:  # Before the first epoch was over: the branch trained alone will do.
            return alone, True
        history = guidance.history()
        # Ctrl-C within an epoch leaves a record of weights that the history of the training has not.
        self.guidance_history_[alone.name] = {key: values[: len(run.history)] for key, values in history.items()}
        return branch, run.interrupted


def _judge(context: FitContext, branch: Branch) -> tuple[float, float]:
    """Accuracy of a branch on the validation rows, and mean entropy of its predictions in nats."""
    _, valid = context.split_for(branch.name)
    _, accuracy, entropy = evaluate(branch, valid, context.options)
    return accuracy, entropy
