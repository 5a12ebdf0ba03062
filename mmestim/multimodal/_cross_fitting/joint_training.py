"""Training of joint networks, one per fold: one after the other, or in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..._data.batches import Rows, RowSource
from ..._data.folds import InterleavedFolds
from ..._networks.fold_networks import FoldNetworks
from ..._networks.multimodal_networks import JointModule
from ..._training.loop import Objective, TrainingRun, train
from ..._training.options import TrainingOptions
from ..fit_context import FitContext


def train_in_turn(
    context: FitContext, train_network: Callable[[FitContext], tuple[JointModule, bool]]
) -> tuple[list[JointModule], bool]:
    """Train the networks of the folds one after the other.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    train_network : callable
        Function that builds and trains the network of a fold, and returns it with whether Ctrl-C cut its
        training short.

    Returns
    -------
    networks : list of JointModule
        Networks with at least one complete epoch.
    interrupted : bool
        Whether Ctrl-C cut the training short.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C arrives before the first epoch of the first network is complete.
    """
    networks: list[JointModule] = []
    for fold in context.fold_contexts():
        try:
            network, interrupted = train_network(fold)
        except KeyboardInterrupt:
            if not networks:
                raise
            return networks, True
        networks.append(network)
        if interrupted:
            return networks, True
    return networks, False


def train_in_step(
    context: FitContext,
    networks: Sequence[JointModule],
    objective: Objective,
    *,
    rows: Sequence[tuple[Rows, Rows]] | None = None,
    options: TrainingOptions | None = None,
    stage: str = "joint",
) -> TrainingRun:
    """Train the networks of all folds in place, epoch by epoch together.

    The score of all validation rows selects one epoch for all networks.

    Parameters
    ----------
    context : FitContext
        The fit under way.
    networks : sequence of JointModule
        Network of each fold.
    objective : Objective
        Objective to minimise.
    rows : sequence of (Rows, Rows) or None, default=None
        Training and validation rows of each network, by default those of its fold.
    options : TrainingOptions or None, default=None
        Options of the training, by default those of the fit.
    stage : str, default='joint'
        Name of the training in the history.

    Returns
    -------
    TrainingRun
        History of the epochs, in which the networks share an entry.
    """
    if rows is None:
        rows = [(fold.train, fold.valid) for fold in context.fold_contexts()]
    module, train_rows, valid_rows = in_step(networks, rows)
    return train(
        module,
        train_rows,
        valid_rows,
        options or context.options,
        n_classes=context.n_classes,
        seed=context.seed_for(stage),
        stage=stage,
        fold=context.fold,
        objective=objective,
    )


def in_step(
    networks: Sequence[JointModule], rows: Sequence[tuple[Rows, Rows]]
) -> tuple[JointModule | FoldNetworks, RowSource, RowSource]:
    """Return networks as one module, with the training and validation rows of all of them.

    Parameters
    ----------
    networks : sequence of JointModule
        Network of each fold.
    rows : sequence of (Rows, Rows)
        Training and validation rows of each network.

    Returns
    -------
    module : JointModule or FoldNetworks
        The only network, or all of them.
    train_rows, valid_rows : RowSource
        Rows to train on, and rows to validate on.
    """
    if len(networks) == 1:
        return networks[0], *rows[0]
    train_rows, valid_rows = zip(*rows, strict=True)
    return FoldNetworks(networks), InterleavedFolds(train_rows), InterleavedFolds(valid_rows)
