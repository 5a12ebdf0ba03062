"""Training of single-modality branches, shared by late fusion and UDI."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .._networks.multimodal_networks import Branch
from .._training.loop import Objective, TrainingRun, train
from .base import FitContext


def train_branches(
    context: FitContext, names: Iterable[str], build_branch: Callable[[str], Branch]
) -> tuple[dict[str, Branch], bool]:
    """Train one branch per modality, each alone, and report whether Ctrl-C ended the last training early.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    names : iterable of str
        Modalities, in the order of training.
    build_branch : callable
        Function from the name of a modality to its untrained branch.

    Returns
    -------
    branches : dict of str to Branch
        Trained branches.
    interrupted : bool
        Whether the last one was cut short after at least one epoch.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C arrives before every branch has been trained.
    """
    branches: dict[str, Branch] = {}
    interrupted = False
    for name in names:
        if interrupted:
            raise KeyboardInterrupt
        branches[name] = build_branch(name)
        interrupted = train_branch(context, branches[name], "unimodal").interrupted
    return branches, interrupted


def train_branch(context: FitContext, branch: Branch, stage: str, objective: Objective | None = None) -> TrainingRun:
    """Train one branch in place on the rows that have its modality.

    Parameters
    ----------
    context : FitContext
        The fit under way; its history is extended by the epochs of this training.
    branch : Branch
        Branch to train.
    stage : str
        Name of the training stage in the history.
    objective : Objective or None, default=None
        Loss of the branch; `None` is its cross-entropy.

    Returns
    -------
    TrainingRun
        The history of the training, and whether Ctrl-C cut it short.
    """
    run = train(
        branch,
        *context.split_for(branch.name),
        context.options,
        n_classes=context.n_classes,
        seed=context.seed_for(branch.name, "training"),
        stage=stage,
        modality=branch.name,
        objective=objective,
    )
    context.history += run.history
    return run
