"""ModalityGapAnalyzer and its mixture: posteriors, recovery, degenerate gaps, scikit-learn's checks."""

import math
import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmestim import ModalityGapAnalyzer
from mmestim.multimodal._analysis.gap_mixture import GapMixture, fit_two

# Means, standard deviations and weights; far enough from 0 that no gap is folded there.
SEPARATED = ((1.2, 1.7), (0.05, 0.1), (0.6, 0.4))
OVERLAPPING = ((1.15, 1.5), (0.05, 0.25), (0.6, 0.4))
WIDE_BALANCED = ((1.2, 1.6), (0.2, 0.05), (0.7, 0.3))
NARROW_IN_BROAD = ((1.3, 1.35), (0.03, 0.2), (0.5, 0.5))
MIXTURES = [SEPARATED, OVERLAPPING, WIDE_BALANCED, NARROW_IN_BROAD]
SETTINGS = {"min_variance": 5e-4, "max_iter": 1000, "tol": 1e-8}
# Tight enough that one step more or less, due to a rounding error, does not change the result.
TIGHT = {"tol": 1e-13, "max_iter": 5000}


def draw(mixture, n_rows, seed=0):
    means, deviations, weights = map(np.array, mixture)
    rng = np.random.default_rng(seed)
    group = (rng.random(n_rows) < weights[1]).astype(int)
    return rng.normal(means[group], deviations[group])


def table(gaps):
    """Return scores of two modalities with these gaps; the first score is the larger one in every other row."""
    gaps = np.asarray(gaps, dtype=float)
    first = np.where(np.arange(len(gaps)) % 2, gaps, 0)
    return np.column_stack([first, gaps - first])


def mixture_of(means, deviations, weights):
    return GapMixture(np.array(means), np.square(deviations), np.array(weights))


def bayes(mixture, gaps):
    """Return Bayes' posterior of the second component, computed in logarithms so that far gaps do not underflow."""
    low, high = (
        norm.logpdf(gaps, mean, deviation) + math.log(weight) for mean, deviation, weight in zip(*mixture, strict=True)
    )
    return np.exp(high - np.logaddexp(low, high))


def parameters(analyzer):
    return np.array([analyzer.means_, np.sqrt(analyzer.variances_), analyzer.weights_])


def assert_sound(analyzer, X):
    """Check what holds for any gaps: ordered components, finite numbers, probabilities as posteriors."""
    fitted = [analyzer.means_, analyzer.variances_, analyzer.weights_, analyzer.bic_]
    assert all(values.shape == (2,) and np.isfinite(values).all() for values in fitted)
    assert analyzer.means_[0] <= analyzer.means_[1]
    assert (analyzer.variances_ >= analyzer.min_variance).all()
    assert analyzer.weights_.sum() == pytest.approx(1)
    assert math.isfinite(analyzer.separation_)
    assert isinstance(analyzer.bimodal_, bool)
    assert isinstance(analyzer.converged_, bool)
    assert analyzer.n_iter_ >= 1
    posterior = analyzer.transform(X)
    assert ((posterior >= 0) & (posterior <= 1)).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    assert np.isfinite(analyzer.score_samples(X)).all()


def assert_equal_components(analyzer, X):
    """Check for two equal components, which give every row the posterior 0.5."""
    assert_sound(analyzer, X)
    assert analyzer.means_[0] == analyzer.means_[1]
    assert analyzer.variances_[0] == analyzer.variances_[1]
    assert (analyzer.converged_, analyzer.bimodal_, analyzer.separation_) == (False, False, 0)
    assert (analyzer.transform(X) == 0.5).all()
    assert not analyzer.predict(X).any()


def fit_degenerate(X, match="do not split in two", **parameters):
    with pytest.warns(ConvergenceWarning, match=match) as caught:
        analyzer = ModalityGapAnalyzer(**parameters).fit(X)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # The warning points at the call of fit.
    return analyzer


# Posteriors ----------------------------------------------------------------------------------------


def test_posteriors_by_hand():
    mixture = mixture_of((0.2, 0.6), (0.1, 0.1), (0.7, 0.3))
    # For equal variances the odds are 3/7 exp(0.4 (gap - 0.4) / 0.01): 3/7 half-way, e^4 times that 0.1 above.
    ahead = 3 * math.exp(4)
    behind = 3 * math.exp(-4)
    expected = [[0.7, 0.3], [7 / (7 + ahead), ahead / (7 + ahead)], [7 / (7 + behind), behind / (7 + behind)]]
    np.testing.assert_allclose(mixture.posterior(np.array([0.4, 0.5, 0.3])), expected, rtol=1e-12)


def test_wide_imbalanced_component_does_not_claim_the_smallest_gaps():
    case = ((0.15, 0.5), (0.05, 0.25), (0.6, 0.4))
    assert bayes(case, 0.0) == pytest.approx(0.62, abs=0.005)
    turning_point = (0.5 * 0.05**2 - 0.15 * 0.25**2) / (0.05**2 - 0.25**2)
    imbalanced = mixture_of(*case).posterior(np.array([-1.0, 0.0, 0.1, turning_point]))[:, 1]
    np.testing.assert_allclose(imbalanced, bayes(case, turning_point), rtol=1e-9)
    assert imbalanced[0] < 0.05


def test_wide_balanced_component_does_not_claim_the_largest_gaps():
    case = ((0.5, 0.85), (0.25, 0.05), (0.4, 0.6))  # The case above, mirrored.
    assert bayes(case, 1.0) == pytest.approx(0.38, abs=0.005)
    turning_point = (0.85 * 0.25**2 - 0.5 * 0.05**2) / (0.25**2 - 0.05**2)
    imbalanced = mixture_of(*case).posterior(np.array([turning_point, 0.9, 1.0, 2.0]))[:, 1]
    np.testing.assert_allclose(imbalanced, bayes(case, turning_point), rtol=1e-9)
    assert imbalanced[0] > 0.95


def test_posterior_is_monotone_and_equals_bayes_up_to_the_turning_point():
    rng = np.random.default_rng(0)
    for _ in range(200):
        means, deviations = np.sort(rng.random(2)), rng.uniform(0.02, 0.4, 2)
        case = (means, deviations, rng.dirichlet([2, 2]))
        gaps = np.linspace(-2, 3, 2001)
        posterior = mixture_of(*case).posterior(gaps)
        np.testing.assert_allclose(posterior.sum(axis=1), 1)
        assert (np.diff(posterior[:, 1]) >= -1e-12).all()
        var_low, var_high = deviations**2
        turning_point = (means[1] * var_low - means[0] * var_high) / (var_low - var_high)
        exact = gaps >= turning_point if var_high > var_low else gaps <= turning_point
        assert exact.any()
        np.testing.assert_allclose(posterior[exact, 1], bayes(case, gaps[exact]), rtol=1e-7, atol=1e-300)


def test_equal_variances_have_no_turning_point():
    case = ((0.3, 0.5), (0.1, 0.1), (0.5, 0.5))
    gaps = np.linspace(-3, 3, 101)
    np.testing.assert_allclose(mixture_of(*case).posterior(gaps)[:, 1], bayes(case, gaps), rtol=1e-7)


def test_far_gaps_have_certain_posteriors():
    posterior = mixture_of((0.2, 0.6), (0.1, 0.2), (0.5, 0.5)).posterior(np.array([1e3, 1e100]))
    np.testing.assert_array_equal(posterior, [[0, 1], [0, 1]])


def test_analyzer_returns_the_posteriors_of_its_mixture():
    X = table(draw(OVERLAPPING, 500))
    analyzer = ModalityGapAnalyzer().fit(X)
    gaps = np.abs(X[:, 0] - X[:, 1])
    np.testing.assert_array_equal(analyzer.gap(X), gaps)
    expected = mixture_of(*parameters(analyzer)).posterior(gaps)
    np.testing.assert_allclose(analyzer.transform(X), expected, rtol=1e-9)
    np.testing.assert_array_equal(analyzer.predict(X), expected[:, 1] > 0.5)
    assert analyzer.predict(X).dtype == bool


# The fit -------------------------------------------------------------------------------------------


def covariance(mixture, n_rows):
    """Return the covariance of maximum-likelihood estimates: the inverse Fisher information of `n_rows` rows."""
    (m1, m2), (s1, s2), (_, w) = mixture
    gaps = np.linspace(-1, 4, 20001)
    p1, p2 = norm.pdf(gaps, m1, s1), norm.pdf(gaps, m2, s2)
    density = (1 - w) * p1 + w * p2
    r1, r2 = (1 - w) * p1 / density, w * p2 / density
    z1, z2 = (gaps - m1) / s1, (gaps - m2) / s2
    score = np.stack(
        [
            r1 * z1 / s1,
            r2 * z2 / s2,
            r1 * (z1**2 - 1) / (2 * s1**2),
            r2 * (z2**2 - 1) / (2 * s2**2),
            (p2 - p1) / density,
        ]
    )
    return np.linalg.inv((score * density) @ score.T * (gaps[1] - gaps[0]) * n_rows)


@pytest.mark.parametrize("n_rows", [1000, 20_000])  # One row per bin, and a few rows per bin.
@pytest.mark.parametrize("mixture", [SEPARATED, OVERLAPPING, WIDE_BALANCED])
def test_recovers_a_mixture_within_sampling_error(mixture, n_rows):
    means, deviations, weights = mixture
    truth = np.array([*means, *np.square(deviations), weights[1]])
    spread = covariance(mixture, n_rows)
    z = []
    for seed in range(50):
        analyzer = ModalityGapAnalyzer().fit(table(draw(mixture, n_rows, seed)))
        assert analyzer.converged_
        assert analyzer.bimodal_
        z.append(np.array([*analyzer.means_, *analyzer.variances_, analyzer.weights_[1]]) - truth)
    # The errors are normal about 0 with this covariance, up to terms of order 1 / n_rows.
    scaled = np.array(z) / np.sqrt(np.diag(spread))
    assert np.abs(scaled.mean(axis=0)).max() < 4 / math.sqrt(50)
    distances = np.einsum("si,ij,sj->s", z, np.linalg.inv(spread), z)
    low, high = chi2(250).ppf([1e-4, 1 - 1e-4])
    assert low < distances.sum() < high


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("n_rows, start", [(1000, "several"), (20_000, "the truth")])
def test_agrees_with_exact_em_on_all_rows(n_rows, start, mixture):
    gaps = draw(mixture, n_rows)
    analyzer = ModalityGapAnalyzer().fit(table(gaps))
    settings = {"n_init": 5}
    if start == "the truth":
        means, deviations, weights = map(np.array, mixture)
        precisions = 1 / deviations[:, None, None] ** 2
        settings = {"means_init": means[:, None], "precisions_init": precisions, "weights_init": weights}
    exact = GaussianMixture(2, tol=1e-9, max_iter=5000, reg_covar=0, random_state=0, **settings).fit(gaps[:, None])
    assert analyzer.score_samples(table(gaps)).mean() > exact.score(gaps[:, None]) - 1e-6
    expected = np.array([exact.means_.ravel(), np.sqrt(exact.covariances_.ravel()), exact.weights_])
    np.testing.assert_allclose(parameters(analyzer), expected[:, expected[0].argsort()], atol=1e-3)


@pytest.mark.parametrize("n_rows", [1000, 50_000])
def test_mixture_has_the_moments_of_the_gaps(n_rows):
    # Each step of EM preserves both moments, and bins must not lose the variance inside them.
    gaps = draw(OVERLAPPING, n_rows)
    analyzer = ModalityGapAnalyzer().fit(table(gaps))
    mean = analyzer.weights_ @ analyzer.means_
    assert mean == pytest.approx(gaps.mean(), rel=1e-9)
    variance = analyzer.weights_ @ (analyzer.variances_ + (analyzer.means_ - mean) ** 2)
    assert variance == pytest.approx(gaps.var(), rel=1e-9)


def test_bic_by_hand():
    gaps = draw(OVERLAPPING, 500)
    X = table(gaps)
    analyzer = ModalityGapAnalyzer().fit(X)
    one = 2 * math.log(500) - 2 * norm.logpdf(gaps, gaps.mean(), gaps.std()).sum()
    densities = [w * norm.pdf(gaps, m, s) for m, s, w in zip(*parameters(analyzer), strict=True)]
    two = 5 * math.log(500) - 2 * np.log(sum(densities)).sum()
    np.testing.assert_allclose(analyzer.bic_, [one, two], rtol=1e-9)
    assert analyzer.bic_[0] == pytest.approx(GaussianMixture(1, reg_covar=0).fit(gaps[:, None]).bic(gaps[:, None]))
    np.testing.assert_allclose(analyzer.score_samples(X), np.log(sum(densities)), rtol=1e-9)


def test_bic_of_binned_rows_approximates_the_exact_one():
    X = table(draw(OVERLAPPING, 50_000))
    analyzer = ModalityGapAnalyzer().fit(X)
    two = 5 * math.log(50_000) - 2 * analyzer.score_samples(X).sum()
    assert analyzer.bic_[1] == pytest.approx(two, abs=1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_rows", [50, 5000])
def test_one_gaussian_is_not_bimodal(n_rows):
    rng = np.random.default_rng(0)
    for _ in range(5):
        X = table(rng.normal(2, 0.2, n_rows))
        analyzer = ModalityGapAnalyzer().fit(X)
        assert not analyzer.bimodal_
        assert_sound(analyzer, X)


def test_separation_by_hand():
    analyzer = ModalityGapAnalyzer().fit(table(draw(SEPARATED, 1000)))
    low, high = analyzer.variances_
    expected = (analyzer.means_[1] - analyzer.means_[0]) / math.sqrt((low + high) / 2)
    assert analyzer.separation_ == pytest.approx(expected)
    assert analyzer.separation_ > 5


def test_density_integrates_to_one():
    analyzer = ModalityGapAnalyzer().fit(table(draw(OVERLAPPING, 1000)))
    grid = np.linspace(0, 4, 8001)
    density = np.exp(analyzer.score_samples(table(grid)))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-6)
    mixture = mixture_of(*parameters(analyzer))
    np.testing.assert_allclose(mixture.component_densities(grid).sum(axis=0), density, rtol=1e-9)


def test_minimum_variance_does_not_change_other_parameters():
    rng = np.random.default_rng(0)
    gaps = np.r_[rng.normal(0.2, 1e-4, 300), rng.normal(0.7, 0.1, 100)]
    analyzer = ModalityGapAnalyzer(min_variance=4e-4).fit(table(gaps))
    assert analyzer.variances_[0] == 4e-4
    assert analyzer.variances_[1] == pytest.approx(gaps[300:].var(), rel=1e-3)
    np.testing.assert_allclose(analyzer.weights_, [0.75, 0.25], atol=1e-6)


def test_warm_start_needs_fewer_steps():
    gaps = draw(OVERLAPPING, 1000)
    cold = fit_two(gaps, **SETTINGS)
    warm = fit_two(gaps, start=cold, **SETTINGS)
    assert warm.n_iter <= 3 < cold.n_iter
    np.testing.assert_allclose(warm.means, cold.means, atol=1e-4)
    assert warm.log_likelihood >= cold.log_likelihood - 1e-12


# Invariances ---------------------------------------------------------------------------------------


def test_order_of_rows_and_modalities_does_not_change_the_fit():
    rng = np.random.default_rng(0)
    X = np.hstack([table(draw(OVERLAPPING, 5000)), rng.random((5000, 1))])
    first = ModalityGapAnalyzer(**TIGHT).fit(X)
    second = ModalityGapAnalyzer(**TIGHT).fit(X[:, [2, 0, 1]])
    np.testing.assert_array_equal(second.transform(X[:, [2, 0, 1]]), first.transform(X))
    shuffled = ModalityGapAnalyzer(**TIGHT).fit(X[rng.permutation(5000)])
    np.testing.assert_allclose(parameters(shuffled), parameters(first), atol=1e-6)
    np.testing.assert_allclose(shuffled.transform(X), first.transform(X), atol=1e-5)


@pytest.mark.parametrize("scale", [1e-60, 1e-3, 7.0, 1e6, 1e60])
def test_scaled_scores_have_scaled_components(scale):
    X = table(draw(OVERLAPPING, 500))
    first = ModalityGapAnalyzer(**TIGHT).fit(X)
    scaled = ModalityGapAnalyzer(**TIGHT, min_variance=5e-4 * scale**2).fit(scale * X)
    np.testing.assert_allclose(parameters(scaled) / [[scale], [scale], [1]], parameters(first), atol=1e-6)
    np.testing.assert_allclose(scaled.transform(scale * X), first.transform(X), atol=1e-5)
    assert scaled.separation_ == pytest.approx(first.separation_, rel=1e-5)
    # The scale divides the density of one Gaussian and that of two alike.
    np.testing.assert_allclose(np.diff(scaled.bic_), np.diff(first.bic_), rtol=1e-6)


def test_offsets_of_rows_do_not_change_the_fit():
    X = table(draw(OVERLAPPING, 500))
    first = ModalityGapAnalyzer(**TIGHT).fit(X)
    moved = ModalityGapAnalyzer(**TIGHT).fit(X + np.random.default_rng(0).normal(size=(500, 1)))
    np.testing.assert_allclose(parameters(moved), parameters(first), atol=1e-6)


def test_large_gaps_lose_no_precision():
    gaps = draw(OVERLAPPING, 500)
    first = ModalityGapAnalyzer(**TIGHT).fit(table(gaps))
    far = ModalityGapAnalyzer(**TIGHT).fit(table(gaps + 2.0**20))
    np.testing.assert_allclose(parameters(far) - [[2.0**20], [0], [0]], parameters(first), atol=1e-6)


# Degenerate gaps -----------------------------------------------------------------------------------


def outliers(n_outliers):
    near = np.random.default_rng(0).normal(0.2, 0.03, 200)
    return np.r_[near, np.linspace(0.9, 0.91, n_outliers)]


ONE_GROUP = {
    "no gaps": np.zeros(100),
    "one gap": np.full(100, 0.3),
    "one gap whose mean is rounded": np.full(1000, 1e10 + 0.1),
    "one huge gap": np.full(100, 1e70),
    "tiny": draw(SEPARATED, 200) * 1e-6,
    "near the end of float64": draw(SEPARATED, 200) * 1e-300,
    "one outlier": outliers(1),
    "four outliers": outliers(4),
    **{f"{n} rows": np.random.default_rng(n).random(n) for n in range(1, 10)},
}


@pytest.mark.parametrize("gaps", ONE_GROUP.values(), ids=ONE_GROUP)
def test_gaps_of_one_group_give_equal_components(gaps):
    X = table(gaps)
    analyzer = fit_degenerate(X, match=f"gaps of {len(gaps)} row.* do not split in two: every posterior is 0.5")
    assert_equal_components(analyzer, X)
    assert analyzer.means_[0] == pytest.approx(np.abs(gaps).mean())


def test_five_outliers_form_a_group():
    analyzer = ModalityGapAnalyzer().fit(table(outliers(5)))
    np.testing.assert_array_equal(analyzer.predict(table(outliers(5))), np.arange(205) >= 200)
    np.testing.assert_allclose(analyzer.weights_, [200 / 205, 5 / 205])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_rows", [10, 11, 12])
def test_few_rows_give_sound_mixtures(n_rows):
    for seed in range(20):
        X = np.random.default_rng(seed).random((n_rows, 2))
        assert_sound(ModalityGapAnalyzer().fit(X), X)


def test_ten_rows_can_form_two_groups():
    gaps = np.repeat([0.1, 0.8], 5)
    analyzer = ModalityGapAnalyzer().fit(table(gaps))
    assert_sound(analyzer, table(gaps))
    np.testing.assert_allclose(analyzer.means_, [0.1, 0.8])
    np.testing.assert_array_equal(analyzer.predict(table(gaps)), gaps > 0.5)


@pytest.mark.parametrize("n_rows, tolerance", [(100, 1e-12), (5000, 1e-3), (1_000_000, 1e-3)])
def test_two_distinct_gaps(n_rows, tolerance):
    gaps = np.where(np.arange(n_rows) % 10 < 6, 0.1, 0.8)
    X = table(gaps)
    analyzer = ModalityGapAnalyzer().fit(X)
    assert_sound(analyzer, X)
    np.testing.assert_allclose(analyzer.means_, [0.1, 0.8], atol=tolerance)
    np.testing.assert_allclose(analyzer.variances_, 5e-4, atol=tolerance)
    np.testing.assert_allclose(analyzer.weights_, [0.6, 0.4], atol=tolerance)
    np.testing.assert_array_equal(analyzer.predict(X), gaps > 0.5)


def test_many_ties():
    gaps = draw(SEPARATED, 20_000).round(1)
    analyzer = ModalityGapAnalyzer().fit(table(gaps))
    assert_sound(analyzer, table(gaps))
    np.testing.assert_allclose(analyzer.means_, SEPARATED[0], atol=0.02)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("min_variance", [1e-300, 1e-12, 5e-4, 1.0, 1e100])
@pytest.mark.parametrize("kind", ["ties", "spike in a broad group", "skewed", "flat"])
def test_mixture_is_sound_for_any_gaps_and_minimum_variance(kind, min_variance):
    rng = np.random.default_rng(0)
    gaps = {
        "ties": rng.integers(0, 3, 300) / 2,
        "spike in a broad group": np.r_[np.zeros(100), rng.random(200)],
        "skewed": rng.exponential(0.1, 300),
        "flat": rng.random(300),
    }[kind]
    assert_sound(ModalityGapAnalyzer(min_variance=min_variance).fit(table(gaps)), table(gaps))


@pytest.mark.parametrize("scale", [1e60, 1e110, 1e149])
def test_large_scores_are_analysed_or_rejected(scale):
    X = table(draw(OVERLAPPING, 200) * scale)
    try:
        analyzer = ModalityGapAnalyzer().fit(X)
    except ValueError as error:
        assert "scale them down" in str(error)  # noqa: PT017 - both outcomes are valid
    else:
        assert_sound(analyzer, X)
        np.testing.assert_allclose(analyzer.means_, np.multiply(OVERLAPPING[0], scale), rtol=0.2)


@pytest.mark.parametrize("n_modalities", [2, 3])
def test_gaps_beyond_float64_raise(n_modalities):
    X = np.random.default_rng(0).random((20, n_modalities))
    analyzer = fit_degenerate(X[:8])
    X[0, :2] = 1.7e308, -1.7e308
    for call in (analyzer.fit, analyzer.transform):
        with pytest.raises(ValueError, match="scale them down"):
            call(X)


def test_no_row_with_a_gap_raises():
    X = np.full((20, 3), np.nan)
    X[np.arange(20), np.arange(20) % 3] = 0.5
    with pytest.raises(ValueError, match="no row of X has the scores of two modalities"):
        ModalityGapAnalyzer().fit(X)


def test_too_few_steps_are_reported():
    X = table(draw(OVERLAPPING, 500))
    analyzer = fit_degenerate(X, match=r"not found in 1 steps. Raise max_iter \(now 1\) or tol", max_iter=1)
    assert_sound(analyzer, X)
    assert (analyzer.converged_, analyzer.n_iter_) == (False, 1)
    assert analyzer.bimodal_  # By the mixture after one step.
    assert analyzer.means_[0] < analyzer.means_[1]


# Rows and columns ----------------------------------------------------------------------------------


def test_rows_without_a_gap_are_ignored_in_fit_and_get_the_weights():
    X = table(draw(OVERLAPPING, 500))
    absent = [[np.nan, 0.5], [0.5, np.nan], [np.nan, np.nan]]
    first = ModalityGapAnalyzer().fit(X)
    second = ModalityGapAnalyzer().fit(np.vstack([absent, X]))
    np.testing.assert_array_equal(parameters(second), parameters(first))
    np.testing.assert_array_equal(second.bic_, first.bic_)
    np.testing.assert_array_equal(second.transform(absent), np.tile(second.weights_, (3, 1)))
    assert np.isnan(second.gap(absent)).all()
    assert np.isnan(second.score_samples(absent)).all()
    np.testing.assert_array_equal(second.predict(absent), [False] * 3)
    np.testing.assert_array_equal(second.transform(np.vstack([X, absent]))[:500], first.transform(X))


def test_gap_of_three_modalities_is_the_range():
    X = np.array([[0.1, 0.9, 0.5], [0.2, np.nan, 0.3], [np.nan, 0.7, np.nan], [np.nan] * 3, [0.4, 0.4, 0.4]])
    many = np.random.default_rng(0).random((50, 3))
    analyzer = fit_degenerate(many[:9])
    np.testing.assert_allclose(analyzer.gap(X), [0.8, 0.1, np.nan, np.nan, 0])
    np.testing.assert_array_equal(np.isnan(analyzer.score_samples(X)), [False, False, True, True, False])


def test_absent_third_modality_does_not_change_the_fit():
    X = table(draw(OVERLAPPING, 500))
    two = ModalityGapAnalyzer().fit(X)
    three = np.insert(X, 1, np.nan, axis=1)
    np.testing.assert_array_equal(ModalityGapAnalyzer().fit(three).transform(three), two.transform(X))


def test_signed_changes_only_the_gap_method():
    X = table(draw(OVERLAPPING, 500))
    X[0, 0] = np.nan
    plain = ModalityGapAnalyzer().fit(X)
    signed = ModalityGapAnalyzer(signed=True).fit(X)
    np.testing.assert_array_equal(signed.gap(X), X[:, 0] - X[:, 1])
    assert (signed.gap(X) < 0).any()
    np.testing.assert_array_equal(np.abs(signed.gap(X)), plain.gap(X))
    for method in ("transform", "predict", "score_samples"):
        np.testing.assert_array_equal(getattr(signed, method)(X), getattr(plain, method)(X))
    with pytest.raises(ValueError, match=r"signed=True takes two modalities, got 3\. Use signed=False"):
        ModalityGapAnalyzer(signed=True).fit(np.ones((20, 3)))


def test_one_column_raises():
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        ModalityGapAnalyzer().fit(np.ones((20, 1)))


def test_infinite_scores_raise():
    X = table(draw(SEPARATED, 50))
    analyzer = ModalityGapAnalyzer().fit(X)
    X[3, 0] = np.inf
    for call in (analyzer.transform, ModalityGapAnalyzer().fit):
        with pytest.raises(ValueError, match="infinity"):
            call(X)


def test_feature_names_and_set_output():
    X = pd.DataFrame(table(draw(SEPARATED, 100)), columns=["audio", "image"], index=np.arange(100) + 7)
    analyzer = ModalityGapAnalyzer().set_output(transform="pandas").fit(X)
    assert analyzer.feature_names_in_.tolist() == ["audio", "image"]
    assert analyzer.get_feature_names_out().tolist() == ["balanced", "imbalanced"]
    out = analyzer.transform(X)
    assert out.columns.tolist() == ["balanced", "imbalanced"]
    pd.testing.assert_index_equal(out.index, X.index)
    np.testing.assert_array_equal(out, ModalityGapAnalyzer().fit(X.to_numpy()).transform(X.to_numpy()))
    assert isinstance(analyzer.predict(X), np.ndarray)
    with pytest.raises(ValueError, match="feature names"):
        analyzer.transform(X[["image", "audio"]])


def test_float32_input_gives_nearly_the_same_results():
    X = table(draw(OVERLAPPING, 1000)).astype(np.float32)
    single, double = ModalityGapAnalyzer().fit(X), ModalityGapAnalyzer().fit(X.astype(np.float64))
    np.testing.assert_allclose(parameters(single), parameters(double), atol=1e-4)
    for method in ("transform", "gap", "score_samples"):
        values = getattr(single, method)(X)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, getattr(double, method)(X), atol=1e-2)


def test_input_is_not_modified():
    X = np.insert(table(draw(OVERLAPPING, 100)), 1, np.nan, axis=1)
    before = X.copy()
    analyzer = ModalityGapAnalyzer().fit(X)
    for method in ("transform", "gap", "score_samples", "predict"):
        getattr(analyzer, method)(X)
    np.testing.assert_array_equal(X, before)


def test_memory_is_a_small_multiple_of_the_scores():
    X = table(draw(OVERLAPPING, 400_000))
    tracemalloc.start()
    try:
        ModalityGapAnalyzer().fit(X).transform(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Gaps, their sorted copy and temporaries of the same size: 3 times the two columns when measured.
    assert peak < 4.5 * X.nbytes


# scikit-learn --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value, error, message",
    [
        ("signed", 1, TypeError, "signed=1 must be True or False"),
        ("max_iter", 0, ValueError, "max_iter=0 must be at least 1"),
        ("max_iter", 2.5, TypeError, "max_iter=2.5 must be an integer"),
        ("tol", 0, ValueError, "tol=0 must be above 0"),
        ("tol", float("nan"), ValueError, "tol=nan"),
        ("min_variance", 0.0, ValueError, r"min_variance=0\.0 must be above 0"),
        ("min_variance", -1, ValueError, "min_variance=-1 must be above 0"),
        ("min_variance", float("inf"), ValueError, "min_variance=inf"),  # No Gaussian has it.
        ("min_variance", "small", TypeError, "min_variance='small' must be a number"),
    ],
)
def test_invalid_parameters_raise(name, value, error, message):
    with pytest.raises(error, match=message):
        ModalityGapAnalyzer(**{name: value}).fit(table(draw(SEPARATED, 50)))


def test_unfitted_analyzer_raises():
    X = np.ones((5, 2))
    for method in ("transform", "predict", "gap", "score_samples", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(ModalityGapAnalyzer(), method)(X)


def test_pickle_and_clone():
    X = table(draw(OVERLAPPING, 500))
    analyzer = ModalityGapAnalyzer(signed=True, max_iter=500, tol=1e-7, min_variance=1e-3).fit(X)
    again = pickle.loads(pickle.dumps(analyzer))
    np.testing.assert_array_equal(again.transform(X), analyzer.transform(X))
    fresh = clone(analyzer)
    assert fresh.get_params() == analyzer.get_params()
    assert not hasattr(fresh, "means_")
    np.testing.assert_array_equal(fresh.fit(X).transform(X), analyzer.transform(X))


# The few rows of these checks may not split in two.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([ModalityGapAnalyzer(), ModalityGapAnalyzer(max_iter=1, min_variance=1e-9)])
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "means, deviations, weights, peaks",
    [
        ((0.2, 0.7), (0.05, 0.1), (0.6, 0.4), 2),
        ((0.15, 0.5), (0.05, 0.25), (0.6, 0.4), 2),
        ((0.2, 0.7), (1e-4, 1e-4), (0.6, 0.4), 2),
        ((0.3, 0.35), (0.1, 0.1), (0.5, 0.5), 1),
        ((0.3, 0.35), (0.03, 0.2), (0.5, 0.5), 1),  # The tails of a peak.
        ((0.3, 0.5), (0.3, 0.1), (0.1, 0.9), 1),
        ((0.3, 0.3), (0.1, 0.1), (0.5, 0.5), 1),
    ],
)
def test_n_peaks_equals_the_peaks_of_the_density(means, deviations, weights, peaks):
    mixture = mixture_of(means, deviations, weights)
    density = sum(
        w * norm.pdf(np.linspace(-1, 2, 300_001), m, d) for m, d, w in zip(means, deviations, weights, strict=True)
    )
    inner = density[1:-1]
    assert ((inner > density[:-2]) & (inner >= density[2:])).sum() == peaks  # On a fine grid.
    assert mixture.n_peaks == peaks


def test_heavy_tails_are_bimodal_by_bic_but_have_one_peak():
    gaps = 0.5 + 0.03 * np.random.default_rng(0).standard_t(3, 2000).clip(-15, 15)
    analyzer = ModalityGapAnalyzer().fit(table(gaps))
    assert (analyzer.bimodal_, analyzer.n_peaks_) == (True, 1)
