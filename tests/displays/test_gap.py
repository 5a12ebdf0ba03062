"""Display of modality gaps, read back from its artists."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmestim import LateFusionClassifier, ModalityGapAnalyzer, gap_scores
from mmestim.displays import ModalityGapDisplay

plt = pytest.importorskip("matplotlib.pyplot")

NAMES = ["audio", "image"]
few_rows = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def scores():
    """Return scores with gaps around 0.1 and, less often, 0.6; the first column is higher in 75 % of the rows."""
    rng = np.random.default_rng(0)
    gap = np.where(np.arange(4000) < 2400, rng.normal(0.1, 0.03, 4000), rng.normal(0.6, 0.08, 4000))
    low = rng.uniform(0, 0.1, 4000)
    pair = np.column_stack([low + gap, low])
    pair[::4] = pair[::4, ::-1]
    return pair


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    return (y[:, None] * [2.0, 2.0, 0.7, 0.7] + rng.normal(size=(120, 4))).astype(np.float32), y


def areas(display):
    """Return the fraction of the rows under each set of bars."""
    return [sum(bar.get_width() * bar.get_height() for bar in bars) for bars in display.bars_]


def outline(display):
    """Return the edges of the bins and the height of the stack in each."""
    bars = display.bars_[-1]
    edges = [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()]
    return np.array(edges), np.array([bar.get_y() + bar.get_height() for bar in bars])


def legend(display):
    return [text.get_text() for text in display.posterior_ax_.get_legend().get_texts()]


def test_bars_show_the_rows_of_each_leading_modality(scores):
    display = ModalityGapDisplay.from_scores(scores, modality_names=NAMES, bins=20)
    first = int((scores[:, 0] > scores[:, 1]).sum())
    assert_allclose(areas(display), [first / 4000, 1 - first / 4000])
    assert legend(display)[:2] == [f"highest: audio ({first} rows)", f"highest: image ({4000 - first} rows)"]
    edges, heights = outline(display)
    assert len(heights) == 20
    assert edges[0] == 0
    assert_allclose(heights, np.histogram(np.abs(scores[:, 0] - scores[:, 1]), edges, density=True)[0])
    gaps = scores[:, 1] - scores[:, 0]
    expected = np.histogram(gaps[gaps > 0], edges)[0] / (4000 * np.diff(edges))
    assert_allclose([bar.get_height() for bar in display.bars_[1]], expected)


def test_given_edges_are_the_bins(scores):
    edges = [0, 0.05, 0.2, 0.5, 1]
    display = ModalityGapDisplay.from_scores(scores, bins=edges)
    assert_array_equal(outline(display)[0], edges)
    assert sum(areas(display)) == pytest.approx(1)
    # Rows outside the edges have no bar and do not change the other bars.
    part = ModalityGapDisplay.from_scores(scores, bins=edges[:3])
    assert_allclose(outline(part)[1], outline(display)[1][:2])
    assert legend(part) == legend(display)


def test_rows_without_a_gap_are_omitted_and_counted(scores):
    absent = scores.copy()
    absent[:100, 0] = np.nan
    absent[50:120, 1] = np.nan
    display = ModalityGapDisplay.from_scores(absent)
    expected = ModalityGapDisplay.from_scores(scores[120:])
    assert_allclose(outline(display)[1], outline(expected)[1])
    assert legend(display) == legend(expected)
    assert "120 row(s) without a gap omitted" in display.ax_.get_title()
    assert "without a gap" not in expected.ax_.get_title()


def test_three_modalities_with_absent_scores():
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 0.2, (300, 3))
    table[:150, 2] += 0.7
    table[150:, 0] += 0.1
    table[200:260, 0] = np.nan
    display = ModalityGapDisplay.from_scores(table)
    highest = np.bincount(np.nanargmax(table, axis=1), minlength=3)
    assert legend(display)[:3] == [f"highest: modality {i} ({n} rows)" for i, n in enumerate(highest)]
    assert_allclose(areas(display), highest / 300)
    assert "largest - smallest" in display.ax_.get_xlabel()


def test_ties_have_bars_of_their_own(scores):
    tied = scores.copy()
    tied[:30, 1] = tied[:30, 0]
    display = ModalityGapDisplay.from_scores(tied, modality_names=NAMES)
    assert len(display.bars_) == 3
    assert areas(display)[2] == pytest.approx(30 / 4000)
    assert legend(display)[2] == "highest: tied (30 rows)"
    assert not any("tied" in text for text in legend(ModalityGapDisplay.from_scores(scores)))


def test_modalities_look_different():
    table = np.random.default_rng(0).uniform(0, 0.1, size=(200, 8))
    table[:80, :] += 0.8 * np.tile(np.eye(8), (10, 1))
    display = ModalityGapDisplay.from_scores(table)
    styles = {(bars[0].get_facecolor(), bars[0].get_hatch()) for bars in display.bars_}
    assert len(styles) == 8
    # The first three colours also differ in greyscale.
    grey = [np.dot(bars[0].get_facecolor()[:3], [0.299, 0.587, 0.114]) for bars in display.bars_[:3]]
    assert np.diff(sorted(grey)).min() > 0.15


def test_curves_match_the_analyzer(scores):
    analyzer = ModalityGapAnalyzer().fit(scores)
    display = ModalityGapDisplay.from_scores(scores, analyzer=analyzer)
    for component, line in enumerate(display.component_lines_):
        x, density = line.get_data()
        expected = norm.pdf(x, analyzer.means_[component], analyzer.variances_[component] ** 0.5)
        assert_allclose(density, analyzer.weights_[component] * expected, atol=1e-12)
    x, posterior = display.posterior_line_.get_data()
    assert_allclose(posterior, analyzer.transform(np.column_stack([x, np.zeros_like(x)]))[:, 1])
    assert (np.diff(posterior) >= 0).all()
    assert posterior[0] < 0.01 < 0.99 < posterior[-1] <= 1


def test_histogram_and_curves_share_a_scale(scores):
    for signed in (False, True):
        display = ModalityGapDisplay.from_scores(scores, signed=signed)
        edges, heights = outline(display)
        x, low = display.component_lines_[0].get_data()
        total = np.interp((edges[:-1] + edges[1:]) / 2, x, low + display.component_lines_[1].get_ydata())
        assert np.sum(np.abs(heights - total) * np.diff(edges)) < 0.1  # the total area is 1


def test_signed_gaps_have_both_sides(scores):
    display = ModalityGapDisplay.from_scores(scores, modality_names=NAMES, signed=True, bins=10)
    edges, heights = outline(display)
    assert_allclose(edges, -edges[::-1], atol=1e-12)
    assert len(heights) == 20
    signed = scores[:, 0] - scores[:, 1]
    assert_allclose(heights, np.histogram(signed, edges, density=True)[0])
    assert not any(bar.get_height() for bar in display.bars_[0] if bar.get_x() < -1e-12)
    assert "audio - image" in display.ax_.get_xlabel()
    assert "|" not in display.ax_.get_xlabel()
    # Both sides show the mixture of absolute gaps, weighted by the rows of the side.
    plain = ModalityGapDisplay.from_scores(scores, modality_names=NAMES)
    assert_array_equal(display.analyzer.means_, plain.analyzer.means_)
    assert "|audio - image|" in plain.ax_.get_xlabel()
    x, density = display.component_lines_[1].get_data()
    expected = display.analyzer.weights_[1] * norm.pdf(
        np.abs(x), display.analyzer.means_[1], display.analyzer.variances_[1] ** 0.5
    )
    assert_allclose(density, expected * np.where(x < 0, np.mean(signed < 0), np.mean(signed > 0)), atol=1e-12)
    _, posterior = display.posterior_line_.get_data()
    assert_allclose(posterior, posterior[::-1], atol=1e-9)
    assert posterior[0] > 0.99 > 0.01 > posterior[len(posterior) // 2]


def test_title_reports_fraction_and_separation(scores):
    display = ModalityGapDisplay.from_scores(scores)
    imbalanced = display.analyzer.predict(scores).mean()
    assert f"{100 * imbalanced:.0f} % of 4000 rows are imbalanced" in display.ax_.get_title()
    assert f"separation {display.analyzer.separation_:.1f}" in display.ax_.get_title()
    assert "split" not in display.ax_.get_title()


def test_gaps_that_do_not_form_two_groups():
    with pytest.warns(ConvergenceWarning, match="do not split in two"):
        display = ModalityGapDisplay.from_scores(np.full((20, 2), 0.5))
    assert "The gaps of 20 rows do not form two groups" in display.ax_.get_title()
    assert "imbalanced" not in display.ax_.get_title()
    assert_array_equal(display.posterior_line_.get_ydata(), 0.5)
    assert areas(display)[-1] == pytest.approx(1)


def test_given_axes_are_used(scores):
    figure, axes = plt.subplots(1, 2)
    display = ModalityGapDisplay.from_scores(scores, ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert not axes[0].has_data()
    assert plt.get_fignums() == [figure.number]
    again = display.plot()
    assert again is display
    assert display.figure_ is not figure
    display.figure_.canvas.draw()  # All texts and paths can be rendered.


def test_legend_distinguishes_all_curves(scores):
    display = ModalityGapDisplay.from_scores(scores)
    lines = [*display.component_lines_, display.posterior_line_]
    assert len({line.get_linestyle() for line in lines}) == 3
    assert legend(display)[2:] == ["balanced component", "imbalanced component", "posterior (right axis)"]
    # The legend lies above the tallest bar and above a posterior of 1.
    display.figure_.canvas.draw()
    box = display.posterior_ax_.get_legend().get_window_extent()
    assert box.y0 > display.posterior_ax_.transData.transform((0, 1))[1]
    assert box.y0 > display.ax_.transData.transform((0, outline(display)[1].max()))[1]


def test_given_analyzer_is_not_refitted(scores):
    analyzer = ModalityGapAnalyzer(signed=True).fit(scores)
    before = {name: np.copy(value) for name, value in vars(analyzer).items()}
    new = scores[:10] * 0.5
    display = ModalityGapDisplay.from_scores(new, analyzer=analyzer)
    assert display.analyzer is analyzer
    assert {name: value.tolist() for name, value in before.items()} == {
        name: np.copy(value).tolist() for name, value in vars(analyzer).items()
    }
    assert sum(areas(display)) == pytest.approx(1)
    assert outline(display)[0][0] < 0  # signed as the analyzer is
    # The mixture is visible although the new gaps are smaller.
    assert display.ax_.get_xlim()[1] > analyzer.means_[1]


def test_contradicting_signed_is_refused(scores):
    analyzer = ModalityGapAnalyzer().fit(scores)
    with pytest.raises(ValueError, match=r"signed=True, but analyzer has signed=False.*set_params"):
        ModalityGapDisplay.from_scores(scores, analyzer=analyzer, signed=True)
    with pytest.raises(ValueError, match="signed=False, but analyzer has signed=True"):
        ModalityGapDisplay.from_scores(scores, analyzer=analyzer.set_params(signed=True), signed=False)


def test_names_come_from_a_data_frame_or_the_analyzer(scores):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(scores, columns=["voice", "face"])
    display = ModalityGapDisplay.from_scores(frame)
    assert display.modality_names == ["voice", "face"]
    assert ModalityGapDisplay.from_scores(frame, modality_names=NAMES).modality_names == NAMES
    with pytest.warns(UserWarning, match="feature names"):
        display = ModalityGapDisplay.from_scores(scores, analyzer=display.analyzer)
    assert display.modality_names == ["voice", "face"]
    with pytest.warns(UserWarning, match="feature names"):
        display = ModalityGapDisplay.from_scores(frame, analyzer=ModalityGapAnalyzer().fit(scores))
    assert display.modality_names == ["voice", "face"]
    numbered = ModalityGapDisplay.from_scores(pandas.DataFrame(scores))
    assert numbered.modality_names == ["modality 0", "modality 1"]


@few_rows
def test_classifier_is_cloned_or_used_as_fitted(views):
    X, y = views
    clf = LateFusionClassifier({"strong": slice(0, 2), "weak": slice(2, 4)}, max_epochs=3, random_state=0)
    display = ModalityGapDisplay.from_estimator(clf, X, y, cv=2, signed=True)
    assert display.modality_names == ["strong", "weak"]
    assert_array_equal(display.scores, gap_scores(clf, X, y, cv=2))
    assert not hasattr(clf, "module_")
    assert display.ax_.get_xlabel().endswith(": strong - weak")
    _, ax = plt.subplots()
    new = ModalityGapDisplay.from_estimator(clf.fit(X[:60], y[:60]), X[60:], y[60:], analyzer=display.analyzer, ax=ax)
    assert new.modality_names == ["strong", "weak"]
    assert_array_equal(new.scores, gap_scores(clf, X[60:], y[60:]))
    assert new.analyzer is display.analyzer
    assert new.ax_ is ax


@few_rows
def test_blocks_name_the_modalities_of_an_unfitted_classifier(views):
    X, y = views
    blocks = {"strong": X[:, :2], "weak": X[:, 2:]}
    clf = LateFusionClassifier(max_epochs=3, random_state=0)
    assert ModalityGapDisplay.from_estimator(clf, blocks, y, cv=2).modality_names == ["strong", "weak"]
    assert ModalityGapDisplay.from_estimator(clf, [X[:, :2], X[:, 2:]], y, cv=2).modality_names == ["x0", "x1"]
    # A fitted classifier keeps its own order.
    clf.fit(blocks, y)
    reversed_blocks = dict(reversed(blocks.items()))
    assert ModalityGapDisplay.from_estimator(clf, reversed_blocks, y).modality_names == ["strong", "weak"]


@few_rows
def test_pipeline(views):
    X, y = views
    clf = LateFusionClassifier({"strong": slice(0, 2), "weak": slice(2, 4)}, max_epochs=3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), clf)
    display = ModalityGapDisplay.from_estimator(pipeline, X, y, cv=2)
    assert display.modality_names == ["strong", "weak"]
    assert_array_equal(display.scores, gap_scores(pipeline, X, y, cv=2))
    assert ModalityGapDisplay.from_estimator(pipeline.fit(X, y), X, y).modality_names == ["strong", "weak"]


@few_rows
def test_dicts_of_classifiers_and_of_probabilities(views):
    X, y = views
    blocks = {"weak": X[:, 2:], "strong": X[:, :2]}
    fitted = {name: LogisticRegression().fit(block, y) for name, block in blocks.items()}
    display = ModalityGapDisplay.from_estimator(fitted, blocks, y)
    assert display.modality_names == ["weak", "strong"]
    # The columns are classes 1 and 0.
    proba = {name: clf.predict_proba(blocks[name])[:, ::-1] for name, clf in fitted.items()}
    from_probabilities = ModalityGapDisplay.from_estimator(proba, None, y, labels=[1, 0], bins=7)
    assert from_probabilities.modality_names == ["weak", "strong"]
    assert_allclose(from_probabilities.scores, display.scores, rtol=1e-5)
    assert len(from_probabilities.bars_[0]) == 7


def test_groups_and_n_jobs_reach_the_scores(monkeypatch, views, scores):
    keywords = {}

    def record_keywords(*args, **kwargs):
        keywords.update(kwargs)
        return scores

    monkeypatch.setattr("mmestim.displays.gap.gap_scores", record_keywords)
    X, y = views
    ModalityGapDisplay.from_estimator(dict.fromkeys(NAMES), X, y, cv=3, groups=y, labels=[0, 1], n_jobs=2)
    assert keywords.pop("groups") is y
    assert keywords == {"cv": 3, "labels": [0, 1], "n_jobs": 2}


@pytest.mark.parametrize(
    "bins, error",
    [
        (0, ValueError),
        (2.5, TypeError),
        ("auto", TypeError),
        ([], ValueError),
        ([0.1], ValueError),
        ([0, 1, 0.5], ValueError),
        ([0, np.nan], ValueError),
        ([0, np.inf], ValueError),
        ([[0, 1], [2, 3]], ValueError),
    ],
)
def test_bad_bins(bins, error, scores):
    with pytest.raises(error, match="bins="):
        ModalityGapDisplay.from_scores(scores, bins=bins)
    assert plt.get_fignums() == []


def test_bad_scores(scores):
    absent = np.full((5, 2), np.nan)
    absent[:, 0] = 0.5
    with pytest.raises(ValueError, match="no row of X has the scores of two modalities"):
        ModalityGapDisplay.from_scores(absent)
    with pytest.raises(ValueError, match="no row of scores"):
        ModalityGapDisplay.from_scores(absent, analyzer=ModalityGapAnalyzer().fit(scores))
    with pytest.raises(ValueError, match="signed=True takes two modalities"):
        ModalityGapDisplay.from_scores(np.eye(3), signed=True)
    with pytest.raises(TypeError, match="signed='yes'"):
        ModalityGapDisplay.from_scores(scores, signed="yes")
    with pytest.raises(ValueError, match=r"modality_names=\['audio'\] must be 2"):
        ModalityGapDisplay.from_scores(scores, modality_names=["audio"])
    with pytest.raises(NotFittedError):
        ModalityGapDisplay.from_scores(scores, analyzer=ModalityGapAnalyzer())
    assert plt.get_fignums() == []


def test_missing_matplotlib_is_reported_before_any_work(monkeypatch, scores, views):
    display = ModalityGapDisplay.from_scores(scores)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setattr("mmestim.displays.gap.gap_scores", lambda *args, **kwargs: pytest.fail("trained in vain"))
    way_out = r'pip install "mmestim\[plot\]"'
    with pytest.raises(ImportError, match=way_out):
        ModalityGapDisplay.from_estimator(LateFusionClassifier(), *views, cv=2)
    with pytest.raises(ImportError, match=way_out):
        ModalityGapDisplay.from_scores(scores)
    with pytest.raises(ImportError, match=way_out):
        display.plot()


def test_a_shoulder_does_not_form_a_group():
    gaps = 0.5 + 0.03 * np.random.default_rng(0).standard_t(3, 2000).clip(-15, 15)
    display = ModalityGapDisplay.from_scores(np.column_stack([gaps, np.zeros(2000)]))
    assert display.analyzer.bimodal_
    assert "The gaps of 2000 rows do not form two groups" in display.ax_.get_title()
