"""Two Gaussians under the modality gaps of many rows, and Bayes' posterior of each row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

# Defaults of the fit.
MIN_VARIANCE, MAX_ITER, TOL = 5e-4, 1000, 1e-8

# Rows are sorted into at most this many bins of equal count, whose moments are exact. Below it EM is exact too.
_N_BINS = 4096

# Points between the means at which peaks of the density are looked for.
_N_GRID = 2001

# A component of fewer rows describes outliers, not a group.
_MIN_ROWS = 5

# Cubes of larger gaps come near the end of float64.
_LARGEST = 1e100


def absolute_gaps(scores: np.ndarray) -> np.ndarray:
    """Largest less smallest score of each row as float64, NaN where there are fewer than two."""
    with np.errstate(over="ignore"):  # refused below
        if scores.shape[1] == 2:
            gaps = np.abs(np.subtract(scores[:, 0], scores[:, 1], dtype=np.float64))
        else:
            gaps = np.fmax.reduce(scores, axis=1) - np.fmin.reduce(scores, axis=1)
            gaps[(~np.isnan(scores)).sum(axis=1) < 2] = np.nan
    gaps = gaps.astype(np.float64, copy=False)
    if (gaps > _LARGEST).any():
        raise ValueError(f"scores of one row differ by more than {_LARGEST:g}: scale them down.")
    return gaps


@dataclass(frozen=True)
class GapMixture:
    """Two weighted Gaussians, the balanced one, of the lower mean, first.

    Where the gaps do not split in two the components are equal, so that every posterior is a half.
    """

    means: np.ndarray
    variances: np.ndarray
    weights: np.ndarray
    log_likelihood: float = math.nan  # of a row, on average
    n_iter: int = 0
    converged: bool = False

    @property
    def separation(self) -> float:
        """Distance of the means in root mean square standard deviations (Ashman's D)."""
        return float((self.means[1] - self.means[0]) / math.sqrt(self.variances.mean()))

    @property
    def n_peaks(self) -> int:
        """Number of peaks of the density: two, or one if a component is but a shoulder of the other."""
        rises = np.diff(self.log_density(np.linspace(self.means[0], self.means[1], _N_GRID))) > 0
        # All peaks lie between the means; one at an end is a rise that never comes, or never ends.
        return int(not rises[0]) + int(rises[-1]) + int((rises[:-1] & ~rises[1:]).sum())

    def posterior(self, gaps: np.ndarray) -> np.ndarray:
        """Probability of each component for each gap, monotone in the gap; the weights where a gap is NaN."""
        (low, high), (var_low, var_high) = self.means, self.variances
        odds = np.log(self.weights[1] / self.weights[0]) - 0.5 * np.log(var_high / var_low)
        with_gap = gaps
        if var_low != var_high:
            # With unequal variances the odds turn back at this gap: beyond it they keep its value.
            turn = low - (high - low) * var_low / (var_high - var_low)
            with_gap = np.maximum(gaps, turn) if var_high > var_low else np.minimum(gaps, turn)
        odds = odds + (with_gap - low) ** 2 / (2 * var_low) - (with_gap - high) ** 2 / (2 * var_high)
        shares = np.empty((len(gaps), 2))
        expit(-odds, out=shares[:, 0])
        expit(odds, out=shares[:, 1])
        shares[np.isnan(gaps)] = self.weights
        return shares

    def log_density(self, gaps: np.ndarray) -> np.ndarray:
        """Logarithm of the density of each gap."""
        with np.errstate(invalid="ignore"):  # NaN where there is no gap
            return np.logaddexp(*self._log_joint(gaps))

    def component_densities(self, gaps: np.ndarray) -> np.ndarray:
        """Weighted density of each component at each gap, of shape (2, n_gaps)."""
        return np.exp(self._log_joint(gaps))

    def _log_joint(self, gaps):
        return [
            math.log(weight) - 0.5 * math.log(2 * math.pi * variance) - (gaps - mean) ** 2 / (2 * variance)
            for mean, variance, weight in zip(self.means, self.variances, self.weights, strict=True)
        ]


def _mean(gaps):
    """Mean of the gaps; rounded, it may lie outside of them, which would make one gap in all rows a spread."""
    return np.clip(gaps.mean(), gaps.min(), gaps.max())


def fit_one(gaps: np.ndarray, min_variance: float = MIN_VARIANCE) -> GapMixture:
    """The mixture of two equal components, which is one Gaussian."""
    mean = _mean(gaps)
    spread = ((gaps - mean) ** 2).mean()
    variance = max(spread, min_variance)
    log_likelihood = -0.5 * (math.log(2 * math.pi * variance) + spread / variance)
    return GapMixture(np.full(2, mean), np.full(2, variance), np.full(2, 0.5), log_likelihood)


def fit_two(
    gaps: np.ndarray,
    *,
    min_variance: float = MIN_VARIANCE,
    max_iter: int = MAX_ITER,
    tol: float = TOL,
    start: GapMixture | None = None,
) -> GapMixture:
    """Maximum-likelihood mixture by EM, or one Gaussian where the rows do not split in two.

    EM begins at `start` or, without one or if it leads nowhere, at two splits of the rows, low from
    high and dense from spread out, of which the likelier result counts. The variances are kept at
    `min_variance` and above, rather than enlarged by it, which would move the weights too.
    """
    one = fit_one(gaps, min_variance)
    if len(gaps) < 2 * _MIN_ROWS:
        return one
    center = _mean(gaps)  # Sums of squares lose nothing to a common offset.
    bins = _Bins(np.sort(gaps - center))
    starts = [[bins.low_from_high(), bins.dense_from_spread()]]
    if start is not None:
        starts.insert(0, [bins.expect(start.means - center, start.variances, start.weights)[0]])
    for shares in starts:
        found = [mixture for r in shares if (mixture := bins.em(r, min_variance, max_iter, tol))]
        best = max(found, key=lambda mixture: mixture.log_likelihood, default=one)
        # Equal components, as one value in all rows gives, explain nothing more than one does.
        if best.log_likelihood > one.log_likelihood + tol:
            return replace(best, means=best.means + center)
    return one


class _Bins:
    """Sorted gaps of mean zero in bins of equal count, each with its mean and variance."""

    def __init__(self, ordered: np.ndarray) -> None:
        n = len(ordered)
        starts = np.arange(min(_N_BINS, n)) * n // min(_N_BINS, n)
        self.n_rows = n
        self.count = np.diff(starts, append=n).astype(float)
        self.mean = np.add.reduceat(ordered, starts) / self.count
        spread = np.add.reduceat(ordered**2, starts) / self.count - self.mean**2
        self.variance = np.maximum(spread, 0)

    def low_from_high(self) -> np.ndarray:
        """Which bins lie above the cut that explains most of the variance: 2-means, solved exactly."""
        below = np.cumsum(self.count)[:-1]
        shift = np.cumsum(self.count * self.mean)[:-1]
        between = shift**2 * (1 / below + 1 / (self.n_rows - below))
        return (np.arange(len(self.count)) > between.argmax()).astype(float)

    def dense_from_spread(self) -> np.ndarray:
        """Which bins lie outside the shortest range that holds half of the rows."""
        half = len(self.count) // 2
        start = (self.mean[half:] - self.mean[:-half]).argmin()
        place = np.arange(len(self.count))
        return ((place < start) | (place > start + half)).astype(float)

    def em(self, r: np.ndarray, min_variance: float, max_iter: int, tol: float) -> GapMixture | None:
        """The mixture that EM leads to from a share of the second component in each bin, if both stay alive."""
        before, gain, n_iter = -math.inf, math.inf, 0
        while gain >= tol and n_iter < max_iter:
            shares = np.stack([1 - r, r]) * self.count
            sums = shares.sum(axis=1)
            if sums.min() < _MIN_ROWS:
                return None
            means = shares @ self.mean / sums
            spread = (shares * ((self.mean - means[:, None]) ** 2 + self.variance)).sum(axis=1) / sums
            variances, weights = np.maximum(spread, min_variance), sums / self.n_rows
            r, log_likelihood = self.expect(means, variances, weights)
            before, gain, n_iter = log_likelihood, abs(log_likelihood - before), n_iter + 1
        order = np.argsort(means, kind="stable")
        return GapMixture(means[order], variances[order], weights[order], log_likelihood, n_iter, gain < tol)

    def expect(self, means: np.ndarray, variances: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
        """Share of the second component in each bin, and mean log-likelihood of a row."""
        distance = (self.mean - means[:, None]) ** 2 + self.variance
        constant = np.log(weights) - 0.5 * np.log(2 * np.pi * variances)
        low, high = constant[:, None] - distance / (2 * variances[:, None])
        return expit(high - low), float(self.count @ np.logaddexp(low, high) / self.n_rows)
