"""Mixture of two Gaussians fitted to the modality gaps of many rows, and the posterior of each row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

# Defaults of the fit.
MIN_VARIANCE, MAX_ITER, TOL = 5e-4, 1000, 1e-8

# Maximum number of bins of equal count. With at most this many rows, EM is exact.
_N_BINS = 4096

# Number of points between the means at which the density is searched for peaks.
_N_GRID = 2001

# A component with fewer rows describes outliers, not a group.
_MIN_ROWS = 5

# The cubes of larger gaps approach the maximum of float64.
_MAX_GAP = 1e100


def absolute_gaps(scores: np.ndarray) -> np.ndarray:
    """Return the largest minus the smallest score of each row as float64, NaN in rows with fewer than two scores."""
    with np.errstate(over="ignore"):  # Infinite gaps raise an error below.
        if scores.shape[1] == 2:
            gaps = np.abs(np.subtract(scores[:, 0], scores[:, 1], dtype=np.float64))
        else:
            gaps = np.fmax.reduce(scores, axis=1) - np.fmin.reduce(scores, axis=1)
            gaps[(~np.isnan(scores)).sum(axis=1) < 2] = np.nan
    gaps = gaps.astype(np.float64, copy=False)
    if (gaps > _MAX_GAP).any():
        raise ValueError(f"scores of one row differ by more than {_MAX_GAP:g}: scale them down.")
    return gaps


@dataclass(frozen=True)
class GapMixture:
    """Two weighted Gaussians, of which the first has the lower mean and describes balanced rows.

    If the gaps do not split in two, both components are equal, so every posterior is 0.5.
    """

    means: np.ndarray
    variances: np.ndarray
    weights: np.ndarray
    log_likelihood: float = math.nan  # Mean over the rows.
    n_iter: int = 0
    converged: bool = False

    @property
    def separation(self) -> float:
        """Distance of the means over the root mean square of the standard deviations (Ashman's D)."""
        return float((self.means[1] - self.means[0]) / math.sqrt(self.variances.mean()))

    @property
    def n_peaks(self) -> int:
        """Number of peaks of the density: two, or one if a component is only a shoulder of the other."""
        is_rising = np.diff(self.log_density(np.linspace(self.means[0], self.means[1], _N_GRID))) > 0
        # A peak is at the lower mean if the density falls after it, or at the higher one if it rises up to it.
        return int(not is_rising[0]) + int(is_rising[-1]) + int((is_rising[:-1] & ~is_rising[1:]).sum())

    def posterior(self, gaps: np.ndarray) -> np.ndarray:
        """Return the probability of each component, monotone in the gap; the weights of the mixture for a NaN gap."""
        (low, high), (var_low, var_high) = self.means, self.variances
        odds = np.log(self.weights[1] / self.weights[0]) - 0.5 * np.log(var_high / var_low)
        bounded_gaps = gaps
        if var_low != var_high:
            # With unequal variances, the odds reverse at this gap. Beyond it they keep their value.
            turning_point = low - (high - low) * var_low / (var_high - var_low)
            bounded_gaps = np.maximum(gaps, turning_point) if var_high > var_low else np.minimum(gaps, turning_point)
        odds = odds + (bounded_gaps - low) ** 2 / (2 * var_low) - (bounded_gaps - high) ** 2 / (2 * var_high)
        posterior = np.empty((len(gaps), 2))
        expit(-odds, out=posterior[:, 0])
        expit(odds, out=posterior[:, 1])
        posterior[np.isnan(gaps)] = self.weights
        return posterior

    def log_density(self, gaps: np.ndarray) -> np.ndarray:
        """Return the logarithm of the density of each gap."""
        with np.errstate(invalid="ignore"):  # Rows without a gap are NaN.
            return np.logaddexp(*self._log_joint(gaps))

    def component_densities(self, gaps: np.ndarray) -> np.ndarray:
        """Return the weighted density of each component at each gap, of shape (2, n_gaps)."""
        return np.exp(self._log_joint(gaps))

    def _log_joint(self, gaps: np.ndarray) -> list[np.ndarray]:
        """Return the logarithm of the weighted density of each component."""
        return [
            math.log(weight) - 0.5 * math.log(2 * math.pi * variance) - (gaps - mean) ** 2 / (2 * variance)
            for mean, variance, weight in zip(self.means, self.variances, self.weights, strict=True)
        ]


def _mean(gaps: np.ndarray) -> float:
    """Return the mean, clipped to the range of the gaps, so that rounding gives equal gaps no variance."""
    return np.clip(gaps.mean(), gaps.min(), gaps.max())


def fit_one(gaps: np.ndarray, min_variance: float = MIN_VARIANCE) -> GapMixture:
    """Fit a mixture of two equal components, which is one Gaussian."""
    mean = _mean(gaps)
    sample_variance = ((gaps - mean) ** 2).mean()
    variance = max(sample_variance, min_variance)
    log_likelihood = -0.5 * (math.log(2 * math.pi * variance) + sample_variance / variance)
    return GapMixture(np.full(2, mean), np.full(2, variance), np.full(2, 0.5), log_likelihood)


def fit_two(
    gaps: np.ndarray,
    *,
    min_variance: float = MIN_VARIANCE,
    max_iter: int = MAX_ITER,
    tol: float = TOL,
    start: GapMixture | None = None,
) -> GapMixture:
    """Fit a mixture by maximum likelihood (EM), or one Gaussian if the rows do not split in two.

    EM starts from `start`. Without it, or if it finds no second component, EM starts from two splits of
    the rows, low from high and dense from spread, and the likelier result is used. Variances are bounded
    below by `min_variance`. Adding it to them instead would shift the weights too.

    Parameters
    ----------
    gaps : ndarray of shape (n_rows,)
        Gaps without NaN.
    min_variance : float
        Minimum variance of a component.
    max_iter : int
        Maximum number of EM steps.
    tol : float
        Gain in the mean log-likelihood per row below which EM has converged.
    start : GapMixture or None, default=None
        Mixture from which EM starts.

    Returns
    -------
    GapMixture
        The fitted mixture.
    """
    one = fit_one(gaps, min_variance)
    if len(gaps) < 2 * _MIN_ROWS:
        return one
    center = _mean(gaps)  # Sums of squares stay precise without a common offset.
    bins = _Bins(np.sort(gaps - center))
    rounds = [[bins.split_low_from_high(), bins.split_dense_from_spread()]]
    if start is not None:
        rounds.insert(0, [bins.expect(start.means - center, start.variances, start.weights)[0]])
    for starts in rounds:
        fits = [bins.maximise(imbalanced, min_variance, max_iter, tol) for imbalanced in starts]
        mixtures = [mixture for mixture in fits if mixture is not None]
        best = max(mixtures, key=lambda mixture: mixture.log_likelihood, default=one)
        # Equal components, as from rows with one value, explain no more than one Gaussian.
        if best.log_likelihood > one.log_likelihood + tol:
            return replace(best, means=best.means + center)
    return one


class _Bins:
    """Sorted gaps of mean zero in bins of equal count, each with its mean and variance."""

    def __init__(self, sorted_gaps: np.ndarray) -> None:
        n = len(sorted_gaps)
        starts = np.arange(min(_N_BINS, n)) * n // min(_N_BINS, n)
        self.n_rows = n
        self.count = np.diff(starts, append=n).astype(float)
        self.mean = np.add.reduceat(sorted_gaps, starts) / self.count
        variance = np.add.reduceat(sorted_gaps**2, starts) / self.count - self.mean**2
        self.variance = np.maximum(variance, 0)

    def split_low_from_high(self) -> np.ndarray:
        """Return 1 for the bins above the cut that explains most of the variance (exact 2-means), else 0."""
        n_below = np.cumsum(self.count)[:-1]
        sum_below = np.cumsum(self.count * self.mean)[:-1]
        between_variance = sum_below**2 * (1 / n_below + 1 / (self.n_rows - n_below))
        return (np.arange(len(self.count)) > between_variance.argmax()).astype(float)

    def split_dense_from_spread(self) -> np.ndarray:
        """Return 1 for the bins outside the shortest range that holds half of the rows, else 0."""
        half = len(self.count) // 2
        start = (self.mean[half:] - self.mean[:-half]).argmin()
        position = np.arange(len(self.count))
        return ((position < start) | (position > start + half)).astype(float)

    def maximise(self, imbalanced: np.ndarray, min_variance: float, max_iter: int, tol: float) -> GapMixture | None:
        """Run EM from responsibilities of the second component, or return None if a component becomes too small.

        `imbalanced` has the fraction of each bin that belongs to the second component.
        """
        previous, gain, n_iter = -math.inf, math.inf, 0
        while gain >= tol and n_iter < max_iter:
            weighted_counts = np.stack([1 - imbalanced, imbalanced]) * self.count
            sums = weighted_counts.sum(axis=1)
            if sums.min() < _MIN_ROWS:
                return None
            means = weighted_counts @ self.mean / sums
            squares = (self.mean - means[:, None]) ** 2 + self.variance
            fitted_variances = (weighted_counts * squares).sum(axis=1) / sums
            variances, weights = np.maximum(fitted_variances, min_variance), sums / self.n_rows
            imbalanced, log_likelihood = self.expect(means, variances, weights)
            previous, gain, n_iter = log_likelihood, abs(log_likelihood - previous), n_iter + 1
        order = np.argsort(means, kind="stable")
        return GapMixture(means[order], variances[order], weights[order], log_likelihood, n_iter, gain < tol)

    def expect(self, means: np.ndarray, variances: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the responsibility of the second component for each bin, and the mean log-likelihood of a row."""
        squares = (self.mean - means[:, None]) ** 2 + self.variance
        constant = np.log(weights) - 0.5 * np.log(2 * np.pi * variances)
        low, high = constant[:, None] - squares / (2 * variances[:, None])
        return expit(high - low), float(self.count @ np.logaddexp(low, high) / self.n_rows)
