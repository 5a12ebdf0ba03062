"""Display of edits over time, read back from its artists."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mmestim.displays import EditTimelineDisplay
from mmestim.voice.localization import EditSegment

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def waveform():
    return np.random.default_rng(0).normal(scale=0.1, size=24000)


SEGMENTS = [
    EditSegment.from_label("mix", 0.25, 0.75, 0.8),
    EditSegment.from_label("cut", 1.0, score=0.9),
    EditSegment.from_label("mix", 1.25, 1.5),
]


def test_timeline_has_one_lane_per_label(waveform):
    display = EditTimelineDisplay.from_segments(SEGMENTS, waveform)
    assert display.image_.get_extent() == [0, 1.5, 0, 8]
    names = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert names[:2] == ["mix", "cut"]
    spans = [path.get_extents().intervalx.tolist() for path in display.intervals_["mix"].get_paths()]
    assert_allclose(spans, [[0.25, 0.75], [1.25, 1.5]])
    assert display.points_["cut"].get_xdata() == [1.0]
    places = display.ax_.get_yticks()[:2]
    heights = [path.get_extents().intervaly for path in display.intervals_["mix"].get_paths()]
    assert all(low < places[0] < high < 0 for low, high in heights)
    assert display.points_["cut"].get_ydata() == [places[1]]
    assert display.figure_ is display.ax_.figure


def test_spectrogram_shows_power_at_its_time_and_frequency(waveform, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    half = np.where(np.arange(48000) < 24000, np.sin(2 * np.pi * 3000 / 32000 * np.arange(48000)), 0)
    soundfile.write(tmp_path / "x.wav", half, 32000)
    for X in (half, str(tmp_path / "x.wav"), tmp_path / "x.wav"):
        display = EditTimelineDisplay.from_segments([], X, sample_rate=32000)
        power = display.image_.get_array()
        assert power.argmax() // power.shape[1] * 8 / power.shape[0] == pytest.approx(3, abs=0.1)
        middle = power.shape[1] // 2
        assert power[:, : middle - 4].max(axis=0).min() > -10
        assert power[:, middle + 4 :].max() < -50
        assert display.duration == 1.5
        assert display.ax_.get_title() == "0 edits in 1.5 s"


def test_timeline_of_a_detector(waveform):
    class Detector:
        sample_rate = 8000

        def locate(self, X):
            assert [len(clip) for clip in X] == [48000]
            return [SEGMENTS]

    figure, ax = plt.subplots()
    display = EditTimelineDisplay.from_estimator(Detector(), waveform, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert display.duration == 3
    assert display.segments is SEGMENTS
