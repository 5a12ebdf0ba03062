"""Scores of the true class of training rows, from networks that have not seen the row if there are several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..._data.batches import Rows
from ..._networks.multimodal_networks import MultimodalModule
from .._analysis.true_class_scores import true_class_scores
from ..fit_context import FitContext


class GapScorer:
    """Scorer of the training rows of a fit.

    A single network scores its own training rows. Networks of folds score the rows that they have not
    seen, except those of classes on which they were not trained.

    Parameters
    ----------
    context : FitContext
        The fit under way.

    Attributes
    ----------
    rows : Rows
        All training rows.

    Raises
    ------
    ValueError
        If training rows have gaps, but none that are scored.
    """

    def __init__(self, context: FitContext) -> None:
        self.rows, self.options = context.train, context.options
        self._scored = [_scored_rows(fold) for fold in context.fold_contexts()]
        if has_gaps(self.rows) and not any(has_gaps(rows) for rows in self._scored):
            raise ValueError(
                f"the {len(self._scored)} folds of cv leave no row with two modalities to score: none is held out from "
                "a network that was trained on its class. Use cv=None, pass more such rows or, with groups, such rows "
                "of two groups."
            )

    def scores(self, networks: Sequence[MultimodalModule]) -> np.ndarray:
        """Return the scores of the training rows by the networks of the first or all folds.

        Parameters
        ----------
        networks : sequence of MultimodalModule
            Networks in the order of the folds.

        Returns
        -------
        ndarray of shape (n_training_rows, n_modalities)
            Scores, with the modalities in the order of their names; NaN if a row lacks the modality or
            is not scored.
        """
        table = np.full((len(self.rows.y), len(self.rows.names)), np.nan, dtype=np.float32)
        for network, rows in zip(networks, self._scored, strict=False):
            if len(rows):
                table[rows.rows.numpy()] = true_class_scores(network, rows, self.options)
        return table[self.rows.rows.numpy()]


def has_gaps(rows: Rows) -> bool:
    """Return whether any of the rows has two modalities."""
    present = np.stack([rows.blocks.present(name) for name in rows.names])[:, rows.rows.numpy()]
    return bool((present.sum(axis=0) > 1).any())


def _scored_rows(context: FitContext) -> Rows:
    """Return the rows that the network of a fold scores, or those of the only network."""
    train, valid = context.train, context.valid
    if context.fold is None:
        return train
    codes, training_rows, held_out_rows = train.y.cpu().numpy(), train.rows.numpy(), valid.rows.numpy()
    # An untrained class scores near zero for every modality, which would look like agreement.
    is_scored = ~np.isin(held_out_rows, training_rows) & np.isin(codes[held_out_rows], codes[training_rows])
    return valid.subset(held_out_rows[is_scored])
