"""Tests of plans and records."""

import json

import pytest

from mmestim.voice import EditPlan

PLAN = {
    "version": 1,
    "duration": 1,
    "sample_rate": 16000,
    "steps": [],
    "trim": [0, 0],
    "crop": [0, 0],
    "gain": 0,
    "seed": 0,
}


@pytest.mark.parametrize(
    "text, message",
    [
        ("no json", "not the JSON of an EditPlan"),
        ("[1]", "not of an EditPlan"),
        ('{"version": 1}', "not of an EditPlan"),
        (json.dumps(PLAN | {"version": 9}), "version 9"),
        (json.dumps(PLAN | {"steps": [{"edit": "x"}]}), "and have as 'edit' one of"),
        (json.dumps(PLAN | {"steps": [1]}), "the step 1 must be a dict"),
        (json.dumps(PLAN | {"version": 2, "more": 1}), "version 2, and this release reads 1"),
        (json.dumps(PLAN | {"gain": float("nan")}), "gain=nan must be"),
        (json.dumps(PLAN | {"trim": [float("nan"), 0]}), "trim=nan must be at least 0"),
    ],
)
def test_invalid_plans_are_reported(text, message):
    with pytest.raises(ValueError, match=message):
        EditPlan.from_json(text)
