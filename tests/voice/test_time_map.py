"""Tests of TimeMap: cuts, insertions, stretches and their composition."""

import numpy as np
import pytest

from mmestim.voice import TimeMap

CUT = TimeMap([0, 1, 1.5, 3], [0, 1, 1, 2.5])
PASTE = TimeMap([0, 2, 2, 3], [0, 2, 2.5, 3.5])
SLOW = TimeMap([0, 3], [0, 6])


def test_moments_and_intervals_by_hand():
    assert CUT([0.5, 1.0, 1.2, 1.5, 3.0]).tolist() == [0.5, 1.0, 1.0, 1.0, 2.5]
    assert PASTE([1.0, 2.0, 2.5]).tolist() == [1.0, 2.5, 3.0]
    assert CUT.intervals(0.5, 2.0) == [(0.5, 1.5)]
    assert CUT.intervals(1.1, 1.4) == []
    assert PASTE.intervals(1.0, 2.0) == [(1.0, 2.0)]  # An insertion at its end is outside of it.
    assert PASTE.intervals(2.0, 3.0) == [(2.5, 3.5)]
    assert PASTE.intervals(1.0, 3.0) == [(1.0, 2.0), (2.5, 3.5)]
    assert (CUT.duration, PASTE.duration, SLOW.duration) == (2.5, 3.5, 6.0)


@pytest.mark.parametrize("first", [CUT, PASTE, SLOW])
@pytest.mark.parametrize("second", [CUT, PASTE, SLOW])
def test_composition_equals_successive_maps(first, second):
    scaled = TimeMap(second.before * first.duration / 3, second.after)
    both = first.then(scaled)
    moments = np.random.default_rng(0).uniform(0, 3, 200)
    np.testing.assert_allclose(both(moments), scaled(first(moments)), atol=1e-12)
    assert both.duration == scaled.duration


def test_cut_of_a_pasted_interval():
    undone = PASTE.then(TimeMap([0, 2, 2.5, 3.5], [0, 2, 2, 3]))
    moments = np.linspace(0, 3, 31)
    np.testing.assert_allclose(undone(moments), moments, atol=1e-12)


def test_identity_changes_nothing():
    for map_ in (CUT, PASTE, SLOW):
        assert TimeMap.identity(3).then(map_)(1.7) == map_(1.7)
        assert map_.then(TimeMap.identity(map_.duration))(1.7) == map_(1.7)


@pytest.mark.parametrize(
    "before, after, message",
    [
        ([0, 1], [0, 1, 2], "same length"),
        ([0], [0], "at least 2"),
        ([0, 2, 1], [0, 1, 2], "not decrease"),
        ([0, 1], [1, 0], "not decrease"),
        ([0, np.nan], [0, 1], "finite"),
    ],
)
def test_invalid_knots_are_reported(before, after, message):
    with pytest.raises(ValueError, match=message):
        TimeMap(before, after)


def test_time_maps_with_other_knots_differ():
    assert TimeMap([0, 1], [0, 1]) != TimeMap([0, 1], [0, 2])
