"""Results for one recording: segments and explanations."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mmestim.voice import LABELS, EditPlan, EditSimulator, VoiceEditDetector
from mmestim.voice._detection.clip_inference import scan_clip
from mmestim.voice.taxonomy import Between

RATE = 16000


def test_detected_edits_are_located_and_explained(detector, clips, edits):
    # Low thresholds, so that many edits are detected.
    sensitive = copy.copy(detector)
    sensitive.thresholds_ = np.full(4, 0.05)
    detected = sensitive.predict(clips)
    results = zip(clips, detected, sensitive.locate(clips), sensitive.explain(clips), strict=True)
    for clip, row, segments, text in results:
        labels = set(sensitive.labels_[row == 1]) - {"unaltered"}
        assert {segment.label for segment in segments} == labels
        assert all(0 <= segment.start <= segment.end <= len(clip) / RATE + 1e-9 for segment in segments)
        assert all(f"{label} (" in text for label in edits)
        assert "Not tested: " in text
        assert "tts" in text.split("Not tested: ")[1]
    sensitive.thresholds_, sensitive.recalls_ = np.full(4, 0.9999), np.array([1.0, 0.2, 0.8, np.nan])
    text = sensitive.explain(clips[:1])[0]
    often_missed = text.split("Also not detected, but missed more often than detected in tests: ")[1]
    assert often_missed.startswith("cut (words taken out). Not tested: ")
    assert "echo (" in often_missed
    for clip, (spans, proba) in zip(clips, sensitive.predict_proba_per_window(clips), strict=True):
        assert spans[0, 0] == 0
        assert spans[-1, 1] == pytest.approx(len(clip) / RATE)
        assert proba.shape == (len(spans), 4)


def test_analyses_agree_with_predictions(detector, clips, edits):
    sensitive = copy.copy(detector)
    sensitive.thresholds_ = np.full(4, 0.05)
    analyses = sensitive.analyze(clips[:3])
    proba = sensitive.predict_proba(clips[:3])
    assert_array_equal([list(analysis.probabilities.values()) for analysis in analyses], proba)
    assert_array_equal([analysis.embedding for analysis in analyses], sensitive.transform(clips[:3]))
    assert [list(analysis.segments) for analysis in analyses] == sensitive.locate(clips[:3])
    assert [analysis.explanation for analysis in analyses] == sensitive.explain(clips[:3])
    for clip, row, analysis in zip(clips, sensitive.predict(clips[:3]), analyses, strict=False):
        assert list(analysis.probabilities) == ["unaltered", *edits]
        assert set(analysis.labels) == set(sensitive.labels_[row == 1]) - {"unaltered"}
        detected_proba = [analysis.probabilities[label] for label in analysis.labels]
        assert detected_proba == sorted(detected_proba, reverse=True)
        assert analysis.duration == pytest.approx(len(clip) / RATE)
        assert analysis.window_probabilities.shape == (len(analysis.window_spans), 4)
        assert_allclose(1 / (1 + np.exp(-analysis.logits)), list(analysis.probabilities.values())[1:], atol=1e-6)
        assert set(analysis.tested) <= set(edits)
        assert {*analysis.tested, *analysis.not_tested} == set(LABELS[1:])
        by_block = sensitive.analyze_stream(np.split(clip, [1000, 20000]))
        assert by_block.segments == analysis.segments
        assert by_block.probabilities == analysis.probabilities
    unlocated = sensitive.analyze(clips[:1], locate=False)[0]
    assert unlocated.segments == ()
    assert unlocated.probabilities == analyses[0].probabilities
    with pytest.raises(TypeError, match="blocks is an iterator of type generator"):
        sensitive.analyze_stream(block for block in [clips[0]])


def test_partial_edits_are_located(clips, speech):
    detector = VoiceEditDetector(
        {"low_pass": {"cutoff": Between(1000, 1500)}}, model="features", window=0.6, n_clips=200, random_state=0
    ).fit(clips[:8])
    clip = speech(6.0, 70)
    edited, record = EditSimulator(["low_pass"]).apply(
        clip,
        EditPlan(
            6.0,
            RATE,
            [{"edit": "low_pass", "cutoff": 1200.0, "slope": 48, "family": "butterworth", "start": 2.0, "end": 4.0}],
        ),
    )
    ((segment,),) = detector.locate([edited])
    assert segment.label == "low_pass"
    assert_allclose([segment.start, segment.end], record.intervals["low_pass"][0], atol=0.5)


def test_edits_that_need_longer_clips_are_not_tested(tiny, speech):
    short = [speech(0.8, seed) for seed in range(8)]
    detector = VoiceEditDetector(["cut", "low_pass"], model="features", **tiny | {"window": 0.6}).fit(short)
    assert np.isnan(detector.recalls_[detector.labels_.tolist().index("cut")])
    text = detector.explain(short[:1])[0]
    assert "cut (" in text.split("Not tested: ")[1]


def test_results_do_not_depend_on_the_blocks_of_a_recording(detector, edits, speech):
    recording = np.concatenate([speech(2.0, seed) for seed in range(4)])
    options = {"hop": None, "rate": RATE, "thresholds": np.full(3, 0.05), "locate": True}
    expected = scan_clip([recording], detector.models_, edits, **options)
    scan = scan_clip(np.split(recording, [100, 5000, 5001, 90000]), detector.models_, edits, **options)
    assert_array_equal(scan.window_logits, expected.window_logits)
    assert scan.segments == expected.segments
    assert scan.duration == expected.duration == 8.0
