"""How much each modality contributes to the probability of the true class."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import t
from sklearn.utils import Bunch
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..._networks.multimodal_networks import true_class_proba
from ..._training.devices import autocast
from ..._utils.validation import check_confidence_level
from .true_class_scores import class_codes, is_multimodal, unwrapped

# Two to the power of it is the number of fusions.
MOST_MODALITIES = 6


def modality_contributions(estimator: Any, X: Any, y: Any, *, confidence_level: float = 0.95) -> Bunch:
    """Shapley value of each modality for the probability of each row's true class.

    The value of some modalities is the probability that the classifier gives to the true class with the
    others absent, and that of none is 1 / n_classes. A modality's contribution is what it adds, averaged
    over all orders in which the modalities can come.

    Parameters
    ----------
    estimator : fitted classifier of this package, Pipeline that ends in one, or search over one
        With at most six modalities.
    X : array-like of shape (n_samples, n_features), or dict of str to array-like
        Rows that it was not trained on.
    y : array-like of shape (n_samples,)
        True classes.
    confidence_level : float, default=0.95
        Probability with which the interval of a mean covers it, between 0 and 1.

    Returns
    -------
    Bunch
        ``modalities``, the names; ``contributions``, an ndarray of shape (n_samples, n_modalities), in each
        row adding up to the probability of the true class less 1 / n_classes, NaN where a modality is
        absent; ``contributions_mean`` of shape (n_modalities,), over the rows that have the modality; and
        ``contributions_interval`` of shape (n_modalities, 2), its confidence interval by Student's t, NaN
        for fewer than two rows.

    Raises
    ------
    TypeError
        If the estimator is no classifier of this package.
    ValueError
        If it has more than six modalities, or y a class that it does not know.

    See Also
    --------
    gap_scores : The probability of the true class from each modality alone.

    Notes
    -----
    The values are exact: features are computed once, and fused 2^M - 1 times for M modalities. Modalities
    that a row lacks take no part in its game. Probabilities in place of the hits of the valuation methods
    are our choice: they do not jump.

    Examples
    --------
    >>> from mmestim import LateFusionClassifier, modality_contributions
    >>> from mmestim.datasets import load_digit_views
    >>> digits = load_digit_views(views=["pixels", "fourier"])
    >>> clf = LateFusionClassifier(digits.modalities, max_epochs=5, random_state=0)
    >>> found = modality_contributions(clf.fit(digits.data, digits.target), digits.data, digits.target)
    >>> found.modalities, found.contributions.shape
    (['pixels', 'fourier'], (1797, 2))
    """
    if not is_multimodal(estimator):
        raise TypeError(
            f"estimator={estimator!r} cannot leave modalities out: pass a classifier of this package, a Pipeline that "
            "ends in one, or a fitted search over one."
        )
    check_confidence_level(confidence_level)
    estimator, X = unwrapped(estimator, X)
    y = column_or_1d(y)
    check_consistent_length(*(X.values() if isinstance(X, Mapping) else [X]), y)
    names = estimator._fitted_names()
    if len(names) > MOST_MODALITIES:
        raise ValueError(f"the classifier has {len(names)} modalities: contributions are exact for up to six.")
    codes = torch.from_numpy(class_codes(estimator.classes_, y))
    parts, start = [], 0
    for batch, present in estimator._iter_batches(X):
        part = codes[start : start + batch.size].to(estimator.device_)
        parts.append(_contributions(estimator, batch, present, part))
        start += batch.size
    contributions = np.concatenate(parts)
    known = ~np.isnan(contributions)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, contributions, 0).sum(axis=0) / n
        variance = np.where(known, contributions - mean, 0) ** 2
        error = np.sqrt(variance.sum(axis=0) / (n - 1) / n)
        half = np.where(n > 1, t.ppf(0.5 + confidence_level / 2, np.maximum(n - 1, 1)) * error, np.nan)
    return Bunch(
        modalities=names,
        contributions=contributions,
        contributions_mean=mean,
        contributions_interval=np.column_stack([mean - half, mean + half]),
    )


@torch.no_grad()
def _contributions(estimator, batch, present, codes):
    """Shapley values of the rows of one batch, NaN where a modality is absent."""
    names = list(present)
    have = np.column_stack([present[name] for name in names])
    guess = np.full(batch.size, 1 / len(estimator.classes_))
    values = {(): guess}
    with autocast(estimator.precision, torch.device(estimator.device_)):
        features = estimator.module_.encode(batch)
        for size in range(1, len(names) + 1):
            for players in itertools.combinations(range(len(names)), size):
                logits = _fuse_only(estimator.module_, features, batch, {names[player] for player in players})
                share = true_class_proba(logits.float(), codes).cpu().numpy().astype(np.float64)
                values[players] = np.where(have[:, players].any(axis=1), share, guess)
    shapley = np.zeros(have.shape)
    # The players of a row's game are its modalities: one that is absent adds nothing to any others.
    for player in range(len(names)):
        others = [other for other in range(len(names)) if other != player]
        for size in range(len(names)):
            weight = 1 / (len(names) * math.comb(len(names) - 1, size))
            for players in itertools.combinations(others, size):
                shapley[:, player] += weight * (values[tuple(sorted((*players, player)))] - values[players])
    return np.where(have, shapley, np.nan)


def _fuse_only(module, features, batch, names):
    """Fused logits as if all other modalities were absent from every row."""
    x, present, kept = dict(batch.x), dict(batch.present), dict(features)
    for name in batch.x.keys() - names:
        x[name] = x[name][:0]
        present[name] = torch.empty(0, dtype=torch.long, device=x[name].device)
        kept[name] = torch.zeros_like(features[name])
    return module.fuse(kept, batch._replace(x=x, present=present))
