"""Audio that the pretrained detector is trained on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmestim.voice.pretrained import synthesis, training_audio


def test_rejoined_clips_are_complete_and_speakers_do_not_overlap(data_folder, tmp_path):
    speech = data_folder / "speech"
    train, val = (training_audio.rejoin_utterances(speech, tmp_path, split, n_speakers=3) for split in ("train", "val"))
    assert len(set(train.speakers)) == len(set(val.speakers)) == 3
    assert not set(train.speakers) & set(val.speakers)
    first = np.flatnonzero(val.speakers == val.speakers[0])
    pieces = sorted(speech.glob(f"audio/val/{Path(val.paths[0]).stem.rpartition('_')[0]}_*.flac"))
    utterance = np.concatenate([soundfile.read(piece, dtype="float32")[0] for piece in pieces])
    np.testing.assert_array_equal(np.concatenate([val[number] for number in first]), utterance)


def test_a_gap_between_pieces_is_refused(tmp_path):
    rows = [
        "file,speaker,utterance,piece,start_s,end_s,duration_s,split",
        "a.flac,1,u,0,0,4,4,train",
        "b.flac,1,u,1,5,9,4,train",
    ]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match="gap between the pieces"):
        training_audio.rejoin_utterances(tmp_path, tmp_path / "out", "train")


def test_sentences_are_reproducible_and_differ_between_synthesizers():
    assert synthesis.sentences(5, 0) == synthesis.sentences(5, 0)
    assert not set(synthesis.sentences(60, 0)) & set(synthesis.sentences(60, 1))
    assert all("{" not in text and text[0].isupper() for text in synthesis.sentences(200, 2))


def test_held_out_synthesizers_and_sentences_are_not_in_training(data_folder, tmp_path, monkeypatch):
    """One synthesizer of each kind is held out, if there is another; and speech is not written twice."""
    spoken = []

    def speak(text, seed, path):
        spoken.append((text, seed))
        soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 16_000), 16_000)

    systems = {name: each._replace(speak=speak) for name, each in synthesis.synthesizers().items()}
    kinds = [each.kind for each in systems.values()]
    for kind in set(kinds):
        is_held_out = [each.is_held_out for each in systems.values() if each.kind == kind]
        assert not all(is_held_out)
        assert any(is_held_out) == (kinds.count(kind) > 1)
    monkeypatch.setattr(training_audio, "synthesizers", lambda: systems)
    monkeypatch.setattr(training_audio, "N_SENTENCES", 3)
    monkeypatch.setattr(training_audio, "N_TRAINING_SENTENCES", 2)
    monkeypatch.setattr(training_audio, "resynthesize", lambda waveform, rate: waveform)
    audio = training_audio.prepare(data_folder, tmp_path)
    assert len(spoken) == len(set(spoken)) == 3 * len(systems)
    voices = [speaker for speaker in audio.synthetic.speakers if not speaker.startswith("vocoded ")]
    assert sorted(voices) == sorted(2 * [name for name, each in systems.items() if not each.is_held_out])
    assert len(audio.synthetic) - len(voices) == len(set(audio.speech.speakers))
    assert {Path(path).name[:3] for path in audio.noises} == {"sc_"}
    training_audio.prepare(data_folder, tmp_path)
    assert len(spoken) == 3 * len(systems)
