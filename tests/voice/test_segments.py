"""Segments of edits, and the segments of a record."""

import numpy as np
import pytest

from mmestim.voice import EditPlan, EditSimulator
from mmestim.voice.localization import EditSegment, record_segments


def test_the_taxonomy_gives_the_category():
    assert EditSegment.from_label("mp3", 0, 1).category == "encoding"
    assert EditSegment.from_label("custom label", 0, 1).category == ""


def test_numbers_become_python_floats():
    segment = EditSegment.from_label("cut", np.float32(0.5), score=np.float32(0.25))
    assert [type(getattr(segment, name)) for name in ("start", "end", "score")] == [float] * 3
    assert segment.is_point
    assert segment == EditSegment("cut", "temporal", 0.5, 0.5, 0.25)


@pytest.mark.parametrize(
    "values, message",
    [
        (("", "", 0, 1), "label"),
        (("cut", None, 0, 1), "category"),
        (("cut", "temporal", 1, 0.5), "start <= end"),
        (("cut", "temporal", -1, 0), "start <= end"),
        (("cut", "temporal", 0, np.inf), "start <= end"),
        (("cut", "temporal", np.nan, 1), "start <= end"),
        (("cut", "temporal", 0, 1, np.nan), "score"),
    ],
)
def test_invalid_segments_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EditSegment(*values)


def test_a_record_has_the_segments_of_its_edits():
    clip = np.random.default_rng(0).normal(scale=0.1, size=32000)
    steps = [
        {"edit": "cut", "cuts": [[0.5, 0.75]], "fade": 0.0, "place": "any"},
        {"edit": "low_pass", "cutoff": 2000.0, "slope": 24, "family": "butterworth"},
    ]
    _, record = EditSimulator().apply(clip, EditPlan(2.0, 16000, steps))
    assert record_segments(record) == [EditSegment.from_label("low_pass", 0, 1.75), EditSegment.from_label("cut", 0.5)]
