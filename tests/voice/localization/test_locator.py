"""Segments from scores of windows and frames."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from mmestim.voice._audio.windowing import iter_windows
from mmestim.voice.localization.locator import SegmentLocator

RATE = 16000


def test_segments_from_frames():
    locator = SegmentLocator(["cut", "echo"], np.full(2, 0.5), np.full(5, 0.5), RATE)
    frames = np.full((5, 401), -4.0)
    frames[0, [99, 100, 101]] = [1.0, 3.0, 1.0]
    frames[4, 200:301] = 3.0
    window = next(iter_windows([np.zeros(4 * RATE, np.float32)], 4 * RATE, 2 * RATE, RATE))
    locator.add(window, np.array([1.0, 1.0]), frames)
    cut, echo = locator.finish(4.0, ["cut", "echo"], np.array([0.7, 0.8]))
    assert (cut.label, cut.start, cut.score) == ("cut", pytest.approx(1.0), pytest.approx(expit(3.0)))
    assert (echo.start, echo.end) == (pytest.approx(2.0, abs=0.011), pytest.approx(3.0, abs=0.011))


def test_pasted_segments_lie_between_two_splice_points():
    """Scores of the content do not matter, and splice points too far apart are not paired."""
    locator = SegmentLocator(["cut", "paste"], np.full(2, 0.5), np.full(5, 0.5), RATE)
    frames = np.full((5, 801), -4.0)
    frames[4] = 3.0  # content of every frame
    frames[1, [50, 400, 460, 700, 740]] = [3.0, 1.0, 2.0, 3.0, 1.0]
    for window in iter_windows([np.zeros(8 * RATE, np.float32)], 2 * RATE, RATE, RATE):
        first = window.start // 160
        locator.add(window, np.zeros(2), frames[:, first : first + 201])
    segments = locator.finish(8.0, ["paste"], np.array([0.1, 0.8]))
    assert_allclose([[s.start, s.end] for s in segments], [[4.0, 4.6], [7.0, 7.4]], atol=0.011)
    assert_allclose([segment.score for segment in segments], expit([2.0, 3.0]))


def test_labels_without_a_segment_get_the_most_probable_window():
    locator = SegmentLocator(["cut", "echo"], np.full(2, 0.5), None, RATE)
    silence = np.zeros(6 * RATE, np.float32)
    for window, logit in zip(iter_windows([silence], 2 * RATE, RATE, RATE), [-2, -1, -2, -3, -2], strict=True):
        locator.add(window, np.array([logit, -5.0]), None)
    segments = locator.finish(6.0, ["cut", "echo"], np.array([0.6, 0.7]))
    places = {segment.label: (segment.start, segment.end) for segment in segments}
    assert places == {"cut": (1.0, 3.0), "echo": (0.0, 6.0)}


def test_without_frames_segments_are_as_wide_as_their_windows():
    """A window shows that an edit is in it, and not where; a cut is no exception."""
    locator = SegmentLocator(["cut", "echo"], np.full(2, 0.5), None, RATE)
    logits = [[-2, 1], [1, 2], [-2, 1], [-2, -3], [-2, -3], [-2, 1]]
    for window, row in zip(iter_windows([np.zeros(7 * RATE, np.float32)], 2 * RATE, RATE, RATE), logits, strict=True):
        locator.add(window, np.array(row, float), None)
    segments = locator.finish(7.0, ["cut", "echo"], np.array([0.6, 0.7]))
    places = [(segment.label, segment.start, segment.end) for segment in segments]
    assert places == [("echo", 0.0, 4.0), ("cut", 1.0, 3.0), ("echo", 5.0, 7.0)]
    assert_allclose([segment.score for segment in segments], expit([2.0, 1.0, 1.0]))
