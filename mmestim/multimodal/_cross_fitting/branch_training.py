"""Training of the branches of one modality, one per fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from ..._data.batches import Batch
from ..._data.folds import FoldRows, only_fold
from ..._networks.fold_networks import FoldBranches
from ..._networks.multimodal_networks import Branch
from ..._training.loop import Objective, TrainingRun, train
from ..._training.losses import fold_cross_entropy
from ..fit_context import FitContext

# Builder of the untrained branch of a fold, given the fold's context and the modality.
BranchBuilder = Callable[[FitContext, str], Branch]


class FoldObjective(Objective):
    """Cross-entropy of every fold.

    The losses of the folds are summed. Folds share no weights, so each trains as if it were alone.
    """

    def train_batch(self, net: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on one batch, and return the mean loss of the folds and their logits."""
        net.zero_grad()
        module = getattr(net.module_, "_orig_mod", net.module_)
        losses, logits = [], []
        for fold in module.steps():  # Without a stack, the graph of a fold is released before the next fold.
            part = batch if fold is None else only_fold(batch, fold)
            output = net.infer(part, fold=fold)
            fold_losses = self.fold_losses(net, output, part, fold)
            fold_losses.sum().backward()
            losses.append(fold_losses.detach())
            logits.append(output[0].detach().flatten(0, 1))
        net.step(batch)
        return torch.cat(losses).mean(), torch.cat(logits)

    def fold_losses(self, net: Any, output: Any, batch: Batch, fold: int | None) -> torch.Tensor:
        """Return the loss of each fold of a batch, of all folds or of `fold` alone."""
        return fold_cross_entropy(output[0], batch)


class TrainedBranches(NamedTuple):
    """Branches of one modality after training.

    Attributes
    ----------
    branches : list of Branch
        Branch of each fold.
    n_epochs : int
        Number of epochs after which their weights were kept.
    """

    branches: list[Branch]
    n_epochs: int


def train_branches(
    context: FitContext, names: Iterable[str], build_branch: BranchBuilder
) -> tuple[dict[str, TrainedBranches], bool]:
    """Train the branches of each modality alone, and report whether Ctrl-C ended the last training early.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    names : iterable of str
        Modalities, in the order of training.
    build_branch : callable
        Builder of untrained branches.

    Returns
    -------
    trained : dict of str to TrainedBranches
        Trained branches of each modality.
    interrupted : bool
        Whether the last training was cut short after at least one epoch.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C arrives before every modality has been trained.
    """
    trained: dict[str, TrainedBranches] = {}
    interrupted = False
    for name in names:
        if interrupted:
            raise KeyboardInterrupt
        branches = [build_branch(fold, name) for fold in context.fold_contexts()]
        run = train_folds(context, branches, "unimodal")
        trained[name], interrupted = TrainedBranches(branches, run.n_best), run.interrupted
    return trained, interrupted


def train_folds(
    context: FitContext, branches: list[Branch], stage: str, objective: FoldObjective | None = None
) -> TrainingRun:
    """Train the branches of one modality in place, each on the rows of its fold that have the modality.

    The epoch with the lowest loss over the held-out rows of all folds is kept.

    Parameters
    ----------
    context : FitContext
        The fit under way; its history is extended by the epochs of this training.
    branches : list of Branch
        Branch of each fold.
    stage : str
        Name of the training stage in the history.
    objective : FoldObjective or None, default=None
        Loss of the branches; `None` is their cross-entropy.

    Returns
    -------
    TrainingRun
        The history of the training, and whether Ctrl-C cut it short.
    """
    name, options = branches[0].name, context.options
    train_rows, valid_rows = zip(*context.folds_for(name), strict=True)
    # Callbacks and clipping act on the weights of one network.
    is_plain = not options.callbacks and options.max_grad_norm is None and not options.compile
    module = FoldBranches(branches, stacked=is_plain)
    run = train(
        module,
        FoldRows(train_rows),
        FoldRows(valid_rows),
        options,
        n_classes=context.n_classes,
        seed=context.seed_for(name, "training"),
        stage=stage,
        modality=name,
        objective=objective or FoldObjective(),
    )
    module.finish()
    context.history += run.history
    return run


def refit_branch(
    context: FitContext,
    name: str,
    n_epochs: int,
    build_branch: BranchBuilder,
    stage: str,
    objective: FoldObjective | None = None,
) -> tuple[Branch, bool]:
    """Train one branch on all rows, by the learning rates of the first epochs of the folds.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    name : str
        The modality.
    n_epochs : int
        Number of epochs.
    build_branch : callable
        Builder of untrained branches.
    stage : str
        Name of the training stage in the history.
    objective : FoldObjective or None, default=None
        Loss of the branch; `None` is its cross-entropy.

    Returns
    -------
    branch : Branch
        The trained branch.
    interrupted : bool
        Whether Ctrl-C cut its training short.
    """
    options = replace(
        context.options, early_stopping=False, max_epochs=n_epochs, schedule_epochs=context.options.max_epochs
    )
    unsplit = context.unsplit(options)
    branch = build_branch(unsplit, name)
    return branch, train_folds(unsplit, [branch], stage, objective).interrupted
