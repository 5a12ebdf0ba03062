"""Calibration of scores to probabilities, and thresholds on probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ..._utils.validation import check_number

# Probabilities stay this far from 0 and 1: a few thousand calibration windows support no more.
_MIN_PROBA = 1e-4
# Logits are limited to this magnitude, so that one confident error cannot dominate the regression.
_MAX_LOGIT = 12
_N_THRESHOLDS = 199
# A detected label should not be improbable. For labels that are hard to detect, F1 alone would flag nearly all rows.
_MIN_THRESHOLD = 0.25


class ScoreFusion:
    """Logistic regression on the log-odds of several models, for each label; with one model, Platt scaling.

    Parameters
    ----------
    weights : ndarray of shape (n_labels, n_models)
        Weights of the models' log-odds.
    offsets : ndarray of shape (n_labels,)
        Offsets added to the weighted sums.
    """

    def __init__(self, weights: np.ndarray, offsets: np.ndarray) -> None:
        self.weights, self.offsets = weights, offsets

    @classmethod
    def mean(cls, n_models: int, n_labels: int) -> ScoreFusion:
        """Return a fusion that averages the models without calibration."""
        return cls(np.full((n_labels, n_models), 1 / n_models), np.zeros(n_labels))

    @classmethod
    def from_arrays(cls, weights: np.ndarray, offsets: np.ndarray, n_labels: int, n_models: int) -> ScoreFusion:
        """Return a fusion from arrays of a file, or raise ValueError if they are invalid."""
        if weights.shape != (n_labels, n_models) or offsets.shape != (n_labels,):
            raise ValueError(f"its calibration has {weights.shape} weights for {n_labels} labels, {n_models} model(s).")
        if not (np.isfinite(weights).all() and np.isfinite(offsets).all()):
            raise ValueError("its calibration has weights that are not finite.")
        return cls(weights, offsets)

    @classmethod
    def fit(cls, logits: np.ndarray, targets: np.ndarray, is_labelled: np.ndarray) -> ScoreFusion:
        """Fit weights and offsets on rows that the models were not trained on.

        Parameters
        ----------
        logits : ndarray of shape (n_rows, n_models, n_labels)
            Log-odds.
        targets, is_labelled : bool ndarray of shape (n_rows, n_labels)
            Whether each row has each label, and whether that is known.

        Returns
        -------
        ScoreFusion
            The fitted fusion. A label that all rows or no row has gets the mean of the models; a label for which no
            model has a positive coefficient gets its frequency.
        """
        n_models, n_labels = logits.shape[1:]
        weights, offsets = np.full((n_labels, n_models), 1 / n_models), np.zeros(n_labels)
        for label in range(n_labels):
            rows = is_labelled[:, label]
            x, y = logits[rows, :, label], targets[rows, label]
            if y.all() or not y.any():
                continue
            x = x.clip(-_MAX_LOGIT, _MAX_LOGIT)
            is_useful = np.ones(n_models, bool)
            while is_useful.any():
                model = LogisticRegression(C=10.0, max_iter=1000).fit(x[:, is_useful], y)
                if (model.coef_ > 0).all():
                    weights[label] = 0
                    weights[label, is_useful], offsets[label] = model.coef_[0], model.intercept_[0]
                    break
                # Drop models with a negative coefficient: their score is anti-correlated with the label.
                is_useful[np.flatnonzero(is_useful)[model.coef_[0].argmin()]] = False
            else:
                prior = np.clip(y.mean(), _MIN_PROBA, 1 - _MIN_PROBA)
                weights[label], offsets[label] = 0, logit(prior)
        return cls(weights, offsets)

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated log-odds of shape (n_rows, n_labels) from those of shape (n_rows, n_models, n_labels)."""
        weighted = np.einsum("nml,lm->nl", logits.clip(-_MAX_LOGIT, _MAX_LOGIT), self.weights)
        return (weighted + self.offsets).clip(logit(_MIN_PROBA), -logit(_MIN_PROBA))


class UnalteredCalibrator:
    """Calibrator of the label 'unaltered': logistic regression on the log-odds that no label is present.

    Parameters
    ----------
    weight, offset : float
        Coefficients for the log-odds of the product of (1 - p) over the labels.
    base_rate : float or None, default=None
        Fraction of unaltered rows that the probabilities assume; None if it is unknown.
    """

    def __init__(self, weight: float = 1.0, offset: float = 0.0, base_rate: float | None = None) -> None:
        self.weight, self.offset, self.base_rate = weight, offset, base_rate

    @classmethod
    def fit(cls, proba: np.ndarray, is_unaltered: np.ndarray) -> UnalteredCalibrator:
        """Fit on probabilities of the labels, of shape (n_rows, n_labels), and a mask of the rows without any label."""
        if is_unaltered.all() or not is_unaltered.any():
            return cls()
        model = LogisticRegression(C=10.0, max_iter=1000).fit(_log_odds_of_none(proba)[:, None], is_unaltered)
        base_rate = float(is_unaltered.mean())
        if not model.coef_.item() > 0:
            return cls(base_rate=base_rate)
        return cls(float(model.coef_.item()), float(model.intercept_.item()), base_rate)

    def proba(self, proba: np.ndarray) -> np.ndarray:
        """Return the probability that each row is unaltered, from the probabilities of its labels."""
        return expit(self.weight * _log_odds_of_none(proba) + self.offset)


def check_prior(prior: float, base_rate: float | None) -> None:
    """Raise ValueError unless probabilities of 'unaltered' that assume a base rate can be given another prior."""
    check_number("prior", prior, closed=False)
    if not prior < 1:
        raise ValueError(f"prior={prior!r} must be below 1.")
    if base_rate is None:
        raise ValueError(
            f"prior={prior!r} cannot replace the fraction of unedited clips that the detector assumes, because that is "
            "unknown: it was calibrated without unedited or without edited clips. Leave out prior."
        )


def reweigh(proba: Any, base_rate: float | None, prior: float) -> Any:
    """Replace the base rate that probabilities assume by a prior, by Bayes' rule: odds times the ratio of its odds."""
    check_prior(prior, base_rate)
    return expit(logit(proba) + logit(prior) - logit(base_rate))


def _log_odds_of_none(proba: np.ndarray) -> np.ndarray:
    """Return the log-odds that no label is present, if the labels were independent."""
    log_none = np.log1p(-proba.clip(0, 1 - 1e-7)).sum(axis=1).clip(-30, -1e-6)
    return log_none - np.log(-np.expm1(log_none))


def check_thresholds(thresholds: np.ndarray, n_labels: int) -> np.ndarray:
    """Return thresholds from a file, or raise ValueError if they are invalid."""
    if thresholds.shape != (n_labels,) or not ((thresholds > 0) & (thresholds < 1)).all():
        raise ValueError(f"its thresholds are not {n_labels} probabilities.")
    return thresholds


def check_recalls(recalls: np.ndarray, n_labels: int) -> np.ndarray:
    """Return recalls from a file, or raise ValueError if they are neither fractions nor NaN."""
    if recalls.shape != (n_labels,) or not (np.isnan(recalls) | ((recalls >= 0) & (recalls <= 1))).all():
        raise ValueError(f"its recalls are not {n_labels} fractions.")
    return recalls


def exceeds_threshold(proba: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return whether probabilities reach their thresholds, compared as float32 because predictions are float32."""
    return proba.astype(np.float32) >= thresholds.astype(np.float32)


def tune_thresholds(
    proba: np.ndarray,
    targets: np.ndarray,
    is_labelled: np.ndarray,
    may_not_alarm: np.ndarray,
    max_false_alarm_rate: float,
    min_threshold: float = _MIN_THRESHOLD,
) -> np.ndarray:
    """Return the threshold of each label with the best F1, or a limit for all labels that limits false alarms.

    Parameters
    ----------
    proba : ndarray of shape (n_rows, n_labels)
        Probabilities of rows that no model was trained on.
    targets, is_labelled : bool ndarray of shape (n_rows, n_labels)
        Whether each row has each label, and whether that is known.
    may_not_alarm : bool ndarray of shape (n_rows,)
        Rows whose false alarms are limited.
    max_false_alarm_rate : float
        Largest fraction of these rows that may exceed the threshold of any label which they do not have.
    min_threshold : float, default=0.25
        Lowest threshold that maximising F1 may choose.

    Returns
    -------
    ndarray of shape (n_labels,)
        Probability from which each label is detected.
    """
    thresholds = np.full(proba.shape[1], 0.5)
    for label in range(proba.shape[1]):
        rows = is_labelled[:, label]
        if targets[rows, label].any():
            thresholds[label] = _best_f1_threshold(proba[rows, label], targets[rows, label], min_threshold)
    if not may_not_alarm.any():
        return thresholds
    # One lower limit for all labels: limits of their own would follow single windows, and pass twice as many of others.
    is_alarm = (proba >= thresholds) & is_labelled & ~targets
    peaks = np.sort(np.where(is_alarm, proba, 0.0)[may_not_alarm].max(axis=1))
    n_allowed = min(int(max_false_alarm_rate * len(peaks)), len(peaks) - 1)
    # The next float32 above the highest probability that is not allowed, because predictions are float32.
    limit = np.nextafter(np.float32(peaks[len(peaks) - 1 - n_allowed]), np.float32(2))
    return np.maximum(thresholds, limit).clip(1e-6, 1 - 1e-6)


def _best_f1_threshold(proba: np.ndarray, target: np.ndarray, min_threshold: float) -> float:
    """Return the candidate with the best F1; on a plateau, the candidate in its middle."""
    candidates = np.linspace(0, 1, _N_THRESHOLDS + 2)[1:-1]
    candidates = candidates[candidates >= min_threshold]
    is_detected = proba[None, :] >= candidates[:, None]
    n_hits = (is_detected & target).sum(axis=1)
    f1 = 2 * n_hits / np.maximum(is_detected.sum(axis=1) + target.sum(), 1)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return candidates[best[len(best) // 2]]
