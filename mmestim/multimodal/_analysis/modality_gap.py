"""Analysis of the modality gap: the mixture of the gaps, and the posterior of each row."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ..._data.numeric import with_nan
from ..._serialization.model_file import TensorSpec
from ..._utils.validation import check_flag, check_number
from . import saved_analyzer
from .gap_mixture import MAX_ITER, MIN_VARIANCE, TOL, GapMixture, absolute_gaps, fit_one, fit_two


class ModalityGapAnalyzer(TransformerMixin, BaseEstimator):
    r"""Mixture of balanced and imbalanced rows, fitted to the gaps between the scores of modalities.

    >>> import numpy as np
    >>> from mmestim import ModalityGapAnalyzer
    >>> rng = np.random.default_rng(0)
    >>> audio = rng.uniform(0.8, 0.9, 1000)
    >>> image = audio - np.where(np.arange(1000) < 700, 0.1, 0.6) + rng.normal(0, 0.03, 1000)
    >>> analyzer = ModalityGapAnalyzer().fit(np.column_stack([audio, image]))
    >>> analyzer.means_.round(1), analyzer.weights_.round(2)
    (array([0.1, 0.6]), array([0.7, 0.3]))
    >>> analyzer.predict([[0.9, 0.85], [0.9, 0.2]])
    array([False,  True])

    The gap of a row is the difference of the scores that its modalities give to the true class. The
    gaps of many rows follow a mixture of two Gaussians: balanced rows and, with the higher mean,
    imbalanced rows. Bayes' theorem gives the probability that a row belongs to either component [1]_.

    Parameters
    ----------
    signed : bool, default=False
        Whether `gap` and displays use the first score minus the second, for two modalities, instead of
        the absolute difference. The mixture always describes absolute differences.
    max_iter : int, default=1000
        Maximum number of steps of expectation-maximisation.
    tol : float, default=1e-8
        Gain in the mean log-likelihood per row below which expectation-maximisation has converged.
    min_variance : float, default=5e-4
        Minimum variance of a component, in squared units of the scores. The default, a standard
        deviation of 0.022, suits probabilities. It keeps many equal gaps, such as those of memorised
        rows, from becoming a component that contains no other row.

    Attributes
    ----------
    means_ : ndarray of shape (2,)
        Mean gap of the balanced and of the imbalanced component. All pairs have this order.
    variances_ : ndarray of shape (2,)
        Variance of the gap in each component.
    weights_ : ndarray of shape (2,)
        Fraction of the rows in each component.
    bic_ : ndarray of shape (2,)
        Bayesian information criterion of one Gaussian and of two; lower is better.
    bimodal_ : bool
        Whether two Gaussians have the better criterion. They also describe skewed or heavy-tailed gaps
        better, even without two groups: see `n_peaks_`.
    n_peaks_ : int
        Number of peaks of the mixture's density, 1 or 2. With 1, a component is only a shoulder or the
        tails of the other, so its posterior separates large from small gaps but not two groups.
    separation_ : float
        Distance of the means over the root mean square of the standard deviations (Ashman's D).
        Components of equal width have two peaks if it is above 2.
    converged_ : bool
        Whether expectation-maximisation found two components within `max_iter` steps.
    n_iter_ : int
        Number of steps, at least 1.
    n_features_in_ : int
        Number of modalities.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of `X`. Defined only if all of them are strings.

    See Also
    --------
    gap_scores : Table of scores from classifiers or probabilities.
    ModalityGapDisplay : Plot of the gaps and the mixture.
    ModalityGapClassifier : Classifier whose training reduces the gap.

    Notes
    -----
    The paper defines the gap of two modalities, the mixture and the posterior. Ours are the absolute
    value, the gap beyond two modalities (largest minus smallest score), the settings of the fit, and a
    safeguard: with unequal variances, Bayes' posterior reverses at

    .. math:: s = \frac{\mu_i \sigma_b^2 - \mu_b \sigma_i^2}{\sigma_b^2 - \sigma_i^2},

    so if the imbalanced component is the wider one, the smallest gaps would count as imbalanced. Beyond
    s the posterior keeps its value at s, which makes it monotone in the gap.

    Gaps that do not split in two give two equal components: `bimodal_` and `converged_` are False,
    `separation_` is 0, every posterior is 0.5, and `fit` warns. This happens if the gaps are all equal
    or fewer than ten, or a component would have fewer than five rows. Two groups describe the rows;
    they do not explain why the modalities differ.

    Rows are sorted into at most 4096 bins of equal count, each with its exact moments, and
    expectation-maximisation runs on the bins. A million rows take about as long as sorting them.

    References
    ----------
    .. [1] Liu et al., "Quantifying Multimodal Imbalance: A GMM-Guided Adaptive Loss for Audio-Visual
       Learning", 2025, arXiv:2510.21797.
    """

    means_: NDArray[np.float64]
    variances_: NDArray[np.float64]
    weights_: NDArray[np.float64]
    bic_: NDArray[np.float64]
    bimodal_: bool
    n_peaks_: int
    separation_: float
    converged_: bool
    n_iter_: int
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    def __init__(
        self, *, signed: bool = False, max_iter: int = MAX_ITER, tol: float = TOL, min_variance: float = MIN_VARIANCE
    ) -> None:
        self.signed = signed
        self.max_iter = max_iter
        self.tol = tol
        self.min_variance = min_variance

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit the mixture to the gaps of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_modalities)
            Score of each modality for the true class: any finite number, or NaN if the modality is
            absent. Rows with fewer than two scores are ignored.
        y : object, default=None
            Ignored; exists for API consistency.

        Returns
        -------
        self : object
            The fitted analyzer.

        Raises
        ------
        ValueError
            If X has fewer than two columns, or no row with two scores.
        """
        self._check_parameters()
        gaps = absolute_gaps(self._check(X, reset=True))
        gaps = gaps[~np.isnan(gaps)]
        if not len(gaps):
            raise ValueError("no row of X has the scores of two modalities, so there is no gap to analyse.")
        one = fit_one(gaps, self.min_variance)
        two = fit_two(gaps, min_variance=self.min_variance, max_iter=self.max_iter, tol=self.tol)
        self._set_attributes(one, two, len(gaps))
        if not self.converged_:
            warnings.warn(
                f"two components were not found in {two.n_iter} steps. Raise max_iter (now {self.max_iter}) or tol."
                if two.n_iter
                else f"the gaps of {len(gaps)} row(s) do not split in two: every posterior is 0.5.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the posterior of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_modalities)
            Scores like those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Probabilities that the row is balanced and that it is imbalanced; `weights_` if it has fewer
            than two scores.
        """
        return self._mixture().posterior(self._gaps(X))

    def predict(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Predict which rows are imbalanced.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_modalities)
            Scores like those of `fit`.

        Returns
        -------
        ndarray of bool of shape (n_samples,)
            Whether the posterior of the imbalanced component is above 0.5. A row with fewer than two
            scores gets the weight of that component as its posterior.
        """
        return self._mixture().posterior(self._gaps(X))[:, 1] > 0.5

    def gap(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the gap of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_modalities)
            Scores like those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Largest minus smallest score or, with `signed`, the first minus the second. NaN if a row has
            fewer than two scores.
        """
        check_is_fitted(self)
        scores = self._check(X, reset=False)
        return (scores[:, 0] - scores[:, 1]).astype(np.float64) if self.signed else absolute_gaps(scores)

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-likelihood of each row's gap under the mixture.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_modalities)
            Scores like those of `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Logarithms of densities; NaN if a row has fewer than two scores.
        """
        return self._mixture().log_density(self._gaps(X))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the two posteriors.

        Parameters
        ----------
        input_features : object, default=None
            Ignored; exists for API consistency.

        Returns
        -------
        ndarray of str objects
            ``balanced`` and ``imbalanced``.
        """
        check_is_fitted(self)
        return np.array(["balanced", "imbalanced"], dtype=object)

    def _check_parameters(self) -> None:
        check_flag("signed", self.signed)
        check_number("max_iter", self.max_iter, low=1, integer=True)
        check_number("tol", self.tol, closed=False)
        check_number("min_variance", self.min_variance, high=1e200, closed=False)

    def _set_attributes(self, one: GapMixture, two: GapMixture, n_rows: int) -> None:
        """Set the fitted attributes from the fits of one and of two Gaussians."""
        self.means_, self.variances_, self.weights_ = two.means, two.variances, two.weights
        self.bic_ = np.array(
            [
                n_parameters * np.log(n_rows) - 2 * n_rows * mixture.log_likelihood
                for n_parameters, mixture in ((2, one), (5, two))
            ]
        )
        self.bimodal_ = bool(self.bic_[1] < self.bic_[0])
        self.n_peaks_ = two.n_peaks
        self.separation_ = two.separation
        self.converged_ = two.converged
        self.n_iter_ = max(1, two.n_iter)

    def _mixture(self) -> GapMixture:
        check_is_fitted(self)
        return GapMixture(self.means_, self.variances_, self.weights_)

    def _gaps(self, X: ArrayLike) -> np.ndarray:
        return absolute_gaps(self._check(X, reset=False))

    def _check(self, X: ArrayLike, reset: bool) -> np.ndarray:
        """Return X as a validated array."""
        scores = validate_data(
            self,
            with_nan(X),
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_features=2 if reset else 1,
        )
        if self.signed and scores.shape[1] > 2:
            raise ValueError(f"signed=True takes two modalities, got {scores.shape[1]}. Use signed=False.")
        return scores

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    # Saving and loading --------------------------------------------------------------------------

    def _to_file(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        return saved_analyzer.to_file(self)

    def _from_header(
        self, facts: Mapping[str, Any], specs: Mapping[str, TensorSpec], device: torch.device, has_user_modules: bool
    ) -> None:
        saved_analyzer.from_header(self, facts, specs)

    def _from_tensors(self, module: None, tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
        saved_analyzer.from_tensors(self, tensors)
