"""VoiceEditDetector: parameters, predictions and the conventions of scikit-learn."""

import copy
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import mmestim
from mmestim.voice import EditSimulator, VoiceEditDetector
from mmestim.voice._detection.trainer import DetectorTrainer


def test_shapes_and_consistency_of_predictions(detector, clips, edits):
    assert detector.labels_.tolist() == ["unaltered", *edits]
    proba = detector.predict_proba(clips)
    assert proba.shape == (12, 4)
    assert proba.dtype == np.float32
    assert ((proba > 0) & (proba < 1)).all()
    predicted = detector.predict(clips)
    assert_array_equal(predicted[:, 1:], proba[:, 1:] >= detector.thresholds_[1:].astype(np.float32))
    assert_array_equal(predicted[:, 0], ~predicted[:, 1:].any(axis=1))
    assert_allclose(1 / (1 + np.exp(-detector.decision_function(clips))), proba, atol=1e-6)
    categories = detector.predict_category(clips)
    assert_array_equal(categories[:, 1], predicted[:, 1])  # cut is temporal
    assert_array_equal(categories[:, 4], predicted[:, 2])  # low_pass is spectral
    assert detector.transform(clips).shape == (12, len(detector.get_feature_names_out()))
    assert 0 <= detector.score(clips[:4]) <= 1
    assert [len(values) for values in detector.classes_] == [2] * 4


def test_predictions_do_not_depend_on_other_clips(detector, clips):
    proba = detector.predict_proba(clips)
    assert_allclose(np.concatenate([detector.predict_proba([clip]) for clip in clips]), proba, atol=1e-5)
    assert_allclose(detector.predict_proba(clips[::-1])[::-1], proba, atol=1e-5)


def test_long_files_are_streamed(clips, speech, edits, tiny, tmp_path):
    detector = VoiceEditDetector(edits, model="features", **tiny).fit(clips)
    peaks, probabilities = [], []
    for n_copies in (20, 80):
        path = tmp_path / f"{n_copies}.wav"
        soundfile.write(path, np.tile(speech(2, 0), n_copies), 16000, "FLOAT")
        tracemalloc.start()
        probabilities.append(detector.predict_proba([path]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert_array_equal(probabilities[0], detector.predict_proba([np.tile(speech(2, 0), 20)]))


class Small(nn.Module):
    """Custom network."""

    def __init__(self, n_outputs):
        super().__init__()
        self.filters, self.head = nn.Conv1d(1, 8, 64, 32), nn.Linear(8, n_outputs)

    def forward(self, waveform, lengths=None):
        embedding = self.filters(waveform[:, None]).abs().mean(2)
        return self.head(embedding), embedding


def test_options_of_networks(clips, edits, tiny):
    """Precision, learning rate and hop are used."""
    networks = []
    for options in ({}, {"precision": "bf16"}, {"lr": 1e-6}):
        detector = VoiceEditDetector(edits, model=Small, hop=0.3, **tiny, **options).fit(clips)
        assert np.isfinite(detector.predict_proba(clips)).all()
        networks.append(detector.models_[1.2].model.networks["Small"].head.weight.detach())
    assert_allclose(np.diff(detector.predict_proba_per_window(clips[-1:])[0][0][:-1, 0]), 0.3)
    start = VoiceEditDetector(edits, model=Small, lr=1e-30, **tiny).fit(clips)
    changes = [(weight - start.models_[1.2].model.networks["Small"].head.weight).abs().max() for weight in networks]
    assert 0 < changes[2] < 0.01 * changes[0]
    assert (networks[1] != networks[0]).any()


def test_custom_networks_are_saved(clips, tmp_path, edits, tiny):
    detector = VoiceEditDetector(edits, model=Small, **tiny | {"window": [0.6, 1.2]}).fit(clips)
    assert detector.transform(clips[:2]).shape == (2, 16)
    mmestim.save(detector, tmp_path / "m.mme")
    with pytest.raises(ValueError, match=r"pass modules=\{'Small': ...\}"):
        mmestim.load(tmp_path / "m.mme")
    torch.set_default_dtype(torch.float64)
    try:
        loaded = mmestim.load(tmp_path / "m.mme", device="cpu", modules={"Small": Small})
    finally:
        torch.set_default_dtype(torch.float32)
    assert_array_equal(loaded.predict_proba(clips), detector.predict_proba(clips))


@pytest.mark.parametrize("model", ["features", "hybrid"])
def test_an_ordinary_classifier_of_clips(clips, model, caplog):
    caplog.set_level("INFO", "mmestim")
    noisy = [clip + 0.05 * np.random.default_rng(0).normal(size=len(clip)) for clip in clips]
    y = np.array(["clean"] * 12 + ["noisy"] * 12)
    detector = VoiceEditDetector(model=model, window=1.2, training_budget=0.005, random_state=0).fit(clips + noisy, y)
    assert detector.classes_.tolist() == ["clean", "noisy"]
    assert not detector.finds_edits_
    stages = ["reading 24 clips", "computing the statistics", "fitting trees"]
    if model == "hybrid":
        stages[2:2] = ["training the networks inside", "scoring the frames"]
        stages.append("training the networks head0, head1")
    assert [m.startswith(stage) for m, stage in zip(caplog.messages, stages, strict=True)] == [True] * len(stages)
    assert detector.score(clips + noisy, y) == 1
    assert detector.decision_function(clips).shape == (12,)
    analysis = detector.analyze(clips[:1])[0]
    assert list(analysis.probabilities) == ["clean", "noisy"]
    assert (analysis.labels, analysis.segments, analysis.tested, analysis.not_tested) == ((), (), (), ())
    assert analysis.verdict == analysis.explanation == ""
    with pytest.raises(AttributeError, match="locate needs a detector of edits"):
        detector.locate(clips)


def test_names_of_classes_do_not_matter(clips):
    y = np.repeat([0, 1], 6)
    detector = VoiceEditDetector(model="features", window=0.6, random_state=0)
    expected = detector.fit(clips, np.array(["a", "b"])[y]).predict_proba(clips)
    assert_array_equal(detector.fit(clips, np.array(["human", "tts"])[y]).predict_proba(clips), expected)


def test_a_dc_offset_does_not_change_predictions(detector, clips):
    shifted = [clip + np.float32(0.1) for clip in clips]
    assert_allclose(detector.predict_proba(shifted), detector.predict_proba(clips), atol=0.02)


def test_search_and_pipeline(clips, edits, tiny):
    detector = VoiceEditDetector(edits, model="features", **{**tiny, "n_clips": 30})
    search = GridSearchCV(detector, [{"window": [0.6, [0.6, 1.2]]}, {"model": ["lcnn"]}], cv=2).fit(clips)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert len(best.models_) == (2 if isinstance(best.window, list) else 1)
    assert make_pipeline(FunctionTransformer(), detector).fit(clips).predict(clips).shape == (12, 4)


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        ({"window": 0.1}, ValueError, "window=0.1 must be at least 0.35"),
        ({"window": []}, ValueError, "one length or more"),
        ({"window": [1.2, 1.2]}, ValueError, r"window=\[1.2, 1.2\] has a length twice"),
        ({"model": Small(1)}, TypeError, "model is an instance of Small. Pass its class"),
        ({"model": "ssl", "weights": "nowhere.pt"}, FileNotFoundError, "weights='nowhere.pt' does not exist"),
        ({"fine_tune": "yes"}, TypeError, "fine_tune='yes' must be"),
        ({"lr": 0}, ValueError, "lr=0 must be above 0"),
        ({"hop": 0}, ValueError, "hop=0 must be at least 0.01"),
        ({"window": [1.2, 0.6], "hop": 0.7}, ValueError, "hop=0.7 must be at least 0.01 and at most 0.6"),
        ({"model": "hybrid", "batch_size": 1}, ValueError, "batch_size=1: .* need at least 2"),
        (
            {"model": LogisticRegression},
            TypeError,
            "model=LogisticRegression returns a LogisticRegression. It must return",
        ),
        ({"model": lambda n: Small(n + 1)}, ValueError, r"returns \[\(1, .* for one waveform and .* labels"),
        ({"model": "cnn"}, ValueError, "model='cnn' is not supported. Use one of 'hybrid', 'features'"),
        ({"model": "ssl"}, ValueError, "needs weights="),
        ({"n_clips": 0}, ValueError, "n_clips=0 must be at least 1"),
        ({"max_false_alarm_rate": 2}, ValueError, "max_false_alarm_rate=2 must be at least 0 and at most 1"),
        ({"simulator": "mine"}, TypeError, "simulator='mine' must be an EditSimulator"),
        ({"simulator": EditSimulator(sample_rate=8000)}, ValueError, "simulator has sample_rate=8000"),
        ({"edits": ["tts"]}, ValueError, "nothing can be learnt"),
        ({"device": "cuda:9"}, ValueError, "device='cuda:9'"),
    ],
)
def test_invalid_parameters_are_named(clips, parameters, error, message, monkeypatch):
    monkeypatch.setattr(DetectorTrainer, "train", None)  # Errors are raised before any training.
    with pytest.raises(error, match=message):
        VoiceEditDetector(**({"model": "features", "n_clips": 10} | parameters)).fit(clips[:3])


def test_a_hop_with_gaps_is_rejected_after_fit_too(detector, clips):
    with pytest.raises(ValueError, match=r"hop=2\.0 must be at least 0\.01 and at most 1\.2"):
        copy.copy(detector).set_params(hop=2.0).predict(clips[:1])


def test_a_failed_fit_leaves_no_results(clips, edits, tiny):
    detector = VoiceEditDetector(edits, model="features", **tiny).fit(clips[:4])
    with pytest.raises(ValueError, match="silent"):
        detector.fit([np.zeros(20000)])
    with pytest.raises(NotFittedError):
        detector.predict(clips)
    assert not {"history_", "training_report_", "thresholds_", "recalls_"} & set(vars(detector))


COLUMNS = "the columns of an indicator matrix must be labels of the taxonomy"
EXPECTED_FAILURES = {
    "check_estimators_dtypes": "int64 has no full scale, so it is not accepted as audio",
    "check_classifier_data_not_an_array": "int64 has no full scale, so it is not accepted as audio",
    "check_classifiers_train": "clips of two samples have no spectrum",
    "check_classifiers_multilabel_representation_invariance": COLUMNS,
    "check_classifiers_multilabel_output_format_predict": COLUMNS,
    "check_classifiers_multilabel_output_format_predict_proba": COLUMNS,
    "check_classifiers_multilabel_output_format_decision_function": COLUMNS,
    "check_fit_check_is_fitted": "two nearly equal samples are a silent clip",
}


@parametrize_with_checks(
    [VoiceEditDetector(["cut"], model="features", window=0.35, n_clips=40, random_state=0)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_estimator_checks(estimator, check):
    check(estimator)
