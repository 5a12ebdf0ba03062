"""Display of contributions, read back from its artists."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils import Bunch

from mmestim import LateFusionClassifier, modality_contributions
from mmestim.displays import ContributionDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def contributions():
    rng = np.random.default_rng(0)
    values = rng.normal([0.4, 0.1, -0.05], [0.2, 0.1, 0.1], size=(200, 3))
    values[:50, 2] = np.nan
    mean = np.nanmean(values, axis=0)
    return Bunch(
        modalities=["text", "audio", "image"],
        contributions=values,
        contributions_mean=mean,
        contributions_interval=np.column_stack([mean - 0.01, mean + 0.02]),
    )


def test_given_contributions_are_drawn(contributions):
    ax = plt.subplots()[1]
    display = ContributionDisplay.from_contributions(contributions, ax=ax)
    assert display.ax_ is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "text (200 rows)",
        "audio (200 rows)",
        "image (150 rows)",
    ]
    points, _, (bars,) = display.means_
    assert_allclose(points.get_xdata(), contributions.contributions_mean)
    assert_allclose([segment[:, 0] for segment in bars.get_segments()], contributions.contributions_interval)
    for column, median in enumerate(display.boxes_["medians"]):
        assert_allclose(median.get_xdata(), np.nanmedian(contributions.contributions[:, column]))
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first modality on top


def test_contributions_of_an_estimator():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = np.column_stack([y + 0.1 * rng.normal(size=60), rng.normal(size=60)])
    clf = LateFusionClassifier({"informative": [0], "noise": [1]}, max_epochs=30, random_state=0).fit(X, y)
    display = ContributionDisplay.from_estimator(clf, X, y, confidence_level=0.5)
    assert_array_equal(
        display.contributions.contributions_interval,
        modality_contributions(clf, X, y, confidence_level=0.5).contributions_interval,
    )
    first, second = display.contributions.contributions_mean
    assert first > second


def test_a_single_row_has_no_bars(contributions):
    one = Bunch(**contributions)
    one.contributions = one.contributions[60:61]
    one.contributions_interval = np.full((3, 2), np.nan)
    assert "1 rows" in ContributionDisplay.from_contributions(one).ax_.get_title()
