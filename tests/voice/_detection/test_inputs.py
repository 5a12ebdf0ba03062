"""Clips, speakers and ground truth in the forms that a detector accepts."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

from mmestim.voice import LABELS, AudioCorpus, EditSimulator, VoiceEditDetector
from mmestim.voice._detection.inputs import resolve_ground_truth

RATE = 16000


def test_unreadable_clips(clips, tmp_path, edits, tiny):
    """They may be skipped in training, but predictions need every clip."""
    (tmp_path / "b.wav").write_text("no audio")
    corpus = AudioCorpus([*clips, tmp_path / "b.wav"], on_error="skip")
    detector = VoiceEditDetector(edits, model="features", **tiny).fit(corpus)
    assert [item.index for item in corpus.skipped] == [12]
    with pytest.raises(ValueError, match=r"b\.wav: is not audio"):
        detector.predict(corpus)
    assert 0 <= detector.score(corpus) <= 1


def test_all_forms_of_clips(clips, tmp_path, edits, tiny):
    detector = VoiceEditDetector(edits, model="features", **tiny).fit(clips)
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
    fitted = VoiceEditDetector(edits, model="features", **tiny).fit(table)
    assert fitted.n_features_in_ == 24000
    assert_array_equal(fitted.predict_proba(table[:2]), fitted.predict_proba(list(table[:2])))
    with pytest.raises(ValueError, match=r"has 20000 features, but VoiceEditDetector is expecting 24000 .* list of"):
        fitted.predict(table[:, :20000])
    fitted.fit(AudioCorpus(clips))
    assert not hasattr(fitted, "n_features_in_")
    assert fitted.predict(table[:2, :20000]).shape == (2, 4)
    half = VoiceEditDetector(edits, model="features", sample_rate=8000, **tiny).fit(clips)
    assert_allclose(half.predict_proba_per_window([clips[0][::2]])[0][0][-1, 1], len(clips[0]) / RATE, atol=1e-4)


def test_all_forms_of_ground_truth(clips, edits, tiny):
    waveforms, records = EditSimulator(edits, n_edits=(0, 2), random_state=0).simulate(clips * 3)
    by_record = VoiceEditDetector(model="features", **tiny).fit(waveforms, records)
    assert by_record.labels_.tolist() == ["unaltered", *edits]
    assert by_record.score(waveforms, records) > 0.8
    sets = [set(record.labels) for record in records]
    by_set = VoiceEditDetector(model="features", **tiny).fit(waveforms, sets)
    assert by_set.labels_.tolist() == ["unaltered", *edits]
    matrix = np.array([[label in labels for label in edits] for labels in sets], dtype=int)
    by_matrix = VoiceEditDetector(edits, model="features", **tiny).fit(waveforms, matrix)
    assert_array_equal(by_matrix.predict_proba(waveforms[:3]), by_set.predict_proba(waveforms[:3]))
    for y in (records, sets, matrix):
        assert by_matrix.score(waveforms, y) > 0.8


def test_columns_of_a_matrix_are_labels():
    """By their names, or in the order of the taxonomy; labels that no clip has are left out."""
    rows = [{"cut"}, {"echo"}, {"cut", "echo"}, set()]
    named = pd.DataFrame({label: [int(label in row) for row in rows] for label in ("echo", "tts", "cut")})
    full = np.array([[label in (row or {"unaltered"}) for label in LABELS] for row in rows], int)
    pair = named[["cut", "echo"]].to_numpy()
    orders = [["cut", "echo"], LABELS[1:]]
    with_tts = [["tts", "cut", "echo"], LABELS[1:]]
    for y, column_orders in [
        (named, orders),
        (full, orders),
        (full[:, 1:], orders),
        (pair, orders),
        (csr_matrix(pair), orders),
        (np.column_stack([pair.max(axis=1) == 0, pair]), orders),
        (named[["tts", "cut", "echo"]].to_numpy(), with_tts),
    ]:
        truth = resolve_ground_truth(y, 4, column_orders)
        assert truth.labels == ["cut", "echo"]
        assert [indicators.tolist() for indicators in truth.clips] == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert resolve_ground_truth(named[["cut"]], 4, orders).labels == ["cut"]
    with pytest.raises(ValueError, match=r"edits=\['echo', 'cut'\] are not in the order .* Pass a DataFrame"):
        resolve_ground_truth(pair, 4, [["echo", "cut"], LABELS[1:]])
    with pytest.raises(ValueError, match="y has the column 'robot', which is no label"):
        resolve_ground_truth(named.rename(columns={"tts": "robot"}), 4, orders)
    with pytest.raises(ValueError, match="y has the column 'cut' twice"):
        resolve_ground_truth(named[["cut", "cut"]], 4, orders)
    # The number of columns fits two orders.
    with pytest.raises(ValueError, match="columns without names, which could be"):
        resolve_ground_truth(full[:, 1:], 4, [LABELS[1:-1], LABELS[1:]])
    for contradiction in (full | (np.arange(len(LABELS)) == 0), [{"cut"}, {"echo"}, {"cut", "unaltered"}, set()]):
        with pytest.raises(ValueError, match="as both 'unaltered' and edited"):
            resolve_ground_truth(contradiction, 4, orders)
    with pytest.raises(ValueError, match="marks clip 3 as neither 'unaltered' nor"):
        resolve_ground_truth(full * (np.arange(len(LABELS)) > 0), 4, orders)


def test_groups_are_speakers(clips, edits, tiny):
    groups = np.repeat(["a", "b", "c"], 4)
    corpus = AudioCorpus(clips)
    corpus.speakers = groups
    one = VoiceEditDetector(edits, model="features", **tiny).fit(clips, groups=groups)
    assert one.training_report_["n_speakers"] == 3
    other = VoiceEditDetector(edits, model="features", **tiny).fit(corpus)
    assert other.training_report_["n_speakers"] == 3
    with pytest.raises(ValueError, match="inconsistent"):
        VoiceEditDetector(edits, model="features", **tiny).fit(clips, groups=groups[:5])


def test_invalid_clips_and_ground_truths_are_named(clips, edits, tiny):
    detector = VoiceEditDetector(edits, model="features", **tiny)
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
