"""Results for one recording: segments and explanations."""

import copy
import dataclasses
from html import escape

import numpy as np
import pytest
import soundfile
from numpy.testing import assert_allclose, assert_array_equal

from mmestim.voice import LABELS, TAXONOMY, EditPlan, EditSimulator, VoiceEditDetector, scan_files, write_report
from mmestim.voice._detection.clip_analysis import analyze_recording
from mmestim.voice._detection.clip_inference import scan_clip
from mmestim.voice._detection.explanation import describe_finding
from mmestim.voice.taxonomy import KINDS, Between

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
        assert all(f"{TAXONOMY[label].plain_name} (" in text for label in edits)
        assert "Not tested: " in text
        assert "synthetic speech" in text.split("Not tested: ")[1]
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
        for kind in KINDS:
            detected_proba = [analysis.probabilities[label] for label in analysis.labels_of_kind(kind)]
            assert detected_proba == sorted(detected_proba, reverse=True)
        assert analysis.labels_of_kind(KINDS[0]) + analysis.labels_of_kind(KINDS[1]) == analysis.labels
        assert analysis.duration == pytest.approx(len(clip) / RATE)
        assert analysis.window_probabilities.shape == (len(analysis.window_spans), 4)
        assert_allclose(1 / (1 + np.exp(-analysis.logits)), list(analysis.probabilities.values())[1:], atol=1e-6)
        assert set(analysis.tested) <= set(edits)
        assert {*analysis.tested, *analysis.not_tested} == set(LABELS[1:])
        by_block = analyze_recording(sensitive, np.split(clip, [1000, 20000]), locate=True)
        assert by_block.segments == analysis.segments
        assert by_block.probabilities == analysis.probabilities
    unlocated = sensitive.analyze(clips[:1], locate=False)[0]
    assert unlocated.segments == ()
    assert unlocated.probabilities == analyses[0].probabilities
    with pytest.raises(TypeError, match="blocks is an iterator of type generator"):
        analyze_recording(sensitive, (block for block in [clips[0]]), locate=True)


def test_all_results_are_parts_of_one_analysis(edit_detector, tmp_path, make_voice, add_echo):
    """Predictions, places, explanations, scans and reports agree, for paths and arrays, together and alone."""
    detector = copy.copy(edit_detector)
    detector.thresholds_ = np.full(4, 0.2)
    clips = [np.round(make_voice(3, seed) * 8192) / 32768 for seed in range(2)]
    clips = [clip.astype(np.float32) for clip in (*clips, add_echo(clips[0]))]
    paths = [str(tmp_path / f"{number}.wav") for number in range(3)]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip, RATE, "FLOAT")
    scanned = list(scan_files(detector, paths))
    write_report(scanned, tmp_path / "report.html", detector)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert any(file.analysis.segments for file in scanned)
    for number, file in enumerate(scanned):
        clip, path, expected = clips[number], paths[number], file.analysis
        for X, row in ((clips, number), (paths, number), ([clip], 0), ([path], 0)):
            analysis = detector.analyze(X)[row]
            assert analysis.probabilities == expected.probabilities
            assert analysis.labels == expected.labels
            assert analysis.segments == expected.segments
            assert detector.predict_proba(X)[row].tolist() == list(expected.probabilities.values())
            is_detected = detector.predict(X)[row] == 1
            assert set(detector.labels_[is_detected]) == set(expected.labels or ["unaltered"])
            assert tuple(detector.locate(X)[row]) == expected.segments
            assert detector.explain(X)[row] == expected.explanation
        assert escape(describe_finding(expected)) in page


def test_verdicts_and_explanations_tell_changed_content_from_processing(edit_detector, make_voice):
    analysis = edit_detector.analyze([make_voice(3)])[0]
    verdicts = {
        ("cut", "echo"): ("changed content", "signs of changed content: cut (words taken out)"),
        ("cut",): ("changed content", "signs of changed content: cut"),
        ("echo", "low_pass"): ("processing only", "no sign of the tested changes of its content"),
        (): ("no edit found", "no sign of the tested edits"),
    }
    for labels, (verdict, words) in verdicts.items():
        result = dataclasses.replace(analysis, labels=labels, segments=())
        assert result.verdict == verdict
        assert words in result.explanation
        assert ("signs of processing" in result.explanation) == ("echo" in labels)
        undecided = result.without_verdict("It lasts 0.1 s.")
        assert undecided.verdict == "cannot tell"
        assert undecided.labels == undecided.segments == ()
        assert undecided.explanation == "There is no result for the recording of 3.0 s. It lasts 0.1 s."


def test_a_prior_changes_only_the_probability_of_unaltered(edit_detector, make_voice):
    analysis = dataclasses.replace(edit_detector.analyze([make_voice(3)])[0], labels=(), segments=())
    assert 0 < analysis.prior < 1
    likely = analysis.with_prior(0.9)
    odds = [p / (1 - p) for p in (likely.probabilities["unaltered"], analysis.probabilities["unaltered"])]
    assert odds[0] / odds[1] == pytest.approx(9 * (1 - analysis.prior) / analysis.prior, rel=1e-4)
    for name, values in analysis.probabilities.items():
        assert (likely.probabilities[name] == values) == (name != "unaltered")
    assert_array_equal(likely.window_probabilities[:, 1:], analysis.window_probabilities[:, 1:])
    assert (likely.window_probabilities[:, 0] != analysis.window_probabilities[:, 0]).all()
    assert "if 90 % of such recordings are unedited." in likely.explanation
    assert likely.verdict == analysis.verdict
    unknown = dataclasses.replace(analysis, prior=None)
    assert "recordings are unedited" not in unknown.explanation
    with pytest.raises(ValueError, match=r"prior=0\.9 cannot replace"):
        unknown.with_prior(0.9)


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
