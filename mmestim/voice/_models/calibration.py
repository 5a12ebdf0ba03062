"""From the scores of several models to probabilities, and from these to decisions."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

# Probabilities are kept so far from 0 and 1: on some thousand windows no more can be told.
_LEAST = 1e-4
_N_THRESHOLDS = 199
# What is found should not be improbable; of labels that are hard to tell the best F1 is where nearly all are.
_LEAST_FOUND = 0.25


class ScoreFusion:
    """Probability of each label by a logistic regression on the models' log-odds, fitted out of fold.

    With one model this is Platt's scaling.

    Parameters
    ----------
    weights : ndarray of shape (n_labels, n_models)
        Of the log-odds.
    offsets : ndarray of shape (n_labels,)
        Added.
    """

    def __init__(self, weights: np.ndarray, offsets: np.ndarray) -> None:
        self.weights, self.offsets = weights, offsets

    @classmethod
    def mean(cls, n_models: int, n_labels: int) -> ScoreFusion:
        """The models' mean as it is."""
        return cls(np.full((n_labels, n_models), 1 / n_models), np.zeros(n_labels))

    @classmethod
    def from_arrays(cls, weights: np.ndarray, offsets: np.ndarray, n_labels: int, n_models: int) -> ScoreFusion:
        """What a file says, checked."""
        if weights.shape != (n_labels, n_models) or offsets.shape != (n_labels,):
            raise ValueError(f"its calibration has {weights.shape} weights for {n_labels} labels, {n_models} model(s).")
        if not (np.isfinite(weights).all() and np.isfinite(offsets).all()):
            raise ValueError("its calibration has weights that are not finite.")
        return cls(weights, offsets)

    @classmethod
    def fit(cls, logits: np.ndarray, targets: np.ndarray, is_labelled: np.ndarray) -> ScoreFusion:
        """Weights and offsets from rows that the models were not trained on.

        Parameters
        ----------
        logits : ndarray of shape (n_rows, n_models, n_labels)
            Log-odds.
        targets, known : bool ndarray of shape (n_rows, n_labels)
            Which labels each row has, and where that is known.
        """
        n_models, n_labels = logits.shape[1:]
        weights, offsets = np.full((n_labels, n_models), 1 / n_models), np.zeros(n_labels)
        for label in range(n_labels):
            rows = is_labelled[:, label]
            x, y = logits[rows, :, label], targets[rows, label]
            if y.all() or not y.any():
                continue
            # A little less than certain where a model is, so that one row cannot decide.
            x = x.clip(-12, 12)
            useful = np.ones(n_models, bool)
            while useful.any():
                model = LogisticRegression(C=10.0, max_iter=1000).fit(x[:, useful], y)
                if (model.coef_ > 0).all():
                    weights[label] = 0
                    weights[label, useful], offsets[label] = model.coef_[0], model.intercept_[0]
                    break
                # A model that speaks against itself has nothing to say.
                useful[np.flatnonzero(useful)[model.coef_[0].argmin()]] = False
            else:
                share = np.clip(y.mean(), _LEAST, 1 - _LEAST)
                weights[label], offsets[label] = 0, logit(share)
        return cls(weights, offsets)

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated log-odds of shape (n_rows, n_labels)."""
        calibrated = np.einsum("nml,lm->nl", logits.clip(-12, 12), self.weights) + self.offsets
        return calibrated.clip(logit(_LEAST), -logit(_LEAST))


class UnalteredCalibrator:
    """Probability that no label is there: their product, put right by a logistic regression.

    Parameters
    ----------
    weight, offset : float
        Of the log-odds of the product of (1 - p) over the labels.
    """

    def __init__(self, weight: float = 1.0, offset: float = 0.0) -> None:
        self.weight, self.offset = weight, offset

    @classmethod
    def fit(cls, proba: np.ndarray, is_unaltered: np.ndarray) -> UnalteredCalibrator:
        """From probabilities of the labels, of shape (n_rows, n_labels), and which rows have none of them."""
        if is_unaltered.all() or not is_unaltered.any():
            return cls()
        model = LogisticRegression(C=10.0, max_iter=1000).fit(_none_of(proba)[:, None], is_unaltered)
        return cls(float(model.coef_.item()), float(model.intercept_.item())) if model.coef_.item() > 0 else cls()

    def proba(self, proba: np.ndarray) -> np.ndarray:
        """Probability of each row, from those of the labels."""
        return expit(self.weight * _none_of(proba) + self.offset)


def _none_of(proba):
    """Log-odds of there being none of the labels, were they independent."""
    log_none = np.log1p(-proba.clip(0, 1 - 1e-7)).sum(axis=1).clip(-30, -1e-6)
    return log_none - np.log(-np.expm1(log_none))


def check_thresholds(thresholds: np.ndarray, n_labels: int) -> np.ndarray:
    """Thresholds from a file, if they are that."""
    if thresholds.shape != (n_labels,) or not ((thresholds > 0) & (thresholds < 1)).all():
        raise ValueError(f"its thresholds are not {n_labels} probabilities.")
    return thresholds


def check_recalls(recalls: np.ndarray, n_labels: int) -> np.ndarray:
    """Recalls from a file, if they are shares or unknown."""
    if recalls.shape != (n_labels,) or not (np.isnan(recalls) | ((recalls >= 0) & (recalls <= 1))).all():
        raise ValueError(f"its recalls are not {n_labels} shares.")
    return recalls


def exceeds_threshold(proba: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which labels are found, as float32, which predictions are."""
    return proba.astype(np.float32) >= thresholds.astype(np.float32)


def tune_thresholds(
    proba: np.ndarray,
    targets: np.ndarray,
    is_labelled: np.ndarray,
    is_unaltered: np.ndarray,
    most_false: float,
    least: float = _LEAST_FOUND,
) -> np.ndarray:
    """Thresholds of the labels with the best F1 each, raised where unedited rows are above them, until few are.

    Parameters
    ----------
    proba : ndarray of shape (n_rows, n_labels)
        Of rows that no model was trained on.
    targets, known : bool ndarray of shape (n_rows, n_labels)
        Which labels each row has, and where that is known.
    is_unaltered : bool ndarray of shape (n_rows,)
        Rows without any.
    most_false : float
        Share of these that may be above some threshold.
    least : float
        Lowest threshold.

    Returns
    -------
    ndarray of shape (n_labels,)
        Probabilities from which a label is set.
    """
    thresholds = np.full(proba.shape[1], 0.5)
    for label in range(proba.shape[1]):
        rows = is_labelled[:, label]
        if targets[rows, label].any():
            thresholds[label] = _best_f1(proba[rows, label], targets[rows, label], least)
    if not is_unaltered.any():
        return thresholds
    clean, best = proba[is_unaltered], thresholds
    # To each label the same share of false alarms, the largest with which all together keep to their limit.
    for share in np.r_[1.0, np.geomspace(most_false, most_false / proba.shape[1], 12) if most_false else 0.0, 0.0]:
        # Above the highest of those that are let pass, also as float32, which predictions are.
        order = np.sort(clean, axis=0)[len(clean) - 1 - min(len(clean) - 1, int(share * len(clean)))]
        thresholds = np.maximum(best, np.nextafter(order.astype(np.float32), np.float32(2))) if share < 1 else best
        if (clean >= thresholds).any(axis=1).mean() <= most_false:
            break
    return thresholds.clip(1e-6, 1 - 1e-6)


def _best_f1(proba, target, least):
    """Of many thresholds the one with the best F1; of a plateau its middle."""
    candidates = np.linspace(0, 1, _N_THRESHOLDS + 2)[1:-1]
    candidates = candidates[candidates >= least]
    is_set = proba[None, :] >= candidates[:, None]
    hits = (is_set & target).sum(axis=1)
    f1 = 2 * hits / np.maximum(is_set.sum(axis=1) + target.sum(), 1)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return candidates[best[len(best) // 2]]
