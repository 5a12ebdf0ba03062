"""TextGrid files against praatio, an independent reader and writer."""

import numpy as np
import pytest
from praatio import textgrid

from mmestim.voice.formats import read_segments, write_segments
from mmestim.voice.localization import EditSegment


@pytest.fixture
def segments():
    """Intervals that overlap and touch, points, and labels with quotes and letters that are not ASCII."""
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 50, size=20)
    return [
        *(EditSegment.from_label("mix", start, start + 5, score=0.25) for start in starts),
        EditSegment.from_label("tts", 0, 1.5),
        EditSegment.from_label("tts", 1.5, 60),
        *(EditSegment.from_label("cut", time, score=0.5) for time in rng.uniform(0, 60, size=10)),
        EditSegment.from_label('a "größer" label', 3, 4),
    ]


def test_praatio_reads_what_is_written(segments, tmp_path):
    write_segments(segments, tmp_path / "x.TextGrid", duration=60)
    grid = textgrid.openTextgrid(str(tmp_path / "x.TextGrid"), includeEmptyIntervals=False)
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 60)
    entries = []
    for tier in grid.tiers:
        for *times, text in tier.entries:
            label, _, score = text.rpartition(" ")
            assert tier.name.startswith(label)
            entries.append((label, times[0], times[-1], float(score)))
    assert sorted(entries) == sorted((s.label, s.start, s.end, s.score) for s in segments)


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
def test_what_praatio_writes_is_read(form, tmp_path):
    grid = textgrid.Textgrid()
    intervals = [(0.5, 1.25, "paste 0.5"), (2.5, 3.0, 'a "quoted" label 0.25')]
    grid.addTier(textgrid.IntervalTier("intervals", intervals, 0, 4.5))
    grid.addTier(textgrid.PointTier("points", [(2.0, "cut 0.9375"), (4.0, "größer")], 0, 4.5))
    grid.save(str(tmp_path / "x.TextGrid"), format=form, includeBlankSpaces=True)
    assert read_segments(tmp_path / "x.TextGrid") == {
        "x": [
            EditSegment.from_label("paste", 0.5, 1.25, 0.5),
            EditSegment.from_label("cut", 2.0, score=0.9375),
            EditSegment.from_label('a "quoted" label', 2.5, 3, 0.25),
            EditSegment.from_label("größer", 4.0),
        ]
    }
