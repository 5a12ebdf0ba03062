"""VoiceEditDetector: what it takes, what it gives, and that it learns."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import mmestim
from mmestim._serialization.model_file import ModelFile, write_model_file
from mmestim.voice import LABELS, AudioCorpus, EditPlan, EditSimulator, VoiceEditDetector
from mmestim.voice._detection.inputs import resolve_ground_truth
from mmestim.voice._detection.trainer import DetectorTrainer, HeldOutScores, label_recalls
from mmestim.voice.networks import SSLNet
from mmestim.voice.taxonomy import Between

RATE = 16000
EDITS = ["cut", "low_pass", "echo"]
TINY = {"window": 1.2, "n_clips": 40, "training_budget": 0.002, "random_state": 0}


def speech(seconds, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * rng.uniform(100, 180) * t) / k for k in range(1, 9))
    noise = np.convolve(rng.normal(size=len(t)), [0.5, 0.5], "same")
    return (0.1 * (1 + np.sin(2 * np.pi * 3 * t)) * (0.2 * tone + noise)).astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    return [speech(1.5 + 0.3 * number, number) for number in range(12)]


@pytest.fixture(scope="module", params=["features", "hybrid", "lcnn"])
def detector(request, clips):
    return VoiceEditDetector(EDITS, model=request.param, **TINY).fit(clips)


def test_shapes_and_rules_of_what_is_predicted(detector, clips):
    assert detector.labels_.tolist() == ["unaltered", *EDITS]
    proba = detector.predict_proba(clips)
    assert proba.shape == (12, 4)
    assert proba.dtype == np.float32
    assert ((proba > 0) & (proba < 1)).all()
    found = detector.predict(clips)
    assert_array_equal(found[:, 1:], proba[:, 1:] >= detector.thresholds_[1:].astype(np.float32))
    assert_array_equal(found[:, 0], ~found[:, 1:].any(axis=1))
    assert_allclose(1 / (1 + np.exp(-detector.decision_function(clips))), proba, atol=1e-6)
    categories = detector.predict_category(clips)
    assert_array_equal(categories[:, 1], found[:, 1])  # cut is temporal
    assert_array_equal(categories[:, 4], found[:, 2])  # low_pass is spectral
    assert detector.transform(clips).shape == (12, len(detector.get_feature_names_out()))
    assert 0 <= detector.score(clips[:4]) <= 1
    assert [len(values) for values in detector.classes_] == [2] * 4


def test_clips_are_judged_one_by_one(detector, clips):
    together = detector.predict_proba(clips)
    assert_allclose(np.concatenate([detector.predict_proba([clip]) for clip in clips]), together, atol=1e-5)
    assert_allclose(detector.predict_proba(clips[::-1])[::-1], together, atol=1e-5)


def test_what_is_found_is_located_and_told(detector, clips):
    # So low that much is found.
    eager = clone(detector).set_params(**{})
    vars(eager).update(vars(detector))
    eager.thresholds_ = np.full(4, 0.05)
    found = eager.predict(clips)
    for clip, row, segments, text in zip(clips, found, eager.locate(clips), eager.explain(clips), strict=True):
        present = {label for label, there in zip(eager.labels_, row, strict=True) if there} - {"unaltered"}
        assert {segment.label for segment in segments} == present
        assert all(0 <= segment.start <= segment.end <= len(clip) / RATE + 1e-9 for segment in segments)
        assert all(f"{label} (" in text for label in EDITS)
        assert "Not tested: " in text
        assert "tts" in text.split("Not tested: ")[1]
    eager.thresholds_, eager.recalls_ = np.full(4, 0.9999), np.array([1.0, 0.2, 0.8, np.nan])
    missed = eager.explain(clips[:1])[0].split("Also not detected, but missed more often than detected in tests: ")[1]
    assert missed.startswith("cut (words taken out). Not tested: ")
    assert "echo (" in missed
    for clip, (spans, proba) in zip(clips, eager.predict_proba_per_window(clips), strict=True):
        assert spans[0, 0] == 0
        assert spans[-1, 1] == pytest.approx(len(clip) / RATE)
        assert proba.shape == (len(spans), 4)


def test_analyses_agree_with_predictions(detector, clips):
    sensitive = copy.copy(detector)
    sensitive.thresholds_ = np.full(4, 0.05)
    analyses = sensitive.analyze(clips[:3])
    proba = sensitive.predict_proba(clips[:3])
    assert_array_equal([list(analysis.probabilities.values()) for analysis in analyses], proba)
    assert_array_equal([analysis.embedding for analysis in analyses], sensitive.transform(clips[:3]))
    assert [list(analysis.segments) for analysis in analyses] == sensitive.locate(clips[:3])
    assert [analysis.explanation for analysis in analyses] == sensitive.explain(clips[:3])
    for clip, row, analysis in zip(clips, sensitive.predict(clips[:3]), analyses, strict=False):
        assert list(analysis.probabilities) == ["unaltered", *EDITS]
        assert set(analysis.labels) == set(sensitive.labels_[row == 1]) - {"unaltered"}
        detected_proba = [analysis.probabilities[label] for label in analysis.labels]
        assert detected_proba == sorted(detected_proba, reverse=True)
        assert analysis.duration == pytest.approx(len(clip) / RATE)
        assert analysis.window_probabilities.shape == (len(analysis.window_spans), 4)
        assert_allclose(1 / (1 + np.exp(-analysis.logits)), list(analysis.probabilities.values())[1:], atol=1e-6)
        assert set(analysis.tested) <= set(EDITS)
        assert {*analysis.tested, *analysis.not_tested} == set(LABELS[1:])
        by_block = sensitive.analyze_stream(np.split(clip, [1000, 20000]))
        assert by_block.segments == analysis.segments
        assert by_block.probabilities == analysis.probabilities
    unlocated = sensitive.analyze(clips[:1], locate=False)[0]
    assert unlocated.segments == ()
    assert unlocated.probabilities == analyses[0].probabilities
    with pytest.raises(TypeError, match="blocks is an iterator of type generator"):
        sensitive.analyze_stream(block for block in [clips[0]])


def test_recalls_are_of_windows_that_have_the_label():
    is_positive = np.array([[True, False], [True, True], [False, False], [False, False]])
    is_labelled = np.array([[True, True], [True, True], [True, True], [True, False]])
    part = HeldOutScores(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.7], [0.1, 0.1]]), is_positive, is_labelled)
    assert label_recalls(part, np.array([0.5, 0.5])).tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(label_recalls(part._replace(is_positive=is_positive & False), np.array([0.5, 0.5]))[1:]).all()


def test_a_model_travels(detector, clips, tmp_path):
    mmestim.save(detector, tmp_path / "m.mme")
    loaded = mmestim.load(tmp_path / "m.mme", device="cpu")
    assert_array_equal(loaded.predict_proba(clips), detector.predict_proba(clips))
    assert_array_equal(loaded.transform(clips), detector.transform(clips))
    assert loaded.locate(clips) == detector.locate(clips)
    assert loaded.labels_.tolist() == detector.labels_.tolist()
    assert_array_equal(loaded.recalls_, detector.recalls_)
    assert "labels = ['cut', 'low_pass', 'echo']" in mmestim.persistence.describe(tmp_path / "m.mme")


class Small(nn.Module):
    """A network of a user's."""

    def __init__(self, n_outputs):
        super().__init__()
        self.filters, self.head = nn.Conv1d(1, 8, 64, 32), nn.Linear(8, n_outputs)

    def forward(self, waveform, lengths=None):
        embedding = self.filters(waveform[:, None]).abs().mean(2)
        return self.head(embedding), embedding


def test_options_of_networks(clips):
    """Precision and learning rate reach them, windows begin where they are told to."""
    networks = []
    for own in ({}, {"precision": "bf16"}, {"lr": 1e-6}):
        detector = VoiceEditDetector(EDITS, model=Small, hop=0.3, **TINY, **own).fit(clips)
        assert np.isfinite(detector.predict_proba(clips)).all()
        networks.append(detector.models_[1.2].model.networks["Small"].head.weight.detach())
    assert_allclose(np.diff(detector.predict_proba_per_window(clips[-1:])[0][0][:-1, 0]), 0.3)
    start = VoiceEditDetector(EDITS, model=Small, lr=1e-30, **TINY).fit(clips)
    moved = [(own - start.models_[1.2].model.networks["Small"].head.weight).abs().max() for own in networks]
    assert 0 < moved[2] < 0.01 * moved[0]
    assert (networks[1] != networks[0]).any()


def test_a_network_of_ones_own(clips, tmp_path):
    detector = VoiceEditDetector(EDITS, model=Small, **TINY | {"window": [0.6, 1.2]}).fit(clips)
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


def test_weights_that_the_user_has(clips, tmp_path):
    """Of a model of speech: once trained on, the detector needs them no more."""
    config = {
        "extractor_mode": "layer_norm",
        "extractor_conv_bias": False,
        "encoder_embed_dim": 32,
        "encoder_num_layers": 2,
        "extractor_conv_layer_config": [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
        "encoder_num_heads": 4,
        "encoder_ff_interm_features": 64,
        "encoder_layer_norm_first": True,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
    }
    speech = SSLNet(1, config=config).backbone.state_dict()
    torch.save(speech, tmp_path / "speech.pt")
    (tmp_path / "config.json").write_text('{"num_attention_heads": 4}')
    detector = VoiceEditDetector(EDITS, model="ssl", weights=tmp_path / "speech.pt", **TINY).fit(clips)
    mmestim.save(detector, tmp_path / "m.mme")
    (tmp_path / "speech.pt").unlink()
    loaded = mmestim.load(tmp_path / "m.mme", device="cpu")
    assert_array_equal(loaded.predict_proba(clips[:2]), detector.predict_proba(clips[:2]))
    with pytest.raises(ValueError, match="needs weights="):
        loaded.fit(clips)
    torch.save(speech, tmp_path / "speech.pt")
    tuned = clone(detector).set_params(fine_tune=True).fit(clips)
    for fitted, least, most in ((detector, 0, 0), (tuned, 1e-6, 1e-4)):
        now = fitted.models_[1.2].model.networks["ssl"].backbone.state_dict()
        moved = max((now[name] - value).abs().max().item() for name, value in speech.items())
        assert least <= moved <= most


@pytest.mark.parametrize(
    "name, spoil",
    [
        ("thresholds", lambda t: t * 0),
        ("recalls", lambda t: t + 2),
        ("unaltered", lambda t: -t),
        ("0.arrays.weights", lambda t: t[:-1]),
        ("0.arrays.offsets", lambda t: t * float("nan")),
        ("0.arrays.trees.left", lambda t: t * 0),
        ("0.arrays.trees.feature", lambda t: t + 10**6),
        ("1.arrays.weights", lambda t: torch.zeros(3)),
    ],
)
def test_files_that_lie(clips, tmp_path, name, spoil):
    detector = VoiceEditDetector(EDITS, model="features", **TINY | {"n_clips": 20}).fit(clips[:4])
    mmestim.save(detector, tmp_path / "m.mme")
    with ModelFile(tmp_path / "m.mme") as file:
        fields, tensors = file.fields, file.read()
    tensors[name] = spoil(tensors.get(name))
    write_model_file(tmp_path / "m.mme", fields, tensors, "0.1.0")
    with pytest.raises(ValueError, match="cannot be loaded: it"):
        mmestim.load(tmp_path / "m.mme")


def test_it_learns(clips):
    """Edits that cannot be missed, on speakers it does not know."""
    detector = VoiceEditDetector(["low_pass", "echo"], model="features", window=1.2, n_clips=300, random_state=0).fit(
        clips[:8]
    )
    assert detector.score(clips[8:] * 8) > 0.85
    report = detector.training_report_["window 1.2"]
    assert report["false_alarm_rate"] <= 0.05 + 1e-9
    assert report["n_windows"] >= 300 > 100 >= report["n_held_out"] >= 75


def test_the_same_on_any_number_of_workers(clips, tmp_path):
    paths = []
    for number, clip in enumerate(clips[:6]):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], clip, RATE)
    one = VoiceEditDetector(EDITS, model="features", **TINY).fit(paths)
    two = VoiceEditDetector(EDITS, model="features", n_jobs=2, **TINY).fit(paths)
    assert_array_equal(one.predict_proba(paths), two.predict_proba(paths))


def test_edits_in_a_part_are_located(clips):
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


def test_the_last_clips_get_voices_of_all_others(clips):
    """Also where there is one."""
    detector = VoiceEditDetector(["mix", "echo"], model="features", **TINY | {"n_clips": 5}).fit(clips[:4])
    assert detector.labels_.tolist() == ["unaltered", "mix", "echo"]


def test_clips_that_cannot_be_read(clips, tmp_path):
    """They may be left out of training, and answers are of every clip."""
    (tmp_path / "b.wav").write_text("no audio")
    corpus = AudioCorpus([*clips, tmp_path / "b.wav"], on_error="skip")
    detector = VoiceEditDetector(EDITS, model="features", **TINY).fit(corpus)
    assert [item.index for item in corpus.skipped] == [12]
    with pytest.raises(ValueError, match=r"b\.wav: is not audio"):
        detector.predict(corpus)
    assert 0 <= detector.score(corpus) <= 1


def test_any_form_of_clips(clips, tmp_path):
    detector = VoiceEditDetector(EDITS, model="features", **TINY).fit(clips)
    expected = detector.predict_proba(clips[:2])
    ragged = np.empty(2, dtype=object)
    ragged[:] = clips[:2]
    assert_array_equal(detector.predict_proba(ragged), expected)
    assert_array_equal(detector.predict_proba(AudioCorpus(clips[:2])), expected)
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path, clip in zip(paths, clips, strict=False):
        soundfile.write(path, clip, RATE, subtype="FLOAT")
    assert_array_equal(detector.predict_proba(paths), expected)
    assert_array_equal(detector.predict_proba(pd.DataFrame({"path": paths})), expected)
    table = np.stack([clip[:24000] for clip in clips])
    fitted = VoiceEditDetector(EDITS, model="features", **TINY).fit(table)
    assert fitted.n_features_in_ == 24000
    assert_array_equal(fitted.predict_proba(table[:2]), fitted.predict_proba(list(table[:2])))
    with pytest.raises(ValueError, match=r"has 20000 features, but VoiceEditDetector is expecting 24000 .* list of"):
        fitted.predict(table[:, :20000])
    fitted.fit(AudioCorpus(clips))
    assert not hasattr(fitted, "n_features_in_")
    assert fitted.predict(table[:2, :20000]).shape == (2, 4)
    half = VoiceEditDetector(EDITS, model="features", sample_rate=8000, **TINY).fit(clips)
    assert_allclose(half.predict_proba_per_window([clips[0][::2]])[0][0][-1, 1], len(clips[0]) / RATE, atol=1e-4)


def test_given_edits(clips):
    waveforms, records = EditSimulator(EDITS, n_edits=(0, 2), random_state=0).simulate(clips * 3)
    by_record = VoiceEditDetector(model="features", **TINY).fit(waveforms, records)
    assert by_record.labels_.tolist() == ["unaltered", *EDITS]
    assert by_record.score(waveforms, records) > 0.8
    sets = [set(record.labels) for record in records]
    by_set = VoiceEditDetector(model="features", **TINY).fit(waveforms, sets)
    assert by_set.labels_.tolist() == ["unaltered", *EDITS]
    matrix = np.array([[label in own for label in EDITS] for own in sets], dtype=int)
    by_matrix = VoiceEditDetector(EDITS, model="features", **TINY).fit(waveforms, matrix)
    assert_array_equal(by_matrix.predict_proba(waveforms[:3]), by_set.predict_proba(waveforms[:3]))
    for y in (records, sets, matrix):
        assert by_matrix.score(waveforms, y) > 0.8


def test_columns_of_a_matrix_are_labels():
    """By their names, or in the order of the taxonomy; labels that no clip has are none."""
    rows = [{"cut"}, {"echo"}, {"cut", "echo"}, set()]
    named = pd.DataFrame({label: [int(label in row) for row in rows] for label in ("echo", "tts", "cut")})
    whole = np.array([[label in (row or {"unaltered"}) for label in LABELS] for row in rows], int)
    pair = named[["cut", "echo"]].to_numpy()
    orders = [["cut", "echo"], LABELS[1:]]
    with_tts = [["tts", "cut", "echo"], LABELS[1:]]
    for y, known in [
        (named, orders),
        (whole, orders),
        (whole[:, 1:], orders),
        (pair, orders),
        (csr_matrix(pair), orders),
        (np.column_stack([pair.max(axis=1) == 0, pair]), orders),
        (named[["tts", "cut", "echo"]].to_numpy(), with_tts),
    ]:
        truth = resolve_ground_truth(y, 4, known)
        assert truth.labels == ["cut", "echo"]
        assert [own.tolist() for own in truth.clips] == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert resolve_ground_truth(named[["cut"]], 4, orders).labels == ["cut"]
    with pytest.raises(ValueError, match=r"edits=\['echo', 'cut'\] are not in the order .* Pass a DataFrame"):
        resolve_ground_truth(pair, 4, [["echo", "cut"], LABELS[1:]])
    with pytest.raises(ValueError, match="y has the column 'robot', which is no label"):
        resolve_ground_truth(named.rename(columns={"tts": "robot"}), 4, orders)
    with pytest.raises(ValueError, match="y has the column 'cut' twice"):
        resolve_ground_truth(named[["cut", "cut"]], 4, orders)
    # As many columns as two readings have.
    with pytest.raises(ValueError, match="columns without names, which could be"):
        resolve_ground_truth(whole[:, 1:], 4, [LABELS[1:-1], LABELS[1:]])
    for contradiction in (whole | (np.arange(len(LABELS)) == 0), [{"cut"}, {"echo"}, {"cut", "unaltered"}, set()]):
        with pytest.raises(ValueError, match="as both 'unaltered' and edited"):
            resolve_ground_truth(contradiction, 4, orders)
    with pytest.raises(ValueError, match="marks clip 3 as neither 'unaltered' nor"):
        resolve_ground_truth(whole * (np.arange(len(LABELS)) > 0), 4, orders)


@pytest.mark.parametrize("model", ["features", "hybrid"])
def test_an_ordinary_classifier_of_clips(clips, model):
    noisy = [clip + 0.05 * np.random.default_rng(0).normal(size=len(clip)) for clip in clips]
    y = np.array(["clean"] * 12 + ["noisy"] * 12)
    detector = VoiceEditDetector(model=model, window=1.2, training_budget=0.005, random_state=0).fit(clips + noisy, y)
    assert detector.classes_.tolist() == ["clean", "noisy"]
    assert detector.score(clips + noisy, y) == 1
    assert detector.decision_function(clips).shape == (12,)
    analysis = detector.analyze(clips[:1])[0]
    assert list(analysis.probabilities) == ["clean", "noisy"]
    assert (analysis.labels, analysis.segments, analysis.explanation) == ((), (), "")
    with pytest.raises(AttributeError, match="locate needs a detector of edits"):
        detector.locate(clips)


def test_names_of_classes_mean_nothing(clips):
    y = np.repeat([0, 1], 6)
    detector = VoiceEditDetector(model="features", window=0.6, random_state=0)
    expected = detector.fit(clips, np.array(["a", "b"])[y]).predict_proba(clips)
    assert_array_equal(detector.fit(clips, np.array(["human", "tts"])[y]).predict_proba(clips), expected)


def test_edits_that_no_clip_was_long_enough_for_are_untested():
    short = [speech(0.8, seed) for seed in range(8)]
    detector = VoiceEditDetector(["cut", "low_pass"], model="features", **TINY | {"window": 0.6}).fit(short)
    assert np.isnan(detector.recalls_[detector.labels_.tolist().index("cut")])
    text = detector.explain(short[:1])[0]
    assert "cut (" in text.split("Not tested: ")[1]


def test_a_constant_of_the_recorder_changes_nothing(detector, clips):
    shifted = [clip + np.float32(0.1) for clip in clips]
    assert_allclose(detector.predict_proba(shifted), detector.predict_proba(clips), atol=0.02)


def test_a_detector_from_a_device_that_is_not_here_predicts_on_the_cpu(detector, clips):
    elsewhere = copy.copy(detector)
    elsewhere.device_ = "cuda:63"
    with pytest.warns(UserWarning, match="fitted on cuda:63, which this machine has not"):
        loaded = pickle.loads(pickle.dumps(elsewhere))
    assert loaded.device_ == "cpu"
    assert_array_equal(loaded.predict_proba(clips), detector.predict_proba(clips))


def test_search_and_pipeline(clips):
    detector = VoiceEditDetector(EDITS, model="features", **{**TINY, "n_clips": 30})
    by_model = GridSearchCV(detector, {"model": ["features", "lcnn"]}, cv=2).fit(clips)
    assert np.isfinite(by_model.cv_results_["mean_test_score"]).all()
    search = GridSearchCV(detector, {"window": [0.6, [0.6, 1.2]]}, cv=2).fit(clips)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert len(best.models_) == (2 if isinstance(best.window, list) else 1)
    assert make_pipeline(FunctionTransformer(), detector).fit(clips).predict(clips).shape == (12, 4)


def test_groups_keep_a_speaker_on_one_side(clips):
    groups = np.repeat(["a", "b", "c"], 4)
    corpus = AudioCorpus(clips)
    corpus.speakers = groups
    one = VoiceEditDetector(EDITS, model="features", **TINY).fit(clips, groups=groups)
    assert one.training_report_["n_speakers"] == 3
    other = VoiceEditDetector(EDITS, model="features", **TINY).fit(corpus)
    assert other.training_report_["n_speakers"] == 3
    with pytest.raises(ValueError, match="inconsistent"):
        VoiceEditDetector(EDITS, model="features", **TINY).fit(clips, groups=groups[:5])


def test_results_do_not_depend_on_how_a_recording_is_cut(detector):
    from mmestim.voice._detection.clip_inference import scan_clip

    recording = np.concatenate([speech(2.0, seed) for seed in range(4)])
    how = {"hop": None, "rate": RATE, "thresholds": np.full(3, 0.05), "locate": True}
    whole = scan_clip([recording], detector.models_, EDITS, **how)
    parts = scan_clip(np.split(recording, [100, 5000, 5001, 90000]), detector.models_, EDITS, **how)
    assert_array_equal(whole.window_logits, parts.window_logits)
    assert whole.segments == parts.segments
    assert whole.duration == parts.duration == 8.0


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
        ({"model": LogisticRegression}, TypeError, "model=LogisticRegression gives a LogisticRegression: it must give"),
        ({"model": lambda n: Small(n + 1)}, ValueError, r"answers for one waveform and .* labels with \[\(1, "),
        ({"model": "cnn"}, ValueError, "model='cnn' is not known. Use one of 'hybrid', 'features'"),
        ({"model": "ssl"}, ValueError, "needs weights="),
        ({"n_clips": 0}, ValueError, "n_clips=0 must be at least 1"),
        ({"max_false_alarm_rate": 2}, ValueError, "max_false_alarm_rate=2 must be at least 0 and at most 1"),
        ({"simulator": "mine"}, TypeError, "simulator='mine' must be an EditSimulator"),
        ({"simulator": EditSimulator(sample_rate=8000)}, ValueError, "simulator has sample_rate=8000"),
        ({"edits": ["tts"]}, ValueError, "nothing can be learnt"),
        ({"device": "cuda:9"}, ValueError, "device='cuda:9'"),
    ],
)
def test_bad_parameters_are_named(clips, parameters, error, message, monkeypatch):
    monkeypatch.setattr(DetectorTrainer, "train", None)  # All are told before any work.
    with pytest.raises(error, match=message):
        VoiceEditDetector(**({"model": "features", "n_clips": 10} | parameters)).fit(clips[:3])


def test_a_hop_that_leaves_something_out_is_refused_later_too(detector, clips):
    with pytest.raises(ValueError, match=r"hop=2\.0 must be at least 0\.01 and at most 1\.2"):
        copy.copy(detector).set_params(hop=2.0).predict(clips[:1])


def test_bad_clips_and_truths_are_named(clips):
    detector = VoiceEditDetector(EDITS, model="features", **TINY)
    with pytest.raises(TypeError, match=r"X='a.wav' is one path. Wrap it in a list"):
        detector.fit("a.wav")
    with pytest.raises(ValueError, match="X is one waveform, of 24000 samples"):
        detector.fit(clips[0][:24000])
    with pytest.raises(ValueError, match="X is one waveform, of 24000 samples"):
        detector.fit(torch.from_numpy(clips[0][:24000]))
    with pytest.raises(ValueError, match="silent"):
        detector.fit([clips[0], np.zeros(20000)])
    with pytest.raises(ValueError, match="y has the label 'robot'"):
        detector.fit(clips, [{"robot"}] * 12)
    with pytest.raises(ValueError, match="y has 2 columns, but edits name 3 labels"):
        detector.fit(clips, np.zeros((12, 2), int))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        detector.fit(clips, ["a", "b"])
    with pytest.raises(NotFittedError):
        detector.predict(clips)


def test_a_failed_fit_leaves_nothing(clips):
    detector = VoiceEditDetector(EDITS, model="features", **TINY).fit(clips[:4])
    with pytest.raises(ValueError, match="silent"):
        detector.fit([np.zeros(20000)])
    with pytest.raises(NotFittedError):
        detector.predict(clips)


def test_parameters_that_are_data_travel(clips, tmp_path):
    noises = pd.DataFrame({"path": [tmp_path / "n.wav"]})
    soundfile.write(tmp_path / "n.wav", clips[0], RATE)
    edits = {"echo": "held_out", "background_noise": "train"}
    detector = VoiceEditDetector(edits, model="features", noises=noises, **TINY | {"n_clips": 20}).fit(clips[:4])
    mmestim.save(detector, tmp_path / "m.mme")
    loaded = mmestim.load(tmp_path / "m.mme", device="cpu")
    assert loaded.edits == edits
    assert loaded.noises is None
    assert "noises = 'DataFrame'" in mmestim.persistence.describe(tmp_path / "m.mme")


def test_report_is_json(clips):
    detector = VoiceEditDetector(EDITS, model="features", **TINY).fit(clips[:4])
    assert json.loads(json.dumps(detector.training_report_))["n_clips"] == 4


COLUMNS = "columns of an indicator matrix are those of the edits that are learnt"
EXPECTED_FAILURES = {
    "check_estimators_dtypes": "int64 has no full scale, so no audio is of it",
    "check_classifier_data_not_an_array": "int64 has no full scale, so no audio is of it",
    "check_classifiers_train": "clips of two samples have no spectrum to learn from",
    "check_classifiers_multilabel_representation_invariance": COLUMNS,
    "check_classifiers_multilabel_output_format_predict": COLUMNS,
    "check_classifiers_multilabel_output_format_predict_proba": COLUMNS,
    "check_classifiers_multilabel_output_format_decision_function": COLUMNS,
    "check_fit_check_is_fitted": "two samples that are nearly the same are a silent clip",
}


@parametrize_with_checks(
    [
        VoiceEditDetector(model="features", window=0.35, random_state=0),
        VoiceEditDetector(model="lcnn", window=0.35, training_budget=0.002, random_state=0),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_estimator_checks(estimator, check):
    check(estimator)
