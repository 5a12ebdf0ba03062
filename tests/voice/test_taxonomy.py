"""Tests of the taxonomy: its rows, their properties and their ranges."""

import numpy as np
import pytest

from mmestim.voice import CATEGORIES, EDITS, LABELS, TAXONOMY
from mmestim.voice.taxonomy import (
    EDIT_LABELS,
    KINDS,
    SPLICED_LABELS,
    SYNTHETIC_LABELS,
    UNALTERED,
    Between,
    EditInfo,
    Either,
    OneOf,
    frame_weights,
)


def test_taxonomy_is_complete():
    assert len(LABELS) == 21
    assert len(CATEGORIES) == 6
    assert {info.category for info in TAXONOMY.values()} == set(CATEGORIES)
    assert set(EDITS) == set(LABELS) - {"unaltered"}
    assert set(EDITS) <= set(LABELS)
    for info in TAXONOMY.values():
        assert set(info.scopes) <= {"clip", "interval", "point"}
        assert info.imitates
        assert info.source


def test_default_row_is_an_ordinary_edit():
    info = EditInfo("whisper", "modulation", "whispering")
    assert (info.scopes, info.acts_on, info.revealed_by) == (("clip", "interval"), "intervals", "content")
    assert not any([info.is_spliced, info.is_synthetic, info.removes_high_frequencies, info.always_covers_clip])
    assert (info.frame_weight, info.kind, info.plain_name) == (1.0, "processing", "whisper")


def test_groups_of_labels_follow_from_the_rows():
    assert (UNALTERED, *EDIT_LABELS) == LABELS
    assert SPLICED_LABELS == ("cut", "paste", "mix")
    assert SYNTHETIC_LABELS == ("tts", "vc")
    assert [label for label, info in TAXONOMY.items() if info.acts_on == "points"] == ["cut"]
    assert [label for label, info in TAXONOMY.items() if info.revealed_by == "splice points"] == ["cut", "paste"]
    assert [label for label, info in TAXONOMY.items() if info.removes_high_frequencies] == ["telephone", "low_pass"]
    assert frame_weights(["mix", "echo", "a class"]) == [3.0, 1.0, 1.0]


def test_edits_change_the_content_or_process_it():
    assert KINDS == ("changed content", "processing")
    assert TAXONOMY[UNALTERED].kind == ""
    content = [label for label in EDIT_LABELS if TAXONOMY[label].kind == "changed content"]
    speech = ["tts", "vc", "cut", "paste", "mix", "pitch_shift", "time_stretch", "speed_change", "autotune"]
    assert content == speech
    assert {TAXONOMY[label].kind for label in EDIT_LABELS} == set(KINDS)


def test_names_for_readers_have_no_underscores():
    assert TAXONOMY["background_noise"].plain_name == "background noise"
    assert TAXONOMY["vorbis_aac"].plain_name == "Vorbis or AAC"
    names = [info.plain_name for info in TAXONOMY.values()]
    assert len(set(names)) == len(names)
    assert not any("_" in name for name in names)


def test_labels_revealed_by_splice_points_are_spliced():
    assert all(info.is_spliced for info in TAXONOMY.values() if info.revealed_by == "splice points")


def test_parameters_have_ranges_in_the_taxonomy():
    assert TAXONOMY["cut"].ranges["length"] == Between(0.1, 1.5)
    assert 0.02 in TAXONOMY["cut"].held_out["fade"]
    assert TAXONOMY["paste"].held_out["origin"] == OneOf(("speaker",))


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: Between(0.3, 0.1), ValueError),
        (lambda: Between(0.0, 0.1, log=True), ValueError),
        (lambda: Between(0.0, np.inf), ValueError),
        (lambda: Between("a", 1), TypeError),
        (lambda: OneOf("tanh"), TypeError),
        (lambda: Either(()), TypeError),
    ],
)
def test_invalid_ranges_are_reported(make, error):
    with pytest.raises(error):
        make()
