"""Training of detectors."""

import json

import numpy as np
import soundfile
from numpy.testing import assert_array_equal

from mmestim.voice import VoiceEditDetector
from mmestim.voice._detection.parameters import training_options
from mmestim.voice._detection.trainer import DetectorTrainer, HeldOutScores, label_recalls

RATE = 16000


def test_recalls_count_windows_that_have_the_label():
    is_positive = np.array([[True, False], [True, True], [False, False], [False, False]])
    is_labelled = np.array([[True, True], [True, True], [True, True], [True, False]])
    scores = HeldOutScores(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.7], [0.1, 0.1]]), is_positive, is_labelled)
    assert label_recalls(scores, np.array([0.5, 0.5])).tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(label_recalls(scores._replace(is_positive=is_positive & False), np.array([0.5, 0.5]))[1:]).all()


def test_changed_content_and_processing_have_limits_of_their_own():
    rng = np.random.default_rng(0)
    proba = rng.uniform(size=(4000, 2))
    is_positive = np.zeros((4000, 2), bool)
    is_positive[:1000, 0] = is_positive[1000:2000, 1] = True
    scores = HeldOutScores(np.where(is_positive, 0.5 + proba / 2, proba), is_positive, np.ones_like(is_positive))
    detector = VoiceEditDetector(["cut", "reverb"], model="features", max_false_alarm_rate=0.06)
    options = training_options(detector)
    trainer = DetectorTrainer.from_estimator(detector, ["cut", "reverb"], False, options, seed=0)
    cut, reverb = trainer._set_thresholds([scores])[0][1:]
    assert 0.05 < (scores.proba[~is_positive[:, 0], 0] >= cut).mean() <= 0.06
    assert 0.05 < (scores.proba[scores.is_unaltered, 1] >= reverb).mean() <= 0.06


def test_encoded_windows_look_as_little_edited_as_unedited_ones():
    rng = np.random.default_rng(0)
    is_positive = np.zeros((4000, 3), bool)
    is_positive[:1000, 0] = is_positive[1000:2000, 1] = True
    encoded = is_positive[:, 1]
    proba = rng.uniform(size=(4000, 3)) / 2
    proba[is_positive] += 0.5
    proba[encoded, ::2] += 0.25  # Encoded windows look edited.
    scores = HeldOutScores(proba, is_positive, np.ones_like(is_positive))
    detector = VoiceEditDetector(["cut", "mp3", "reverb"], model="features", max_false_alarm_rate=0.06)
    trainer = DetectorTrainer.from_estimator(detector, ["cut", "mp3", "reverb"], False, training_options(detector), 0)
    thresholds = trainer._set_thresholds([scores])[0][1:]
    is_alarm = (proba >= thresholds) & ~is_positive
    assert 0.05 < is_alarm[scores.have_none_of(np.array([True, False, True]))][:, 2].mean() <= 0.06
    assert 0.05 < is_alarm[~is_positive[:, 0], 0].mean() <= 0.06 + 1e-9


def test_obvious_edits_are_detected(clips):
    """On speakers that are not in the training data."""
    detector = VoiceEditDetector(["low_pass", "echo"], model="features", window=1.2, n_clips=300, random_state=0).fit(
        clips[:8]
    )
    assert detector.score(clips[8:] * 8) > 0.85
    report = detector.training_report_["window 1.2"]
    assert report["false_alarm_rate"] <= 0.01 + 1e-9
    assert report["n_windows"] >= 300 > 100 >= report["n_held_out"] >= 75


def test_results_do_not_depend_on_the_number_of_processes(clips, tmp_path, edits, tiny):
    paths = []
    for number, clip in enumerate(clips[:6]):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], clip, RATE)
    one = VoiceEditDetector(edits, model="features", **tiny).fit(paths)
    two = VoiceEditDetector(edits, model="features", n_jobs=2, **tiny).fit(paths)
    assert_array_equal(one.predict_proba(paths), two.predict_proba(paths))


def test_few_clips_are_mixed_with_voices_of_all_others(clips, tiny):
    """Even if the corpus has few clips."""
    detector = VoiceEditDetector(["mix", "echo"], model="features", **tiny | {"n_clips": 5}).fit(clips[:4])
    assert detector.labels_.tolist() == ["unaltered", "mix", "echo"]


def test_report_is_json(clips, edits, tiny):
    detector = VoiceEditDetector(edits, model="features", **tiny).fit(clips[:4])
    assert json.loads(json.dumps(detector.training_report_))["n_clips"] == 4
