"""Fixtures of the tests of scans and reports."""

import numpy as np
import pytest

from mmestim.voice import ClipAnalysis, ScannedFile
from mmestim.voice.localization import EditSegment
from mmestim.voice.taxonomy import CHANGED_CONTENT, TAXONOMY


def scanned_file(path, seconds, segments=(), reason="", **facts):
    """Return a result with these segments, of a detector of cuts, mixes and echoes, or one without a verdict."""
    found = dict.fromkeys(segment.label for segment in segments)
    probabilities = (
        {}
        if reason
        else {"unaltered": 0.2, **{label: 0.9 if label in found else 0.1 for label in ("cut", "mix", "echo")}}
    )
    analysis = ClipAnalysis(
        duration=seconds,
        probabilities=probabilities,
        thresholds={"cut": 0.6, "mix": 0.7, "echo": 0.5},
        recalls={"cut": 0.8, "mix": np.nan, "echo": 1.0},
        labels=tuple(sorted(found, key=lambda label: TAXONOMY[label].kind != CHANGED_CONTENT)),
        segments=tuple(segments),
        window_spans=np.array([[0.0, seconds]]),
        window_probabilities=np.array([list(probabilities.values())]),
        embedding=np.zeros(2),
        logits=np.zeros(3),
        prior=None if reason else 0.4,
        cannot_tell=reason,
    )
    return ScannedFile(str(path), analysis, **facts)


@pytest.fixture(scope="package")
def make_scanned():
    """Return a function of a path, seconds and segments that makes a result of a scan."""
    return scanned_file


@pytest.fixture(scope="package")
def mix_and_cuts():
    """An added voice and two cuts in four seconds."""
    return [
        EditSegment.from_label("mix", 0.5, 2.5, 0.8),
        EditSegment.from_label("cut", 1.0, score=0.9),
        EditSegment.from_label("cut", 4.0),
    ]
