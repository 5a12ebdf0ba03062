"""Contributions of the modalities to the probability of the true class."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import t
from sklearn.utils import Bunch
from sklearn.utils.validation import column_or_1d

from ..._data.batches import Batch
from ..._data.containers import open_rows
from ..._networks.multimodal_networks import MultimodalModule, true_class_proba
from ..._training.devices import autocast
from ..._utils.validation import check_confidence_level
from ..base import MultimodalClassifier
from .true_class_scores import class_codes, is_multimodal, unwrap

# The number of fusions grows as two to the power of the number of modalities.
MAX_MODALITIES = 6


def modality_contributions(estimator: Any, X: Any, y: ArrayLike, *, confidence_level: float = 0.95) -> Bunch:
    """Return the Shapley value of each modality for the probability of each row's true class.

    The value of a set of modalities is the probability that the classifier gives to the true class with
    the others absent. The value of the empty set is 1 / n_classes. A modality's contribution is the value
    that it adds, averaged over all orders in which the modalities can be added.

    Parameters
    ----------
    estimator : fitted classifier of this package, Pipeline that ends in one, or search over one
        Estimator with at most six modalities.
    X : array-like of shape (n_samples, n_features), or dict of str to array-like
        Rows that the estimator was not trained on.
    y : array-like of shape (n_samples,)
        True classes.
    confidence_level : float, default=0.95
        Coverage probability of the interval of each mean, between 0 and 1.

    Returns
    -------
    Bunch
        ``modalities``, their names; ``contributions`` of shape (n_samples, n_modalities), NaN where a
        modality is absent, whose rows add up to the probability of the true class minus 1 / n_classes;
        ``contributions_mean`` of shape (n_modalities,), over the rows that have the modality; and
        ``contributions_interval`` of shape (n_modalities, 2), its confidence interval by Student's t, NaN
        for fewer than two rows.

    Raises
    ------
    TypeError
        If the estimator is not a classifier of this package.
    ValueError
        If it has more than six modalities, or y contains a class that it was not trained on.

    See Also
    --------
    gap_scores : The probability of the true class from each modality alone.

    Notes
    -----
    The values are exact: features are computed once and fused 2^M - 1 times for M modalities. Modalities
    that a row lacks take no part in its game. We use probabilities where the valuation methods count
    correct predictions, because probabilities change continuously.

    Examples
    --------
    >>> from mmestim import LateFusionClassifier, modality_contributions
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> result = modality_contributions(clf.fit(digits.data, digits.target), digits.data, digits.target)
    >>> result.modalities, result.contributions.shape
    (['pixels', 'fourier'], (1797, 2))
    """
    if not is_multimodal(estimator):
        raise TypeError(
            f"estimator={estimator!r} cannot leave modalities out. Pass a classifier of this package, a Pipeline that "
            "ends in one, or a fitted search over one."
        )
    check_confidence_level(confidence_level)
    y_true = column_or_1d(y)
    estimator, X = unwrap(estimator, open_rows(X, y_true))
    names = estimator._fitted_names()
    if len(names) > MAX_MODALITIES:
        raise ValueError(f"the classifier has {len(names)} modalities: contributions are exact for up to six.")
    codes = torch.from_numpy(class_codes(estimator.classes_, y_true))
    tables, start = [], 0
    for batch, present in estimator._iter_batches(X):
        batch_codes = codes[start : start + batch.size].to(estimator.device_)
        tables.append(_batch_contributions(estimator, batch, present, batch_codes))
        start += batch.size
    contributions = np.concatenate(tables)
    is_present = ~np.isnan(contributions)
    n = is_present.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(is_present, contributions, 0).sum(axis=0) / n
        squares = np.where(is_present, contributions - mean, 0) ** 2
        standard_error = np.sqrt(squares.sum(axis=0) / (n - 1) / n)
        quantile = t.ppf(0.5 + confidence_level / 2, np.maximum(n - 1, 1))
        half_width = np.where(n > 1, quantile * standard_error, np.nan)
    return Bunch(
        modalities=names,
        contributions=contributions,
        contributions_mean=mean,
        contributions_interval=np.column_stack([mean - half_width, mean + half_width]),
    )


@torch.no_grad()
def _batch_contributions(
    estimator: MultimodalClassifier, batch: Batch, present: Mapping[str, np.ndarray], codes: torch.Tensor
) -> np.ndarray:
    """Return the Shapley values of the rows of one batch, NaN where a modality is absent."""
    names = list(present)
    is_present = np.column_stack([present[name] for name in names])
    chance = np.full(batch.size, 1 / len(estimator.classes_))
    values: dict[tuple[int, ...], np.ndarray] = {(): chance}
    with autocast(estimator.precision, torch.device(estimator.device_)):
        features = estimator.module_.encode(batch)
        for size in range(1, len(names) + 1):
            for players in itertools.combinations(range(len(names)), size):
                logits = _fuse_subset(estimator.module_, features, batch, {names[player] for player in players})
                probabilities = true_class_proba(logits.float(), codes).cpu().numpy().astype(np.float64)
                values[players] = np.where(is_present[:, players].any(axis=1), probabilities, chance)
    shapley = np.zeros(is_present.shape)
    # Absent modalities do not change any value, so these sums equal the game of the present ones.
    for player in range(len(names)):
        other_players = [other for other in range(len(names)) if other != player]
        for size in range(len(names)):
            weight = 1 / (len(names) * math.comb(len(names) - 1, size))
            for players in itertools.combinations(other_players, size):
                shapley[:, player] += weight * (values[tuple(sorted((*players, player)))] - values[players])
    return np.where(is_present, shapley, np.nan)


def _fuse_subset(
    module: MultimodalModule, features: Mapping[str, torch.Tensor], batch: Batch, names: set[str]
) -> torch.Tensor:
    """Return the fused logits as if only the modalities `names` were present, in every row."""
    x, present, subset_features = dict(batch.x), dict(batch.present), dict(features)
    for name in batch.x.keys() - names:
        x[name] = x[name][:0]
        present[name] = torch.empty(0, dtype=torch.long, device=x[name].device)
        subset_features[name] = torch.zeros_like(features[name])
    return module.fuse(subset_features, batch._replace(x=x, present=present))
