"""Confidence intervals of metrics by resampling groups."""

import numpy as np
import pytest
from scipy.stats import norm

from mmestim.voice.metrics import bootstrap_interval, equal_error_rate, segment_f1


def test_groups_of_one_clip_give_the_usual_bootstrap():
    x = np.random.default_rng(0).normal(size=80)
    interval = bootstrap_interval(np.mean, range(80), x, n_resamples=4000, random_state=0)
    np.testing.assert_allclose(interval, x.mean() + norm.ppf([0.025, 0.975]) * x.std() / 80**0.5, atol=0.02)
    narrower = bootstrap_interval(np.mean, range(80), x, confidence_level=0.5, random_state=0)
    np.testing.assert_allclose(narrower, x.mean() + norm.ppf([0.25, 0.75]) * x.std() / 80**0.5, atol=0.02)


def test_copies_of_a_clip_in_its_group_change_nothing():
    x = np.random.default_rng(0).normal(size=20)
    interval = bootstrap_interval(np.mean, range(20), x, random_state=0)
    interval_of_copies = bootstrap_interval(np.mean, np.repeat(range(20), 10), np.repeat(x, 10), random_state=0)
    np.testing.assert_allclose(interval, interval_of_copies)


def test_lists_of_segments_and_several_metrics_at_once(random_clips):
    references, predictions = random_clips(0, n_clips=12)
    speakers = list("aaabbbcccddd")

    def metrics(references, predictions):
        return [segment_f1(references, predictions, iou=0.3), segment_f1(references, predictions, iou=0.7)]

    low, high = bootstrap_interval(metrics, speakers, references, predictions, n_resamples=100, random_state=0)
    value = metrics(references, predictions)
    assert low.shape == high.shape == (2,)
    assert (low <= value).all()
    assert (value <= high).all()
    assert low[1] < high[1]


def test_resamples_without_a_value_are_skipped():
    y, score = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.8, 0.3])
    assert bootstrap_interval(equal_error_rate, list("abcd"), y, score, random_state=0) == (0, 0)
    assert np.isnan(bootstrap_interval(equal_error_rate, list("abcd"), y * 0, score, random_state=0)).all()


@pytest.mark.parametrize(
    "groups, message",
    [(["a", "a"], "at least 2"), (["a", None], "no value for row 1"), (["a", np.nan], "row 1"), (["a"], "2 rows")],
)
def test_invalid_groups_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(np.mean, groups, np.zeros(2))
