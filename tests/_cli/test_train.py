"""Training from the command line."""

import pickle
import re

import pytest
import soundfile

from mmestim.__main__ import main

RATE = 16000


def test_training_from_the_command_line(tmp_path, capsys, monkeypatch, make_noise):
    saved = {}
    monkeypatch.setattr("mmestim.persistence.save", lambda detector, path: saved.update({path: detector}))
    clean, noises = tmp_path / "clean", tmp_path / "noises"
    for recordings in (clean, noises):
        recordings.mkdir()
    for seed in range(6):
        soundfile.write(clean / f"{seed}.wav", make_noise(1.4, seed), RATE)
    soundfile.write(noises / "n.wav", make_noise(2, 70), RATE)
    (clean / "bad.wav").write_text("no audio")
    target = str(tmp_path / "m.mme")
    words = "--window 1.2 --model features --n-clips 30 --edits low_pass background_noise --seed 3".split()
    assert main(["train", str(clean), "-o", target, *words, "--noises", str(noises)]) == 0
    out, err = capsys.readouterr()
    assert "Trained on 6 clips, each counted as a separate speaker" in out
    assert "low_pass" in out
    assert "It does not test for tts, vc, cut" in out
    assert "1 of 7 files cannot be used:" in err
    stages = [line.split(maxsplit=1)[1] for line in err.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    begins = [
        "reading 7 files",
        "simulating 30 clips",
        "computing the statistics",
        "fitting trees",
        "calibrating",
        "writing",
    ]
    assert [stage.startswith(begin) for stage, begin in zip(stages, begins, strict=True)] == [True] * 6
    detector = saved[target]
    assert detector.get_params()["random_state"] == 3
    assert detector.labels_.tolist() == ["unaltered", "low_pass", "background_noise"]
    assert pickle.loads(pickle.dumps(detector)).noises == str(noises)


def test_a_model_from_the_command_line_can_scan(tmp_path, capsys, make_noise, add_echo):
    clean = tmp_path / "clean"
    clean.mkdir()
    for seed in range(6):
        soundfile.write(clean / f"{seed}.wav", make_noise(1.4, seed), RATE)
    soundfile.write(tmp_path / "edited.wav", add_echo(make_noise(3, 51)), RATE)
    target = str(tmp_path / "m.mme")
    words = "--window 1.2 --model features --n-clips 60 --edits low_pass echo --seed 0".split()
    assert main(["train", str(clean), "-o", target, *words]) == 0
    assert "Trained on 6 clips, each counted as a separate speaker" in capsys.readouterr().out
    assert main(["scan", str(tmp_path / "edited.wav"), "--model", target, "--device", "cpu"]) == 4
    assert "\tprocessing only\tprocessing: echo " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model", "cnn"], "model='cnn' is not supported"),
        (["--edits", "lowpass"], "edits has 'lowpass'"),
    ],
)
def test_training_checks_its_options_before_reading_files(tmp_path, capsys, monkeypatch, words, message, make_noise):
    soundfile.write(tmp_path / "0.wav", make_noise(1.4, 0), RATE)
    monkeypatch.setattr("mmestim.voice.AudioCorpus", None)
    assert main(["train", str(tmp_path), "-o", str(tmp_path / "m.mme"), *words]) == 2
    assert message in capsys.readouterr().err


def test_an_unwritable_model_is_reported_before_training(tmp_path, capsys):
    assert main(["train", str(tmp_path), "-o", str(tmp_path / "nowhere" / "m.mme")]) == 2
    assert "does not exist" in capsys.readouterr().err
