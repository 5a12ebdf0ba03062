"""Saving, loading and pickling of detectors."""

import copy
import hashlib
import pickle

import pandas as pd
import pytest
import soundfile
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone

import mmestim
from mmestim._serialization.model_file import ModelFile, write_model_file
from mmestim.voice import VoiceEditDetector
from mmestim.voice.networks import SSLNet
from mmestim.voice.pretrained.build import forget_durations

RATE = 16000


def test_saved_detectors_predict_the_same(detector, clips, tmp_path):
    mmestim.save(detector, tmp_path / "m.mme")
    loaded = mmestim.load(tmp_path / "m.mme", device="cpu")
    assert_array_equal(loaded.predict_proba(clips), detector.predict_proba(clips))
    assert_array_equal(loaded.transform(clips), detector.transform(clips))
    assert loaded.locate(clips) == detector.locate(clips)
    assert loaded.labels_.tolist() == detector.labels_.tolist()
    assert_array_equal(loaded.recalls_, detector.recalls_)
    lines = [line.split(maxsplit=1) for line in mmestim.persistence.describe(tmp_path / "m.mme").splitlines()]
    assert ["labels", "['cut', 'low_pass', 'echo']"] in lines
    assert ["n_speakers", "12"] in lines  # of the training report


def test_pretrained_weights(clips, tmp_path, edits, tiny):
    """They are needed for the fit alone; the saved detector has its own weights."""
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
    pretrained = SSLNet(1, config=config).backbone.state_dict()
    torch.save(pretrained, tmp_path / "speech.pt")
    (tmp_path / "config.json").write_text('{"num_attention_heads": 4}')
    detector = VoiceEditDetector(edits, model="ssl", weights=tmp_path / "speech.pt", **tiny).fit(clips)
    mmestim.save(detector, tmp_path / "m.mme")
    (tmp_path / "speech.pt").unlink()
    loaded = mmestim.load(tmp_path / "m.mme", device="cpu")
    assert_array_equal(loaded.predict_proba(clips[:2]), detector.predict_proba(clips[:2]))
    with pytest.raises(ValueError, match="needs weights="):
        loaded.fit(clips)
    torch.save(pretrained, tmp_path / "speech.pt")
    tuned = clone(detector).set_params(fine_tune=True).fit(clips)
    for fitted, low, high in ((detector, 0, 0), (tuned, 1e-6, 1e-4)):
        weights = fitted.models_[1.2].model.networks["ssl"].backbone.state_dict()
        change = max((weights[name] - value).abs().max().item() for name, value in pretrained.items())
        assert low <= change <= high


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
def test_invalid_files_are_rejected(clips, tmp_path, name, spoil, edits, tiny):
    detector = VoiceEditDetector(edits, model="features", **tiny | {"n_clips": 20}).fit(clips[:4])
    mmestim.save(detector, tmp_path / "m.mme")
    with ModelFile(tmp_path / "m.mme") as file:
        fields, tensors = file.fields, file.read()
    tensors[name] = spoil(tensors.get(name))
    write_model_file(tmp_path / "m.mme", fields, tensors, "0.1.0")
    with pytest.raises(ValueError, match="cannot be loaded: it"):
        mmestim.load(tmp_path / "m.mme")


def test_the_base_rate_of_unedited_windows_is_saved(clips, tmp_path, edits, tiny):
    detector = VoiceEditDetector(edits, model="features", **tiny | {"n_clips": 20}).fit(clips[:4])
    mmestim.save(detector, tmp_path / "m.mme")
    prior = detector.analyze(clips[:1])[0].prior
    assert 0 < prior < 1
    assert mmestim.load(tmp_path / "m.mme").analyze(clips[:1])[0].prior == prior


def test_detectors_whose_windows_were_prepared_otherwise_are_refused(detector, tmp_path, monkeypatch):
    monkeypatch.setattr("mmestim.voice._detection.saved_detector.PREPARATION", 1)
    mmestim.save(detector, tmp_path / "m.mme")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="detector of another release, which prepared windows in another way"):
        mmestim.load(tmp_path / "m.mme")


def test_detectors_of_a_missing_device_predict_on_the_cpu(detector, clips):
    from_gpu = copy.copy(detector)
    from_gpu.device_ = "cuda:63"
    with pytest.warns(UserWarning, match="fitted on cuda:63, which this machine does not have"):
        loaded = pickle.loads(pickle.dumps(from_gpu))
    assert loaded.device_ == "cpu"
    assert_array_equal(loaded.predict_proba(clips), detector.predict_proba(clips))


def test_parameters_that_are_data_are_saved(clips, tmp_path, tiny):
    noises = pd.DataFrame({"path": [tmp_path / "n.wav"]})
    soundfile.write(tmp_path / "n.wav", clips[0], RATE)
    edits = {"echo": "held_out", "background_noise": "train"}
    detector = VoiceEditDetector(edits, model="features", noises=noises, **tiny | {"n_clips": 20}).fit(clips[:4])
    mmestim.save(detector, tmp_path / "m.mme")
    loaded = mmestim.load(tmp_path / "m.mme", device="cpu")
    assert loaded.edits == edits
    assert loaded.noises is None
    assert "noises  'DataFrame'" in mmestim.persistence.describe(tmp_path / "m.mme")


def test_two_trainings_with_a_seed_are_saved_as_the_same_file(clips, edits, tiny, tmp_path):
    digests = set()
    for n_jobs in (1, 2):
        detector = VoiceEditDetector(edits, model="hybrid", n_jobs=n_jobs, device="cpu", **tiny).fit(clips)
        detector.set_params(n_jobs=None)
        forget_durations(detector)
        mmestim.save(detector, tmp_path / "detector.mme")
        digests.add(hashlib.sha256((tmp_path / "detector.mme").read_bytes()).hexdigest())
    assert len(digests) == 1
